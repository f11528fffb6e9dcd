"""Images that are described: those of an earlier extraction that did not change since, and those that were missing."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from mhcln.data import georeference, remarks
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.features_file import Features
from mhcln.storage.mapped import Vectors
from mhcln.storage.partial_features import Findings, PartialFeatures

Rows = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class BatchVectors:
    """The features of the finished batches of a job, read when they are asked for."""

    partial: PartialFeatures

    def __getitem__(self, rows: Rows) -> NDArray[np.float32]:
        """Return the features `[m, d]` of these rows of the job, in ascending order; each batch is read once."""
        size = self.partial.job.batch_size
        batches, starts = (found.tolist() for found in np.unique(rows // size, return_index=True))
        vectors = np.empty((len(rows), self.partial.features(batches[0]).shape[1]), np.float32)
        for batch, start, stop in zip(batches, starts, [*starts[1:], len(rows)], strict=True):
            vectors[start:stop] = self.partial.features(batch)[rows[start:stop] - batch * size]
        return vectors


@dataclasses.dataclass(frozen=True)
class Described:
    """Images and their features.

    Attributes:
        row_of: Row of each image in the arrays below, by its path.
        vectors: `[n, d] float32`, of which some rows are read when they are asked for.
        lonlat: `[n, 5, 2]`, where they lie, NaN if that is not known.
        scales: Path of an image by each scale of float images.
        device: What computed the features; "" if nothing says it.
        software: Its versions.
    """

    row_of: dict[str, int]
    vectors: Vectors | BatchVectors
    lonlat: NDArray[np.float64]
    scales: dict[str, str] = dataclasses.field(default_factory=dict)
    device: str = ""
    software: str = ""


def described_before(features: Features | None, job: ExtractionJob) -> Described:
    """Return the images of a job whose features the dump folder holds as the job would compute them.

    Args:
        features: What it holds; None for nothing.
        job: The extraction of all images.

    Returns:
        The images whose path, stamp and extractor are those of the job.
    """
    nothing = Described({}, np.empty((0, 0), np.float32), np.empty((0, georeference.POINTS, 2)))
    if features is None:
        return nothing
    old = features.images
    if (old.images_dir, old.extractor) != (job.images_dir, job.extractor):
        return nothing
    if old.stamps.shape != (len(old), 3):  # none, or of other images, if another program wrote the file
        return nothing
    stamp_of = dict(zip(job.paths, job.stamps.tolist(), strict=True))
    rows = [row for row, path in enumerate(old.paths) if stamp_of.get(path) == old.stamps[row].tolist()]
    if not rows:
        return nothing
    lonlat = old.lonlat if len(old.lonlat) else np.full((len(old), georeference.POINTS, 2), np.nan)
    return Described(
        {old.paths[row]: row for row in rows},
        features.vectors,
        lonlat,
        {old.float_scale: "images of an earlier extraction"} if old.float_scale else {},
        old.device,
        old.software,
    )


def new_features(partial: PartialFeatures, findings: Findings) -> Described:
    """Return the images of a job whose batches are all finished.

    Args:
        partial: The job and its batches.
        findings: What is known of the images; why one has no place on the map is added to the remarks.
    """
    paths = partial.job.paths
    row_of = {path: row for row, path in enumerate(paths) if row not in findings.problems}
    return Described(row_of, BatchVectors(partial), lonlat_of(findings, len(paths)))


def lonlat_of(findings: Findings, count: int) -> NDArray[np.float64]:
    """Return where `count` images lie, `[count, 5, 2]`, NaN where that is not known.

    Why one has no place on the map is added to the remarks in `findings`.
    """
    lonlat = np.full((count, georeference.POINTS, 2), np.nan)
    rows = list(findings.places)
    if rows:
        points = np.array([findings.places[row][0] for row in rows], np.float64)
        lonlat[rows], problems = georeference.to_lonlat(points, [findings.places[row][1] for row in rows])
        for place, problem in problems.items():
            row = rows[place]
            findings.remarks[row] = (*findings.remarks.get(row, ()), remarks.unplaced(problem))
    return lonlat


class Joined:
    """Images each of which stands in one of two `Described`, in an order of their own.

    Attributes:
        sources: The two.
        lonlat: `[n, 5, 2]`, where the images lie.
    """

    def __init__(self, first: Described, second: Described, paths: list[str]) -> None:
        """Find each of the images `paths` in `first`, or else in `second`."""
        self.sources = (first, second)
        self._source = np.array([path not in first.row_of for path in paths], np.int64)
        found = (self.sources[source].row_of[path] for source, path in zip(self._source, paths, strict=True))
        self._rows = np.fromiter(found, np.int64, len(paths))
        self.lonlat = np.empty((len(paths), georeference.POINTS, 2))
        for number, source in enumerate(self.sources):
            here = self._source == number
            self.lonlat[here] = source.lonlat[self._rows[here]]

    def __getitem__(self, rows: Rows) -> NDArray[np.float32]:
        """Return the features `[m, d]` of images in ascending order."""
        found = {}
        for number, source in enumerate(self.sources):
            here = np.flatnonzero(self._source[rows] == number)
            if len(here) == len(rows):
                return source.vectors[self._rows[rows]]
            if len(here):
                found[number] = here, source.vectors[self._rows[rows[here]]]
        vectors = np.empty((len(rows), found[0][1].shape[1]), np.float32)
        for here, values in found.values():
            vectors[here] = values
        return vectors

    def last_images(self, partial: PartialFeatures) -> dict[int, int]:
        """Return for each batch of the second source the last of the images, by number, that has its features there."""
        images = np.flatnonzero(self._source)
        batches = self._rows[images] // partial.job.batch_size
        return dict(zip(batches.tolist(), images.tolist(), strict=True))  # of several, the last stays
