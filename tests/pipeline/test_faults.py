"""Every write fails in turn: the old file is intact or the new one whole, and the same command ends well afterwards.

MHCLN_FAULTS=all tries every one; without it one of each kind is tried, to keep the tests short.
"""

import contextlib
import errno
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import run_here
from faults import failing

from mhcln.console import UserError
from mhcln.storage.checkpoints import STATE
from mhcln.storage.files import PART, read_npz
from mhcln.storage.text_files import read_json

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
ALL = os.environ.get("MHCLN_FAULTS") == "all"
# These hold times, or are archives whose entries carry dates: they are checked to be whole, not to be equal.
TIMED = {"results.json", "results.csv", "report.html", "run.json", "model.keras"}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in TIMED | {".mhcln.lock", STATE})
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def tried(kinds: list[tuple[str, str]]) -> list[int]:
    """The numbers of the writes that are tried, of these kinds: the middle one of each."""
    places = {kind: [at for at, other in enumerate(kinds, 1) if other == kind] for kind in kinds}
    return [*range(1, len(kinds) + 1)] if ALL else [numbers[len(numbers) // 2] for numbers in places.values()]


def each_write_fails(script: str, make, *flags: str) -> int:
    """Run a script again and again with one write failing; return the number of runs."""
    expected = make()
    with failing(expected, sys.maxsize, errno.EIO) as faults:
        run_here(script, *flags, f"--dump_dir={expected}")
    new, places = contents(expected), tried(faults.kinds)
    for at in places:
        folder = make()
        old = contents(folder)
        with failing(folder, at, ERRORS[at % len(ERRORS)]) as faults, contextlib.suppress(OSError, UserError):
            run_here(script, *flags, f"--dump_dir={folder}")
        assert faults.fired
        old_or_new(old, folder, new)
        run_here(script, *flags, f"--dump_dir={folder}")  # once the disk is well again
        assert contents(folder) == new
        shutil.rmtree(folder)
    return len(places)


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
    assert each_write_fails("dataset_generator.py", copies, "--seed=1,2") > 6


def test_every_failed_write_of_eval_leaves_old_or_new_files(copies):
    assert each_write_fails("eval.py", copies, "--k=3", "--interval=8") > 15


def test_every_failed_write_of_trainer_leaves_old_or_new_files(copies):
    flags = ("--HASH_BITS=8", "--ITERS=5", "--BATCH_SIZE=6", "--save_seconds=3600")
    assert each_write_fails("trainer.py", copies, *flags) > 15


def test_every_failed_write_of_extract_features_leaves_old_or_new_files(copies, pipeline):
    flags = (f"--model_dir={pipeline / 'model'}", f"--images_dir={pipeline / 'images'}", "--batch_size=16")
    assert each_write_fails("extract_features.py", copies, *flags) > 6
