"""Two processes of any two scripts on one dump folder: each ends well or is refused, and every file tells the truth.

MHCLN_CAMPAIGN says how many pairs are run; the default keeps the test short. Actions and offset depend on
MHCLN_CAMPAIGN_SEED and the number of the pair; what the processes do to each other also depends on the machine.
"""

import contextlib
import dataclasses
import itertools
import os
import random
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from conftest import run_here
from dumps import TRAINING, command, mistake, wait
from truth import Known, untrue

from mhcln.storage import layout
from mhcln.storage.features import read_image_table
from mhcln.storage.split import read_split

CAMPAIGN = int(os.environ.get("MHCLN_CAMPAIGN", "2"))
SEED = os.environ.get("MHCLN_CAMPAIGN_SEED", "0")
MOST_FAILURES = 40
LONGEST_OFFSET = 4.0  # seconds; TensorFlow takes three to load
LONGEST_OFFSET_OF_QUICK = 0.4  # after an action that does without TensorFlow
QUICK = ("split", "evaluate", "table")
MOST_CHANGES = 10  # of the dump folder by one action
LONGEST_STOP = 20  # seconds, after which the second is waiting for the first: two queries take turns
LIMIT = 300  # seconds
IMAGES = {"a": ("beach", "forest", "harbor"), "b": ("beach", "forest", "harbor"), "c": ("beach", "river")}
SEEDS = (0, 1)
EXTRACT = ("extract_features.py", "--model_dir={root}/model", "--batch_size=4")
TRAIN = ("trainer.py", *TRAINING)
ACTIONS = {
    **{f"extract {name}": (*EXTRACT, f"--images_dir={{root}}/images_{name}") for name in IMAGES},
    **{f"split {seed}": ("dataset_generator.py", "--train_test_split=0.5", f"--seed={seed}") for seed in SEEDS},
    "train on": (*TRAIN, "--HASH_BITS=8", "--ITERS=200"),
    "train another": (*TRAIN, "--HASH_BITS=8", "--ITERS=100", "--run_name=another"),
    "sweep": (*TRAIN, "--HASH_BITS=8,12", "--ITERS=100"),
    "evaluate": ("eval.py", "--k=5", "--interval=4", "--run_name=K8"),
    "table": ("eval.py", "--k=5", "--table"),
    "query": ("eval.py", "--k=5", "--query={root}/images_a/beach/0.jpg", "--run_name=K8"),
    "add": ("eval.py", "--add={dump}", "--run_name=K8"),
}
MADE = {  # by an action that ends well
    "train another": "another/run.json",
    "sweep": "K12/run.json",
    "evaluate": "K8/report.html",
    "table": "table.csv",
    "query": "K8/queries/query_0.png",
    "add": "K8/archives/shards/*.npz",
}


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> Known:
    return Known.make(tmp_path_factory.mktemp("known"), IMAGES, SEEDS)


@pytest.fixture(scope="module")
def start(known) -> Path:
    """The dump folder that each pair of processes finds: features a, split 0, and a run that can be trained on."""
    folder = shutil.copytree(known.root / "a0", known.root / "start")
    run_here(*TRAIN, "--HASH_BITS=8", "--ITERS=100", f"--dump_dir={folder}")
    return folder


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two actions, and when the second begins.

    Attributes:
        actions: Their names.
        seconds: So long after the first.
        changes: So many changes of the dump folder after the first; None, as `seconds`, if the other counts.
        stops: Whether the first stands still while the second runs.
    """

    actions: tuple[str, str]
    seconds: float | None
    changes: int | None
    stops: bool

    @classmethod
    def draw(cls, rng: random.Random) -> "Pair":
        actions = rng.choice(list(ACTIONS)), rng.choice(list(ACTIONS))
        longest = LONGEST_OFFSET_OF_QUICK if actions[0].startswith(QUICK) else LONGEST_OFFSET
        seconds, changes = rng.uniform(0, longest), rng.randint(1, MOST_CHANGES)
        stops, by_changes = rng.random() < 0.5, rng.random() < 0.5
        return cls(actions, None, changes, stops) if stops and by_changes else cls(actions, seconds, None, stops)

    def run(self, root: Path, dump_dir: Path) -> list[tuple[int, str]]:
        """Run both in a dump folder; return exit status and stderr of each."""
        lines = [[word.format(root=root, dump=dump_dir) for word in ACTIONS[action]] for action in self.actions]
        with started(lines[0], dump_dir) as first:
            wait(first, dump_dir, self.seconds, self.changes)
            if self.stops:
                first.send_signal(signal.SIGSTOP)
            with started(lines[1], dump_dir) as second:
                if self.stops:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        second.wait(LONGEST_STOP)
                    first.send_signal(signal.SIGCONT)
                return [ended(first), ended(second)]


def started(words: list[str], dump_dir: Path) -> subprocess.Popen:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command(*words, f"--dump_dir={dump_dir}"), text=True, errors="replace", **pipes)


def ended(process: subprocess.Popen) -> tuple[int, str]:
    with contextlib.suppress(subprocess.TimeoutExpired):
        _, errors = process.communicate(timeout=LIMIT)
        return process.returncode, errors
    process.kill()
    return process.wait(), f"it ran longer than {LIMIT} seconds"


def test_two_processes_at_a_time_leave_files_that_tell_the_truth(known, start, tmp_path):
    ends: Counter[str] = Counter()
    failures = []
    for number in range(CAMPAIGN):
        pair = Pair.draw(random.Random(f"{SEED} {number}"))
        dump_dir = shutil.copytree(start, tmp_path / f"pair_{number}")
        found = pair.run(known.root, dump_dir)
        for action, (status, errors) in zip(pair.actions, found, strict=True):
            ends[f"{action}: {status} {errors.replace(str(dump_dir), '')}".strip()] += 1
        wrong = [*filter(None, itertools.starmap(mistake, found)), *untrue(known, start, dump_dir)]
        wrong += undone(pair, found, dump_dir)
        if not wrong:
            shutil.rmtree(dump_dir)
            continue
        failures.append(f"pair {SEED} {number}, {pair}: {wrong}; ends: {found}")
        assert len(failures) < MOST_FAILURES, "\n\n".join(failures)
    print(*(f"{count:4} {end}" for end, count in sorted(ends.items())), sep="\n")  # shown by `pytest -rP`
    assert not failures, "\n\n".join(failures)
    assert ends.total() == 2 * CAMPAIGN


def undone(pair: Pair, found: list[tuple[int, str]], dump_dir: Path) -> list[str]:
    """Return which actions ended well, but have left nothing."""
    done = [action for action, (status, _errors) in zip(pair.actions, found, strict=True) if status == 0]
    lost = [action for action in done if action in MADE and not list(dump_dir.glob(MADE[action]))]
    extracted = [action.split()[1] for action in done if action.startswith("extract")] or ["a"]
    if Path(read_image_table(dump_dir).images_dir).name not in {f"images_{name}" for name in extracted}:
        lost.append("extract")
    drawn = [int(action.split()[1]) for action in done if action.startswith("split")] or [0]
    if read_split(dump_dir / layout.SPLIT).seed not in drawn:
        lost.append("split")
    return lost
