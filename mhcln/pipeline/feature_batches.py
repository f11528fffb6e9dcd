"""The batches of an extraction: those that are missing go through the backbone and are saved, one after another."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone.backbone import Backbone
from mhcln.backbone.describe import Described, described, in_flight
from mhcln.backbone.loader import Batch, load_batches
from mhcln.console import Console, UserError, deferred_signals
from mhcln.data import remarks
from mhcln.data.images import ImageError
from mhcln.storage.partial_features import ExtractionJob, Findings, PartialFeatures
from mhcln.storage.saver import Saver


def compute_missing(
    partial: PartialFeatures, backbone: Backbone, skip_broken: bool, scales: dict[str, str], console: Console
) -> tuple[Findings, dict[int, NDArray[np.float32]]]:
    """Compute and save the batches that are missing.

    Args:
        partial: Where finished batches are kept.
        backbone: The opened backbone.
        skip_broken: Whether features are computed although images cannot be read; if not, their list is completed.
        scales: Path of an image by each scale of float images that was met; those of the missing ones are added.
        console: Where progress is shown.

    Returns:
        What is known of the images, and the features of each batch that was computed.

    Raises:
        UserError: The network gives numbers that are not finite, or float images are of two scales.
        KeyboardInterrupt, Terminated: A signal arrived; what was computed is saved.
    """
    job = partial.job
    done, changes = partial.resume()
    findings = Findings()
    for each in done.values():
        findings.update(each)
    _check_scales(findings, scales, job.paths)
    problems = findings.problems
    finished = sum(len(job.rows(batch)) for batch in done)
    if changes:
        console.warn(
            f"part-work of an interrupted run fits only in part, since {'; '.join(changes)}; the rest is dropped"
        )
    if done:
        console.say(f"continuing an interrupted run: {finished:,} of {len(job.paths):,} images are done")
    missing = [job.rows(batch) for batch in range(job.batches) if batch not in done]
    computed = {}
    with deferred_signals() as arrived:
        with (
            contextlib.closing(load_batches(_path_of(job), missing, backbone, in_flight())) as loaded,
            Saver() as saver,
            console.bar(len(job.paths), "extracting", "image", finished) as bar,
        ):
            checked = _checked(loaded, problems, arrived)
            usable = itertools.takewhile(lambda _: skip_broken or not problems, checked)
            for part in described(usable, backbone, console):
                _check_finite(part.features, part.rows, job.paths, backbone)
                number, found = part.rows.start // job.batch_size, _findings(part)
                findings.update(found)
                _check_scales(found, scales, job.paths)
                computed[number] = part.features
                saver.save(partial.save, number, part.features, found)
                bar.update(len(part.rows))
            for unused in checked:  # an image is broken: nothing is computed any more, only the list is completed
                unused.release()
                bar.update(len(unused.rows))
        if signal := arrived():
            raise signal
    return findings, computed


def _path_of(job: ExtractionJob) -> Callable[[int], Path]:
    folder = Path(job.images_dir)
    return lambda row: folder / job.paths[row]


def _checked(
    loaded: Iterator[Batch], problems: dict[int, str], arrived: Callable[[], BaseException | None]
) -> Iterator[Batch]:
    """Pass batches on until a signal arrives; note in `problems` why which row cannot be read."""
    while not arrived() and (batch := next(loaded, None)):
        problems.update(_reasons(batch.problems))
        yield batch


def _check_scales(found: Findings, scales: dict[str, str], paths: list[str]) -> None:
    """Note in `scales` a path for each scale of float images; raise UserError if there are two."""
    for row, remarked in found.remarks.items():
        for scale in remarks.SCALES.intersection(remarked):
            scales.setdefault(scale, paths[row])
    remarks.check_scales(scales)


def _findings(part: Described) -> Findings:
    remarked = {row: about.remarks for row, about in part.about.items() if about.remarks}
    places = {row: (about.place.points, about.place.crs) for row, about in part.about.items() if about.place}
    return Findings(_reasons(part.problems), remarked, places)


def _reasons(problems: dict[int, ImageError]) -> dict[int, str]:
    return {row: error.reason for row, error in problems.items()}


def _check_finite(features: NDArray[np.float32], rows: range, paths: list[str], backbone: Backbone) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise UserError(
            f"the network gives {paths[rows[bad[0]]]} numbers that are not finite in {backbone.recipe.precision}; "
            "use --precision=float32, or other weights"
        )
