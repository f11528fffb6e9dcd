"""Part-work of an extraction: each batch of features in a file of its own, until all are there."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

from mhcln.artifacts import EXTRACT
from mhcln.errors import UserError
from mhcln.files import read_npz, write_npz

FOLDER = "extract.part"
SETTINGS = "settings.npz"


@dataclasses.dataclass(frozen=True)
class Job:
    """What is extracted and how: everything that the features depend on.

    `stamps` [n, 3] int64 are size, time of change and time of status change of each file, -1 for a file that is not
    there, so that another image under the same name is noticed.
    """

    images_dir: str
    paths: list[str]
    stamps: np.ndarray
    extractor: str
    batch_size: int

    @property
    def batches(self) -> int:
        """How many batches there are."""
        return -(-len(self.paths) // self.batch_size)

    def rows(self, batch: int) -> range:
        """Row numbers of a batch; the borders depend on nothing but the batch size."""
        return range(batch * self.batch_size, min((batch + 1) * self.batch_size, len(self.paths)))

    def key(self, rows: range | None = None) -> str:
        """Checksum of what decides the features of these rows (all where None), in this order and batch size."""
        rows = range(len(self.paths)) if rows is None else rows
        content = [self.images_dir, self.extractor, self.batch_size]
        content += [[self.paths[row], *self.stamps[row].tolist()] for row in rows]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def job_of(images_dir: Path, paths: list[str], extractor: str, batch_size: int) -> Job:
    """The job of extracting these files as they are now."""
    stamps = np.array([_stamp(images_dir / path) for path in paths], np.int64).reshape(-1, 3)
    return Job(str(images_dir.absolute()), paths, stamps, extractor, batch_size)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:  # reading the image will tell
        return -1, -1, -1
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class PartWork:
    """The finished batches of a job, in a folder of `dump_dir` that is removed when the job is done."""

    def __init__(self, dump_dir: Path, job: Job) -> None:
        self.folder = dump_dir / FOLDER
        self.job = job

    def resume(self) -> tuple[dict[int, dict[int, str]], list[str]]:
        """Problems (reason by row) of each finished batch that fits the job, and lines that say what changed since.

        Everything else in the folder is removed.
        """
        changes = self._changes() if self.folder.is_dir() else []
        self.folder.mkdir(exist_ok=True)
        found = {}
        for batch in range(self.job.batches):
            with contextlib.suppress(UserError):  # missing, damaged, or of other images: made again
                found[batch] = self._read(batch)[1]
        kept = {self._path(batch).name for batch in found}
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink()
        settings = {field: getattr(self.job, field) for field in ("images_dir", "extractor", "batch_size", "stamps")}
        write_npz(self.folder / SETTINGS, {**settings, "paths": np.array(self.job.paths, np.str_)})
        return found, changes

    def save(self, batch: int, features: np.ndarray, problems: dict[int, str]) -> None:
        """Keep the features [m, d] float32 of a batch, and why some of its rows (then 0) could not be read."""
        content = {
            "key": self.job.key(self.job.rows(batch)),
            "features": features,
            "problem_rows": np.array(list(problems), np.int64),
            "problem_reasons": np.array(list(problems.values()), np.str_),
        }
        write_npz(self._path(batch), content)

    def features(self, batch: int) -> np.ndarray:
        """Features [m, d] float32 of a finished batch."""
        return self._read(batch)[0]

    def remove(self) -> None:
        """Remove the folder, where it is there."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)

    def _path(self, batch: int) -> Path:
        return self.folder / f"batch_{batch:06d}.npz"

    def _read(self, batch: int) -> tuple[np.ndarray, dict[int, str]]:
        path, rows = self._path(batch), self.job.rows(batch)
        content = read_npz(path, EXTRACT)
        if content.keys() != {"key", "features", "problem_rows", "problem_reasons"}:
            raise UserError(f"{path} is no finished batch")
        if content["key"].tolist() != self.job.key(rows) or len(content["features"]) != len(rows):
            raise UserError(f"{path} is of other images")
        problems = zip(content["problem_rows"].tolist(), content["problem_reasons"].tolist(), strict=True)
        return content["features"], dict(problems)

    def _changes(self) -> list[str]:
        try:
            old = read_npz(self.folder / SETTINGS, EXTRACT)
            images_dir, extractor, batch_size = (
                old[name].tolist() for name in ("images_dir", "extractor", "batch_size")
            )
            before = dict(zip(old["paths"].tolist(), old["stamps"].tolist(), strict=True))
        except (UserError, KeyError, ValueError):
            return ["its settings are damaged"]
        job = self.job
        now = dict(zip(job.paths, job.stamps.tolist(), strict=True))
        images = {
            "gone": [path for path in before if path not in now],
            "new": [path for path in now if path not in before],
            "changed": [path for path in now if path in before and before[path] != now[path]],
        }
        changes = [f"{len(paths)} images are {how}, first {paths[0]}" for how, paths in images.items() if paths]
        if images_dir != job.images_dir:
            changes = [f"the images were in {images_dir}"]
        if extractor != job.extractor:
            changes.append(f"the extractor was {extractor!r}, is {job.extractor!r}")
        if batch_size != job.batch_size:
            changes.append(f"the batch size was {batch_size}, is {job.batch_size}")
        return changes
