"""Every write fails in turn: the old file is intact or the new one whole, and the same command ends well afterwards.

MHCLN_FAULTS=all tries every one; without it every thirteenth is tried, to keep the tests short.
"""

import argparse
import errno
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import REPO_ROOT, RecordingConsole
from faults import failing

from mhcln.console import UserError
from mhcln.storage.checkpoints import STATE
from mhcln.storage.files import PART, read_npz
from mhcln.storage.text_files import read_json

sys.path.insert(0, str(REPO_ROOT))
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
STEP = 1 if os.environ.get("MHCLN_FAULTS") == "all" else 13
# These hold times, or are archives whose entries carry dates: they are checked to be whole, not to be equal.
TIMED = {"results.json", "results.csv", "report.html", "run.json", "model.keras"}


def flags_of(script, *flags: object) -> argparse.Namespace:
    return script.parser().parse_args([str(flag) for flag in flags])


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in TIMED | {".lock", STATE})
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def each_write_fails(script, make, flags) -> int:
    """Run a script with its first, second, ... write failing, until no write is left; return its number."""
    expected = make()
    script.main(flags_of(script, *flags(expected)), RecordingConsole())
    new, at = contents(expected), 1
    while True:
        folder = make()
        old = contents(folder)
        with failing(folder, at, ERRORS[at % len(ERRORS)]) as faults:
            try:
                script.main(flags_of(script, *flags(folder)), RecordingConsole())
            except (OSError, UserError):
                assert faults.fired
        old_or_new(old, folder, new)
        script.main(flags_of(script, *flags(folder)), RecordingConsole())  # once the disk is well again
        assert contents(folder) == new
        shutil.rmtree(folder)
        if not faults.fired:
            return at
        at += STEP


def old_or_new(old: dict[str, bytes], folder: Path, new: dict[str, bytes]) -> None:
    """Whatever stands under a final name is what was there before, or what a whole run writes."""
    for name, content in contents(folder).items():
        if PART not in name and ".part" not in name and "checkpoints" not in name:
            assert content in (old.get(name), new.get(name)), f"{name} is neither the old file nor the new one"
    for path in folder.rglob("checkpoints/state.npz"):
        read_npz(path, "")
    for path in folder.rglob("*.json"):
        if not path.name.startswith(PART):
            read_json(path, "")
    for path in folder.rglob("model.keras"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None


@pytest.fixture
def copies(pipeline, tmp_path):
    number = iter(range(10_000))

    def make() -> Path:
        return Path(shutil.copytree(pipeline / "dump", tmp_path / f"dump{next(number)}"))

    return make


def test_every_failed_write_of_dataset_generator_leaves_old_or_new_files(copies):
    import dataset_generator

    assert each_write_fails(dataset_generator, copies, lambda dump: ("--seed=1,2", f"--dump_dir={dump}")) > 9


def test_every_failed_write_of_eval_leaves_old_or_new_files(copies):
    import eval as evaluation

    flags = ("--k=3", "--interval=8")
    assert each_write_fails(evaluation, copies, lambda dump: (*flags, f"--dump_dir={dump}")) > 9


def test_every_failed_write_of_trainer_leaves_old_or_new_files(copies):
    import trainer

    flags = ("--HASH_BITS=8", "--ITERS=30", "--BATCH_SIZE=6", "--save_seconds=5")
    assert each_write_fails(trainer, copies, lambda dump: (*flags, f"--dump_dir={dump}")) > 20


def test_every_failed_write_of_extract_features_leaves_old_or_new_files(copies, pipeline):
    import extract_features

    flags = (f"--model_dir={pipeline / 'model'}", f"--images_dir={pipeline / 'images'}", "--batch_size=16")
    assert each_write_fails(extract_features, copies, lambda dump: (*flags, f"--dump_dir={dump}")) > 9
