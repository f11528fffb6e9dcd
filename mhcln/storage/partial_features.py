"""Features of an unfinished extraction: each finished batch in a file of its own, until its features are written."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.files import PART
from mhcln.storage.image_info import POINTS, ImageInfo, Lonlat, lonlat_of
from mhcln.storage.image_table import NO_LONLAT
from mhcln.storage.source import Source, write_npz_content


@dataclasses.dataclass(frozen=True)
class _Batch:
    """The arrays of a finished batch, one row an image; its warnings are joined by newlines."""

    key: str
    features: NDArray[np.float32]
    checksums: NDArray[np.int64]
    errors: list[str]
    warnings: list[str]
    lonlat: NDArray[np.float64] = dataclasses.field(default_factory=NO_LONLAT.copy)


class PartialFeatures:
    """The finished batches of a job, in a folder of the dump folder that is removed when the job is done."""

    def __init__(self, dump_dir: Path, job: ExtractionJob) -> None:
        self.folder = dump_dir / layout.PARTIAL_FEATURES
        self.job = job

    def resume(self) -> tuple[dict[int, list[ImageInfo]], int]:
        """Find the finished batches of this job, and remove everything else from the folder.

        Returns:
            For each such batch the facts about its images; and the number of files that were removed.
        """
        self.folder.mkdir(exist_ok=True)
        found = {}
        for batch in range(self.job.batches):
            with contextlib.suppress(UserError):  # missing, damaged, or of other images: it is made again
                found[batch] = self.read(batch)[1]
        kept = {self._path(batch).name for batch in found}
        others = [path for path in self.folder.iterdir() if path.name not in kept]
        for path in others:
            path.unlink(missing_ok=True)  # a worker of a command that was killed may rename its last file
        return found, len(others)

    def save(self, batch: int, features: NDArray[np.float32], infos: Sequence[ImageInfo]) -> None:
        """Keep a finished batch.

        Args:
            batch: Number of the batch.
            features: `[m, d] float32`, 0 in the rows of images that cannot be read.
            infos: The facts about its images.
        """
        content = _Batch(
            key=self.job.key(self.job.rows(batch)),
            features=features,
            checksums=np.array([info.checksum for info in infos], np.int64),
            errors=[info.error for info in infos],
            warnings=["\n".join(info.warnings) for info in infos],
            lonlat=lonlat_of(infos),
        )
        write_npz_content(self._path(batch), content, alone=False)

    def read(self, batch: int) -> tuple[NDArray[np.float32], list[ImageInfo]]:
        """Read the features `[m, d]` of a finished batch, and the facts about its images.

        Raises:
            UserError: It is missing, damaged, or of other images.
        """
        rows, source = self.job.rows(batch), Source(self._path(batch), layout.EXTRACT)
        content = source.read(_Batch)
        source.require(content.key == self.job.key(rows), "it is of other images")
        m = len(rows)
        source.require(content.features.ndim == 2 and len(content.features) == m, "it lacks features")
        source.require({len(content.errors), len(content.warnings), len(content.checksums)} == {m}, "it lacks images")
        source.require(content.lonlat.shape in ((0, 5, 2), (m, 5, 2)), "it lacks georeferences")
        lonlat = content.lonlat if len(content.lonlat) else np.full((m, POINTS, 2), np.nan)
        facts = zip(content.errors, content.warnings, lonlat.tolist(), content.checksums.tolist(), strict=True)
        return content.features, [
            ImageInfo(error, tuple(filter(None, text.split("\n"))), _known(points), checksum)
            for error, text, points, checksum in facts
        ]

    def vectors(self) -> NDArray[np.float32]:
        """Read the features `[n, d]` of all images of the job, whose batches are all finished."""
        parts = [self.read(batch)[0] for batch in range(self.job.batches)]
        return np.concatenate(parts)

    def remove(self) -> None:
        """Remove the folder, if there is one: at once under its name, so that a killed process leaves no part of it."""
        if self.folder.is_dir():
            gone = self.folder.with_name(PART + self.folder.name)  # which `locked` clears
            self.folder.rename(gone)
            shutil.rmtree(gone)

    def _path(self, batch: int) -> Path:
        return self.folder / f"batch_{batch:06d}.npz"


def _known(points: list[list[float]]) -> Lonlat | None:
    return tuple((longitude, latitude) for longitude, latitude in points) if np.isfinite(points).all() else None
