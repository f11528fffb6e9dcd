"""The batches of an extraction: those that are missing go through the backbone and are saved, one after another."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone.backbone import Backbone
from mhcln.backbone.describe import described, in_flight
from mhcln.backbone.loader import Batch, load_batches
from mhcln.console import Console, UserError, deferred_signals
from mhcln.data.images import ImageError
from mhcln.storage.partial_features import ExtractionJob, PartialFeatures
from mhcln.storage.saver import Saver


def compute_missing(
    partial: PartialFeatures, backbone: Backbone, skip_broken: bool, console: Console
) -> tuple[dict[int, str], dict[int, NDArray[np.float32]]]:
    """Compute and save the batches that are missing.

    Args:
        partial: Where finished batches are kept.
        backbone: The opened backbone.
        skip_broken: Whether features are computed although images cannot be read; if not, their list is completed.
        console: Where progress is shown.

    Returns:
        Why which rows cannot be read, and the features of each batch that was computed.

    Raises:
        UserError: The network gives numbers that are not finite.
        KeyboardInterrupt, Terminated: A signal arrived; what was computed is saved.
    """
    job = partial.job
    done, changes = partial.resume()
    problems = {row: reason for found in done.values() for row, reason in found.items()}
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
                number = part.rows.start // job.batch_size
                computed[number] = part.features
                saver.save(partial.save, number, part.features, _reasons(part.problems))
                bar.update(len(part.rows))
            for unused in checked:  # an image is broken: nothing is computed any more, only the list is completed
                unused.release()
                bar.update(len(unused.rows))
        if signal := arrived():
            raise signal
    return problems, computed


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


def _reasons(problems: dict[int, ImageError]) -> dict[int, str]:
    return {row: error.reason for row, error in problems.items()}


def _check_finite(features: NDArray[np.float32], rows: range, paths: list[str], backbone: Backbone) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise UserError(
            f"the network gives {paths[rows[bad[0]]]} numbers that are not finite in {backbone.recipe.precision}; "
            "use --precision=float32, or other weights"
        )
