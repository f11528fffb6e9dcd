"""Features of an unfinished extraction: each finished batch in a file of its own, until all are there."""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.files import PART, write_npz
from mhcln.storage.source import Source

SETTINGS = "settings.npz"


Points = tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is known of the images of a job beside their features, by their row.

    Attributes:
        problems: Why it could not be read.
        remarks: What is odd about how it was read.
        places: Its centre and corners in its coordinate reference system, and that as WKT.
    """

    problems: dict[int, str] = dataclasses.field(default_factory=dict)
    remarks: dict[int, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    places: dict[int, tuple[Points, str]] = dataclasses.field(default_factory=dict)

    def update(self, more: "Findings") -> None:
        """Add what is known of other rows."""
        self.problems.update(more.problems)
        self.remarks.update(more.remarks)
        self.places.update(more.places)


@dataclasses.dataclass(frozen=True)
class _Batch:
    """The arrays of a finished batch: its features and `Findings`; a row with several remarks stands several times.

    Those with defaults are not in the file if they are empty.
    """

    key: str
    features: NDArray[np.float32]
    problem_rows: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    problem_reasons: list[str] = dataclasses.field(default_factory=list)
    remark_rows: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    remarks: list[str] = dataclasses.field(default_factory=list)
    place_rows: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    places: NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.empty((0, 5, 2)))
    place_crs: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    crs: list[str] = dataclasses.field(default_factory=list)


class PartialFeatures:
    """The finished batches of a job, in a folder of the dump folder that is removed when the job is done."""

    def __init__(self, dump_dir: Path, job: ExtractionJob) -> None:
        self.folder = dump_dir / layout.PARTIAL_FEATURES
        self.job = job
        self.emptied: set[int] = set()  # batches whose features stand elsewhere

    def resume(self) -> tuple[dict[int, Findings], list[str]]:
        """Find the finished batches that fit the job, and remove everything else from the folder.

        Returns:
            For each such batch what is known of its images; and lines that say what has changed since the batches
            were made.
        """
        changes = self._changes() if self.folder.is_dir() else []
        self.folder.mkdir(exist_ok=True)
        found = {}
        self.emptied.clear()
        for batch in range(self.job.batches):
            with contextlib.suppress(UserError):  # missing, damaged, or of other images: it is made again
                features, found[batch] = self._read(batch)
                if not features.shape[1]:
                    self.emptied.add(batch)
        kept = {self._path(batch).name for batch in found}
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)  # a worker of a driver that was killed may rename its last file
        write_npz(self.folder / SETTINGS, {**vars(self.job), "paths": np.array(self.job.paths, np.str_)})
        return found, changes

    def begun(self) -> list[str]:
        """Return the paths of the job that the folder was last used for, this or another; none if nothing says it."""
        last = self._last_job()
        return last.paths if last else []

    def save(self, batch: int, features: NDArray[np.float32], findings: Findings) -> None:
        """Keep the features of a finished batch.

        Args:
            batch: Number of the batch.
            features: `[m, d] float32`, 0 in the rows of images that could not be read.
            findings: What is known of its images.
        """
        remarks = [(row, remark) for row, each in findings.remarks.items() for remark in each]
        places = findings.places.values()
        crs = list(dict.fromkeys(text for _, text in places))
        found = {
            "problem_rows": np.array(list(findings.problems), np.int64),
            "problem_reasons": np.array(list(findings.problems.values()), np.str_),
            "remark_rows": np.array([row for row, _ in remarks], np.int64),
            "remarks": np.array([remark for _, remark in remarks], np.str_),
            "place_rows": np.array(list(findings.places), np.int64),
            "places": np.array([points for points, _ in places], np.float64).reshape(-1, 5, 2),
            "place_crs": np.array([crs.index(text) for _, text in places], np.int64),
            "crs": np.array(crs, np.str_),
        }
        content = {"key": self.job.key(self.job.rows(batch)), "features": features}
        content |= {name: values for name, values in found.items() if len(values)}
        write_npz(self._path(batch), content, alone=False)

    def features(self, batch: int) -> NDArray[np.float32]:
        """Read the features `[m, d] float32` of a finished batch."""
        return self._read(batch)[0]

    def empty(self, batch: int) -> None:
        """Drop the features of a finished batch, which stand elsewhere now; what else is known of it stays."""
        features, findings = self._read(batch)
        self.save(batch, features[:, :0], findings)
        self.emptied.add(batch)

    def drop(self, batches: Iterable[int]) -> None:
        """Remove finished batches, which are then missing."""
        for batch in batches:
            self._path(batch).unlink()

    def remove(self) -> None:
        """Remove the folder, if there is one: at once under its name, so that a killed process leaves no part of it."""
        if self.folder.is_dir():
            gone = self.folder.with_name(PART + self.folder.name)  # which `locked` clears
            self.folder.rename(gone)
            shutil.rmtree(gone)

    def _path(self, batch: int) -> Path:
        return self.folder / f"batch_{batch:06d}.npz"

    def _read(self, batch: int) -> tuple[NDArray[np.float32], Findings]:
        rows, source = self.job.rows(batch), Source(self._path(batch), layout.EXTRACT)
        content = source.read(_Batch, has_format=False)
        source.require(content.key == self.job.key(rows), "it is of other images")
        source.require(content.features.ndim == 2 and len(content.features) == len(rows), "it lacks images")
        shape = (len(content.problem_reasons),)
        source.require(content.problem_rows.shape == shape, "rows and reasons differ in number")
        problems = dict(zip(content.problem_rows.tolist(), content.problem_reasons, strict=True))
        findings = Findings(problems, _remarks(source, content), _places(source, content))
        for known in vars(findings).values():
            source.require(known.keys() <= set(rows), "it knows of other images")
        return content.features, findings

    def _last_job(self) -> ExtractionJob | None:
        """Read the job that the folder was last used for; None if nothing says it."""
        source = Source(self.folder / SETTINGS, layout.EXTRACT)
        try:
            last = source.read(ExtractionJob, has_format=False)
            source.require(last.stamps.shape == (len(last.paths), 3), "stamps and paths differ in length")
        except UserError:
            return None
        return last

    def _changes(self) -> list[str]:
        old = self._last_job()
        if old is None:
            return ["its settings are damaged"]
        before = dict(zip(old.paths, old.stamps.tolist(), strict=True))
        job = self.job
        now = dict(zip(job.paths, job.stamps.tolist(), strict=True))
        images = {
            "gone": [path for path in before if path not in now],
            "new": [path for path in now if path not in before],
            "changed": [path for path in now if path in before and before[path] != now[path]],
        }
        changes = [f"{len(paths)} images are {how}, first {paths[0]}" for how, paths in images.items() if paths]
        if old.images_dir != job.images_dir:
            changes = [f"the images were in {old.images_dir}"]
        if old.extractor != job.extractor:
            changes.append(f"the extractor was {old.extractor!r}, is {job.extractor!r}")
        if old.batch_size != job.batch_size:
            changes.append(f"the batch size was {old.batch_size}, is {job.batch_size}")
        return changes


def _remarks(source: Source, content: _Batch) -> dict[int, tuple[str, ...]]:
    rows = content.remark_rows
    source.require(rows.shape == (len(content.remarks),), "rows and remarks differ in number")
    found: dict[int, tuple[str, ...]] = {}
    for row, remark in zip(rows.tolist(), content.remarks, strict=True):
        found[row] = (*found.get(row, ()), remark)
    return found


def _places(source: Source, content: _Batch) -> dict[int, tuple[Points, str]]:
    rows, which = content.place_rows, content.place_crs
    same = rows.shape == which.shape and content.places.shape == (*rows.shape, 5, 2)
    source.require(same, "rows and places differ in number")
    source.require(bool(((which >= 0) & (which < len(content.crs))).all()), "it lacks a coordinate reference system")
    points = [tuple((x, y) for x, y in each) for each in content.places.tolist()]
    return {row: (each, content.crs[crs]) for row, each, crs in zip(rows.tolist(), points, which.tolist(), strict=True)}
