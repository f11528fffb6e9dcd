"""Images that are described: those of an earlier extraction that did not change since, and those that were missing."""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.data import georeference, remarks
from mhcln.storage.features import read_features
from mhcln.storage.features_file import ImageTable
from mhcln.storage.partial_features import ExtractionJob, Findings, PartialFeatures


@dataclasses.dataclass(frozen=True)
class Described:
    """Images and their features.

    Attributes:
        row_of: Row of each image in the arrays below, by its path.
        vectors: `[n, d] float32`.
        lonlat: `[n, 5, 2]`, where they lie, NaN if that is not known.
        scales: Path of an image by each scale of float images.
        device: What computed the features; "" if nothing says it.
        software: Its versions.
    """

    row_of: dict[str, int]
    vectors: NDArray[np.float32]
    lonlat: NDArray[np.float64]
    scales: dict[str, str] = dataclasses.field(default_factory=dict)
    device: str = ""
    software: str = ""


def described_before(dump_dir: Path, old: ImageTable | None, job: ExtractionJob) -> Described:
    """Return the images of a job that `features.npz` holds as the job would compute them.

    Args:
        dump_dir: Folder of the file.
        old: What it says of its images; None if there is none.
        job: The extraction of all images.

    Returns:
        The images whose path, stamp and extractor are those of the job.
    """
    nothing = Described({}, np.empty((0, 0), np.float32), np.empty((0, georeference.POINTS, 2)))
    if old is None or (old.images_dir, old.extractor) != (job.images_dir, job.extractor):
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
        read_features(dump_dir).vectors,
        lonlat,
        {old.float_scale: "images of an earlier extraction"} if old.float_scale else {},
        old.device,
        old.software,
    )


def new_features(partial: PartialFeatures, findings: Findings) -> Described:
    """Put the batches of a job together.

    Args:
        partial: The job, and its batches.
        findings: What is known of the images; why one has no place on the map is added to the remarks.
    """
    job = partial.job
    batches = [partial.features(batch) for batch in range(job.batches)]
    vectors = np.concatenate(batches) if batches else np.empty((0, 0), np.float32)
    row_of = {path: row for row, path in enumerate(job.paths) if row not in findings.problems}
    return Described(row_of, vectors, _lonlat(findings, len(job.paths)))


def _lonlat(findings: Findings, count: int) -> NDArray[np.float64]:
    lonlat = np.full((count, georeference.POINTS, 2), np.nan)
    rows = list(findings.places)
    if rows:
        points = np.array([findings.places[row][0] for row in rows], np.float64)
        lonlat[rows], problems = georeference.to_lonlat(points, [findings.places[row][1] for row in rows])
        for place, problem in problems.items():
            row = rows[place]
            findings.remarks[row] = (*findings.remarks.get(row, ()), remarks.unplaced(problem))
    return lonlat


def joined(first: Described, second: Described, paths: list[str]) -> Described:
    """Return the images `paths`, in this order, each of which stands in `first` or in `second`."""
    if not first.row_of:
        rows = [second.row_of[path] for path in paths]
        whole = len(rows) == len(second.vectors)
        return dataclasses.replace(
            second, vectors=second.vectors if whole else second.vectors[rows], lonlat=second.lonlat[rows]
        )
    width = first.vectors.shape[1]
    vectors, lonlat = np.empty((len(paths), width), np.float32), np.empty((len(paths), georeference.POINTS, 2))
    for part in (first, second):
        here = [place for place, path in enumerate(paths) if path in part.row_of]
        rows = [part.row_of[paths[place]] for place in here]
        if rows:
            vectors[here], lonlat[here] = part.vectors[rows], part.lonlat[rows]
    return Described({path: row for row, path in enumerate(paths)}, vectors, lonlat)
