"""What an extraction computes: which files, as they are now, by which backbone, in which batches."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.storage.image_table import ImageTable


@dataclasses.dataclass(frozen=True)
class ExtractionJob:
    """Everything that the features of an extraction depend on.

    Attributes:
        images_dir: Folder of the images, absolute.
        paths: Path of each image, relative to `images_dir`.
        stamps: `[n, 3] int64`: size, time of change and time of status change of each file in bytes and nanoseconds,
            -1 for a file that does not exist. They differ if another image has taken a file's name.
        extractor: The backbone and its settings.
        batch_size: Images per batch.
        first: Row of the first image; above 0 in a part that a worker computes.
    """

    images_dir: str
    paths: list[str]
    stamps: NDArray[np.int64]
    extractor: str
    batch_size: int
    first: int = 0

    @classmethod
    def of_files(cls, images_dir: Path, paths: list[str], extractor: str, batch_size: int) -> ExtractionJob:
        """Describe the extraction of these files as they are now."""
        stamps = np.array([stamp(f"{images_dir}{os.sep}{path}") for path in paths], np.int64).reshape(-1, 3)
        return cls(str(images_dir.absolute()), paths, stamps, extractor, batch_size)

    @property
    def batches(self) -> int:
        """Number of batches."""
        return -(-len(self.paths) // self.batch_size)

    def rows(self, batch: int) -> range:
        """Return the row numbers of a batch; its borders depend on nothing but the batch size."""
        return range(batch * self.batch_size, min((batch + 1) * self.batch_size, self.first + len(self.paths)))

    def path(self, row: int) -> str:
        """Return the path of a row."""
        return self.paths[row - self.first]

    def batch(self, batch: int) -> ExtractionJob:
        """Return the part of the job that is one batch, of the same rows."""
        rows = self.rows(batch)
        here = slice(rows.start - self.first, rows.stop - self.first)
        return dataclasses.replace(self, paths=self.paths[here], stamps=self.stamps[here], first=rows.start)

    def part(self, rows: list[int]) -> ExtractionJob:
        """Return the extraction of some of these images."""
        return dataclasses.replace(self, paths=[self.paths[row] for row in rows], stamps=self.stamps[rows])

    def key(self, rows: range | None = None) -> str:
        """Return a checksum of what decides the features of these rows (all if None), in this order and batch size."""
        rows = range(self.first, self.first + len(self.paths)) if rows is None else rows
        files = [[self.path(row), *self.stamps[row - self.first].tolist()] for row in rows]
        content = json.dumps([self.images_dir, self.extractor, self.batch_size, *files])
        return hashlib.sha256(content.encode()).hexdigest()


def stamp(path: str | Path) -> tuple[int, int, int]:
    """Return size, time of change and time of status change of a file, -1 for each if it cannot be found."""
    try:
        status = os.stat(path)  # noqa: PTH116  # to make a Path takes three times as long as this
    except OSError:  # reading the image will report it
        return -1, -1, -1
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def unchanged_rows(images: ImageTable, job: ExtractionJob) -> dict[str, int]:
    """Return the rows, by path, of the images that were extracted from files as they are in a job.

    A file of the same size and time of change, but of another time of status change, is read and compared by its
    checksum: `chmod` and a new hard link change that time, and so does another file that takes the name.

    Args:
        images: The table of an earlier extraction.
        job: What is to be extracted.
    """
    if (images.images_dir, images.extractor) != (job.images_dir, job.extractor) or not len(images.stamps):
        return {}
    stamp_of = dict(zip(job.paths, job.stamps.tolist(), strict=True))
    rows = {}
    for row, (path, then) in enumerate(zip(images.paths, images.stamps.tolist(), strict=True)):
        now = stamp_of.get(path)
        if now is None or now[:2] != then[:2]:
            continue
        if now == then or (len(images.checksums) and _checksum(Path(job.images_dir, path)) == images.checksums[row]):
            rows[str(path)] = row
    return rows


def _checksum(path: Path) -> int | None:
    try:
        return zlib.crc32(path.read_bytes())
    except OSError:  # reading the image will report it
        return None
