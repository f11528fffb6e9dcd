"""SIGKILL at random moments of each way to use the scripts, then the same command: files are as if nothing was killed.

MHCLN_CAMPAIGN says how many kills are made, by turns in all ways; the default is one of each way that matters most. A
moment is the n-th change of the dump folder, or by turns a share of the time that the command takes, most of which
passes before the first file is written. It depends on MHCLN_CAMPAIGN_SEED and the number of the kill.
"""

import concurrent.futures
import dataclasses
import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import graphs
import pytest
from conftest import run_here
from dumps import PAUSE, TRAINING, changes_during, command, contents, draw_images, leftovers, wait

SEED = os.environ.get("MHCLN_CAMPAIGN_SEED", "0")
MOST_FAILURES = 40  # shown
LIMIT = 300  # seconds
AT_A_TIME = 2
EXTRACT = ("extract_features.py", "--model_dir={root}/model", "--batch_size=2", "--on_error=skip")
SPLIT = ("dataset_generator.py", "--train_test_split=0.5")
TRAIN = ("trainer.py", *TRAINING)
OFTEN = {
    "extract": (*EXTRACT, "--images_dir={root}/others"),
    "hash": (*EXTRACT, "--images_dir={root}/others", "--unlabelled", "--hash_with={dump}/K8"),
    "sweep": (*TRAIN, "--HASH_BITS=8,12", "--ITERS=150"),
    "evaluate": ("eval.py", "--k=4", "--interval=3"),
}
SELDOM = {
    "split": (*SPLIT, "--seed=1,2"),
    "train": (*TRAIN, "--HASH_BITS=8", "--ITERS=300", "--run_name=another"),
    "validate": (*TRAIN, "--HASH_BITS=8", "--ITERS=300", "--validate=0.5", "--patience=2", "--run_name=another"),
    "query": ("eval.py", "--k=4", "--query={root}/images"),
    "add": ("eval.py", "--add={root}/added"),
}
CAMPAIGN = int(os.environ.get("MHCLN_CAMPAIGN", len(OFTEN)))
WAYS = {**OFTEN, **SELDOM} if len(OFTEN) < CAMPAIGN else OFTEN


@dataclasses.dataclass(frozen=True)
class Whole:
    """A command that nothing kills: how long it takes, how often the dump folder changes, what is in it at the end."""

    seconds: float
    changes: int
    contents: dict[str, object]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Images, a backbone, features to add, and in `start` the dump folder that each command finds.

    It holds what commands replace: features, splits, a run that can be trained on, its evaluation.
    """
    root = tmp_path_factory.mktemp("kills")
    graphs.write_graph(root / "model")
    draw_images(root / "images", ("beach", "forest"), seed=0)
    others = draw_images(root / "others", ("beach", "harbor"), seed=1)
    first_of_all = [
        ("added", (*EXTRACT, "--images_dir={root}/others")),
        ("start", (*EXTRACT, "--images_dir={root}/images")),
        ("start", (*SPLIT, "--seed=0,2,3")),
        ("start", (*TRAIN, "--HASH_BITS=8", "--ITERS=100")),
        ("start", ("eval.py", "--k=3", "--interval=1")),
    ]
    for dump, words in first_of_all:
        run_here(*filled(words, root, root / dump))
    (others / "beach" / "0.jpg").write_bytes(b"no image")
    return root


def filled(words: tuple[str, ...], root: Path, dump_dir: Path) -> list[str]:
    return [*(word.format(root=root, dump=dump_dir) for word in words), f"--dump_dir={dump_dir}"]


def started(line: list[str]) -> subprocess.Popen:
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run_whole(root: Path, words: tuple[str, ...], dump_dir: Path) -> Whole:
    shutil.copytree(root / "start", dump_dir)
    began = time.monotonic()
    process = started(command(*filled(words, root, dump_dir)))
    count = sum(1 for _ in changes_during(process, dump_dir))
    seconds = time.monotonic() - began
    assert (process.returncode, leftovers(dump_dir)) == (0, []), words
    return Whole(seconds, count, contents(dump_dir))


def killed(line: list[str], dump_dir: Path, whole: Whole, rng: random.Random) -> bool:
    """Start a command and kill it; return whether it was there to be killed."""
    share, pause, by_changes = rng.random(), rng.random() * 5 * PAUSE, WAYS is OFTEN or rng.random() < 0.5
    process = started(line)
    if by_changes:
        wait(process, dump_dir, None, 1 + int(share * whole.changes))
        time.sleep(pause)
    else:
        wait(process, dump_dir, share * whole.seconds, None)
    process.kill()
    return process.wait() == -signal.SIGKILL


def kill_and_repeat(
    root: Path, words: tuple[str, ...], dump_dir: Path, whole: Whole, rng: random.Random
) -> tuple[int, list[str]]:
    """Kill a command, sometimes twice, and let it end; return the number of kills, and what is wrong at the end."""
    line, kills, wanted = command(*filled(words, root, dump_dir)), 0, rng.choice((1, 1, 1, 2))
    shutil.copytree(root / "start", dump_dir)
    while kills < wanted:
        if killed(line, dump_dir, whole, rng):
            kills += 1
        else:
            shutil.rmtree(dump_dir)
            shutil.copytree(root / "start", dump_dir)
            kills = 0
    ended = subprocess.run(line, capture_output=True, text=True, errors="replace", timeout=LIMIT, check=False)
    found = contents(dump_dir)
    differing = sorted(name for name in found.keys() | whole.contents if found.get(name) != whole.contents.get(name))
    wrong = [*([] if ended.returncode == 0 else [f"exit status {ended.returncode}"]), *leftovers(dump_dir), *differing]
    if not wrong:
        shutil.rmtree(dump_dir)
    return kills, [*wrong, f"stderr: {ended.stderr}"] if wrong else []


def test_a_killed_command_repeated_leaves_the_files_of_one_that_was_not_killed(root, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        wholes = dict(zip(WAYS, pool.map(lambda way: run_whole(root, WAYS[way], tmp_path / way), WAYS), strict=True))
    turns = list(itertools.islice(itertools.cycle(WAYS), CAMPAIGN))

    def turn(number: int) -> tuple[int, list[str]]:
        way, rng = turns[number], random.Random(f"{SEED} {number}")
        return kill_and_repeat(root, WAYS[way], tmp_path / f"{way}_{number}", wholes[way], rng)

    counts: Counter[str] = Counter()
    failures = []
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        for number, (kills, wrong) in enumerate(pool.map(turn, range(CAMPAIGN))):
            counts[turns[number]] += kills
            if wrong:
                failures.append(f"kill {SEED} {number}, {turns[number]}: {wrong}")
    print(dict(counts))  # shown by `pytest -rP`
    assert not failures, "\n\n".join(failures[:MOST_FAILURES])
    assert counts.total() >= CAMPAIGN
