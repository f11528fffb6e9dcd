"""Small dump folders for campaigns: what they are made of, how scripts run on them, what of their files is compared."""

import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import graphs
import numpy as np
from conftest import REPO_ROOT

from mhcln.storage import layout
from mhcln.storage.files import PART

PER_CLASS = 8
PAUSE = 0.004  # seconds between two looks at a dump folder
TRAINING = ("--BATCH_SIZE=9", "--save_seconds=0")
_TIMES = {"search_seconds", "training_seconds"}


def command(script: str, *flags: object) -> list[str]:
    """Return the command line of a script."""
    return [sys.executable, str(REPO_ROOT / script), *map(str, flags)]


def draw_images(folder: Path, class_names: Sequence[str], seed: int) -> Path:
    """Draw images of random colours, so that no network finds the classes and metrics differ; return the folder."""
    random = np.random.default_rng(seed)
    for name in class_names:
        (folder / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            (folder / name / f"{number}.jpg").write_bytes(graphs.random_jpeg(random, 40, 50))
    return folder


def mistake(status: int, errors: str) -> str | None:
    """Return what is wrong with how a script ended: neither well nor with one line about a user's mistake.

    An error of the operating system is one line too, but no mistake of a user here.
    """
    lines = [line for line in errors.splitlines() if not line.startswith("warning: ")]
    good = (status, len(lines)) in ((0, 0), (2, 1)) and "nothing half-written was left" not in errors
    return None if good else f"exit status {status}, stderr: {errors}"


def wait(process: subprocess.Popen, dump_dir: Path, seconds: float | None, changes: int | None) -> None:
    """Wait so many seconds or for so many changes of a dump folder, but not longer than a process runs."""
    if seconds is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    for _ in itertools.islice(changes_during(process, dump_dir), changes or 0):
        pass


def changes_during(process: subprocess.Popen, dump_dir: Path) -> Iterator[None]:
    """Yield whenever files of a dump folder are seen to have changed, until a process ends."""
    before = _state(dump_dir)
    while process.poll() is None:
        time.sleep(PAUSE)
        now = _state(dump_dir)
        if now != before:
            before = now
            yield


def _state(folder: Path) -> set[tuple[str, str, int, int]]:
    found = set()
    for parent, _folders, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                status = Path(parent, name).stat()
                found.add((parent, name, status.st_mtime_ns, status.st_size))
    return found


def leftovers(dump_dir: Path) -> list[str]:
    """Return the names of unfinished files and of part-work in a dump folder."""
    found = [*dump_dir.rglob(PART + "*"), *dump_dir.glob(layout.PARTIAL_FEATURES)]
    return sorted(str(path.relative_to(dump_dir)) for path in found)


def contents(dump_dir: Path) -> dict[str, object]:
    """Return what each file of a dump folder holds, without times and what depends on them."""
    files = (path for path in sorted(dump_dir.rglob("*")) if path.is_file())
    return {str(path.relative_to(dump_dir)): _content(path) for path in files}


def _content(path: Path) -> object:
    if path.suffix == ".json":
        value = {key: inner for key, inner in json.loads(path.read_text()).items() if key not in _TIMES}
        del value["checksum"]
        if value.get("outcome"):  # of run.json
            del value["outcome"]["seconds"], value["outcome"]["files"][layout.MODEL]
        for entry in value["files"] if path.name == layout.ARCHIVE_LIST else ():
            del entry["changed"]
        return value
    if path.suffix == ".keras":  # without the metadata, which hold the date
        with zipfile.ZipFile(path) as members:
            return {name: members.read(name) for name in ("config.json", "model.weights.h5")}
    if path.parent.name == layout.CHECKPOINTS:
        with np.load(io.BytesIO(path.read_bytes())) as arrays:
            return {name: arrays[name].tobytes() for name in arrays.files if name not in ("seconds", "checksum")}
    return path.read_bytes()
