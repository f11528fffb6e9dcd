"""The batches of an extraction: those that are missing go through the backbone and are saved, here or by workers."""

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone.backbone import Backbone
from mhcln.backbone.describe import DescribedBatch, default_batch_size, described, in_flight
from mhcln.backbone.loader import THREADS, Batch, load_batches
from mhcln.console import Console, UserError, deferred_signals
from mhcln.data import remarks
from mhcln.data.images import ImageError
from mhcln.device import current_device, versions
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.partial_features import Findings, PartialFeatures
from mhcln.storage.saver import Saver

# What an image that cannot be read does: it gets features of 0; or it is the last that is computed; "list" is after
# that, when images are only read, to complete the list of those that cannot be.
OnBroken = Literal["skip", "stop", "list"]
Computed = Generator[tuple[int, Findings], None, None]


class Engine(Protocol):
    """What computes batches: this process, or workers in processes of their own. It may compute several jobs in turn.

    `device` and `software` name what computed so far, as `features.npz` records it.
    """

    @property
    def extractor(self) -> str:
        """The recipe of the backbone."""

    @property
    def model_file(self) -> str:
        """Path of the file of its weights; "" for random ones."""

    @property
    def batch_size(self) -> int:
        """Images per run of the network, if the user does not say it."""

    @property
    def device(self) -> str:
        """Name of the card, or "CPU"."""

    @property
    def software(self) -> str:
        """Versions of what computes beside this package."""

    def compute(
        self,
        partial: PartialFeatures,
        batches: list[int],
        on_broken: OnBroken,
        arrived: Callable[[], BaseException | None],
    ) -> Computed:
        """Compute and save batches. Close the generator: work that is not done is dropped then.

        Args:
            partial: The job, and where its batches are saved.
            batches: Numbers of the batches.
            on_broken: What is done about images that cannot be read.
            arrived: Returns a signal that arrived: the generator then ends as soon as what was started is saved.

        Yields:
            Number of each batch, in any order, and what is known of its images. All files are there when the generator
            ends; those of batches that were only read are never there.
        """


class ThisProcess:
    """The engine of one process: threads read images ahead of the network, one saves behind it."""

    def __init__(self, backbone: Backbone, console: Console, threads: int = THREADS) -> None:
        """Take a backbone that was opened on the device of this process; `threads` read images."""
        self.backbone, self.console, self.threads = backbone, console, threads
        self.extractor, self.model_file = backbone.extractor, backbone.model_file
        self.batch_size = default_batch_size()
        device = current_device()
        self.device, self.software = device.name, str(versions(device))

    def compute(
        self,
        partial: PartialFeatures,
        batches: list[int],
        on_broken: OnBroken,
        arrived: Callable[[], BaseException | None],
    ) -> Computed:
        """Compute and save batches, as `Engine` says."""
        job, rows = partial.job, [partial.job.rows(batch) for batch in batches]
        left: list[Batch] = []  # the batch that is the first not to be computed

        def usable() -> Iterator[Batch]:
            for batch in coming:
                if on_broken == "list" or (on_broken == "stop" and batch.problems):
                    left.append(batch)
                    return
                yield batch

        loading = load_batches(_path_of(job), rows, self.backbone, in_flight(), self.threads)
        with contextlib.closing(loading) as loaded, Saver() as saver:
            coming = _until(arrived, loaded)
            for part in described(usable(), self.backbone, self.console):
                _check_finite(part.features, part.rows, job, self.backbone)
                number, found = part.rows.start // job.batch_size, _findings(part)
                saver.save(partial.save, number, part.features, found)
                yield number, found
            for batch in itertools.chain(left, coming):
                batch.release()
                yield batch.rows.start // job.batch_size, Findings(_reasons(batch.problems))


def compute_missing(
    partial: PartialFeatures, engine: Engine, skip_broken: bool, scales: dict[str, str], console: Console
) -> tuple[Findings, int]:
    """Compute and save the batches that are missing; `partial.features` reads them.

    Args:
        partial: Where finished batches are kept.
        engine: What computes.
        skip_broken: Whether features are computed although images cannot be read; if not, their list is completed.
        scales: Path of an image by each scale of float images that was met; those of the missing ones are added.
        console: Where progress is shown.

    Returns:
        What is known of the images, and how many of them were computed now.

    Raises:
        UserError: The network gives numbers that are not finite, or float images are of two scales.
        KeyboardInterrupt, Terminated: A signal arrived; what was computed is saved.
    """
    job = partial.job
    done, changes = partial.resume()
    findings = Findings()
    for each in done.values():
        findings.update(each)
    _check_scales(findings, scales, job)
    finished = sum(len(job.rows(batch)) for batch in done)
    if changes:
        console.warn(
            f"part-work of an interrupted run fits only in part, since {'; '.join(changes)}; the rest is dropped"
        )
    if done:
        console.say(f"continuing an interrupted run: {finished:,} of {len(job.paths):,} images are done")
    missing = [batch for batch in range(job.batches) if batch not in done]
    on_broken: OnBroken = "skip" if skip_broken else "list" if findings.problems else "stop"
    with deferred_signals() as arrived:
        with (
            contextlib.closing(engine.compute(partial, missing, on_broken, arrived)) as computed,
            console.bar(len(job.paths), "extracting", "image", finished) as bar,
        ):
            for number, found in computed:
                findings.update(found)
                _check_scales(found, scales, job)
                bar.update(len(job.rows(number)))
        if signal := arrived():
            raise signal
    return findings, len(job.paths) - finished


def _path_of(job: ExtractionJob) -> Callable[[int], Path]:
    folder = Path(job.images_dir)
    return lambda row: folder / job.path(row)


def _until(arrived: Callable[[], BaseException | None], batches: Iterator[Batch]) -> Iterator[Batch]:
    """Pass batches on until a signal arrives."""
    while not arrived() and (batch := next(batches, None)):
        yield batch


def _check_scales(found: Findings, scales: dict[str, str], job: ExtractionJob) -> None:
    """Note in `scales` a path for each scale of float images; raise UserError if there are two."""
    for row, remarked in found.remarks.items():
        for scale in remarks.SCALES.intersection(remarked):
            scales.setdefault(scale, job.path(row))
    remarks.check_scales(scales)


def _findings(part: DescribedBatch) -> Findings:
    remarked = {row: about.remarks for row, about in part.about.items() if about.remarks}
    places = {row: (about.place.points, about.place.crs) for row, about in part.about.items() if about.place}
    return Findings(_reasons(part.problems), remarked, places)


def _reasons(problems: dict[int, ImageError]) -> dict[int, str]:
    return {row: error.reason for row, error in problems.items()}


def _check_finite(features: NDArray[np.float32], rows: range, job: ExtractionJob, backbone: Backbone) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise UserError(
            f"the network gives {job.path(rows[bad[0]])} numbers that are not finite in {backbone.recipe.precision}; "
            "use --precision=float32, or other weights"
        )
