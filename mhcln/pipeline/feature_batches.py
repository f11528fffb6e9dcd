"""The batches of an extraction: missing ones go through the backbone and are saved, here or by workers."""

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone.backbone import Backbone
from mhcln.backbone.batches import default_batch_size, extracted_batches, in_flight
from mhcln.backbone.loader import THREADS, Batch, load_batches
from mhcln.console import Console, UserError, deferred_signals
from mhcln.data import image_warnings
from mhcln.device import device_name, versions
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.image_info import ImageInfo
from mhcln.storage.partial_features import PartialFeatures
from mhcln.storage.saver import Saver

# The effect of an image that cannot be read: "skip" gives it features of 0; "stop" ends the computing, and the other
# images are only read, as with "list", to complete the list of unreadable ones.
OnBroken = Literal["skip", "stop", "list"]
Arrived = Callable[[], BaseException | None]  # returns a signal that arrived
Computed = Generator[tuple[int, list[ImageInfo]], None, None]


class Engine(Protocol):
    """Computes batches, of one job after another: this process, or workers in processes of their own.

    Attributes:
        extractor: The recipe of the backbone.
        model_file: Path of its weights; "" for random ones.
        batch_size: Images per run of the network, if the user does not choose.
        device: Names of all cards that have computed, or "CPU", as `features.npz` records them.
        software: Versions of TensorFlow and Keras there.
    """

    extractor: str
    model_file: str
    batch_size: int
    device: str
    software: str

    def compute(self, partial: PartialFeatures, batches: list[int], on_broken: OnBroken, arrived: Arrived) -> Computed:
        """Compute and save batches. Close the generator: work that is not done is dropped then.

        Args:
            partial: The job, and where its batches are saved.
            batches: Numbers of the batches.
            on_broken: The effect of images that cannot be read.
            arrived: After a signal, the generator ends as soon as the batches in hand are saved.

        Yields:
            Number of each batch, in any order, and the facts about its images. All files are there when the generator
            ends, except of batches that were only read.
        """


class ThisProcess:
    """The engine of one process: threads read images ahead of the network, one saves behind it."""

    def __init__(self, backbone: Backbone, console: Console, threads: int = THREADS) -> None:
        """Take a backbone that was opened on the device of this process; `threads` read images."""
        self.backbone, self.console, self.threads = backbone, console, threads
        self.extractor, self.model_file = backbone.extractor, backbone.model_file
        self.batch_size = default_batch_size()
        self.device = device_name()
        self.software = "; ".join(f"{name}={version}" for name, version in versions().items())

    def compute(self, partial: PartialFeatures, batches: list[int], on_broken: OnBroken, arrived: Arrived) -> Computed:
        """Compute and save batches, as `Engine` says."""
        job, rows = partial.job, [partial.job.rows(batch) for batch in batches]
        left: list[Batch] = []  # the batch that is the first not to be computed

        def usable() -> Iterator[Batch]:
            for batch in coming:
                if on_broken == "list" or (on_broken == "stop" and any(info.error for info in batch.infos)):
                    left.append(batch)
                    return
                yield batch

        loading = load_batches(_path_of(job), rows, self.backbone, in_flight(), self.threads)
        with contextlib.closing(loading) as loaded, Saver() as saver:
            coming = _until(arrived, loaded)
            for batch, features in extracted_batches(usable(), self.backbone):
                _check_finite(features, batch.rows, job, self.backbone)
                number = batch.rows.start // job.batch_size
                saver.save(partial.save, number, features, batch.infos)
                yield number, batch.infos
            for batch in itertools.chain(left, coming):
                batch.release()
                yield batch.rows.start // job.batch_size, batch.infos


def compute_missing(
    partial: PartialFeatures, engine: Engine, skip_broken: bool, earlier_scale: str, console: Console
) -> tuple[list[ImageInfo], int]:
    """Compute and save the batches that are missing; `partial.features` reads them.

    Args:
        partial: Where finished batches are kept.
        engine: What computes.
        skip_broken: Whether features are computed although images cannot be read; if not, their list is completed.
        earlier_scale: The `float_scale` of the images that were extracted before.
        console: Where progress is shown.

    Returns:
        The facts about each image, and the number of images that were computed now.

    Raises:
        KeyboardInterrupt, Terminated: A signal arrived; what was computed is saved.
    """
    job = partial.job
    done, others = partial.resume()
    infos = [ImageInfo()] * len(job.paths)
    first = {earlier_scale: "images that were extracted before"} if earlier_scale else {}  # path by float scale

    def note(batch: int, found: list[ImageInfo]) -> None:
        for row, info in zip(job.rows(batch), found, strict=True):
            infos[row] = info
            if scale := image_warnings.float_scale([info]):
                first.setdefault(scale, job.path(row))
        image_warnings.check_scales(first)

    for batch, found in done.items():
        note(batch, found)
    finished = sum(map(len, done.values()))
    if others:
        console.say(f"part-work of other images or settings is dropped: {others} files")
    if done:
        console.say(f"continuing an interrupted extraction: {finished:,} of {len(job.paths):,} images are done")
    missing = [batch for batch in range(job.batches) if batch not in done]
    on_broken: OnBroken = "skip" if skip_broken else "list" if any(info.error for info in infos) else "stop"
    with deferred_signals() as arrived:
        with (
            contextlib.closing(engine.compute(partial, missing, on_broken, arrived)) as computed,
            console.bar(len(job.paths), "extracting", "image", finished) as bar,
        ):
            for batch, found in computed:
                note(batch, found)
                bar.update(len(found))
        if signal := arrived():
            raise signal
    return infos, len(job.paths) - finished


def _path_of(job: ExtractionJob) -> Callable[[int], Path]:
    folder = Path(job.images_dir)
    return lambda row: folder / job.path(row)


def _until(arrived: Arrived, batches: Iterator[Batch]) -> Iterator[Batch]:
    """Pass batches on until a signal arrives."""
    while not arrived() and (batch := next(batches, None)):
        yield batch


def _check_finite(features: NDArray[np.float32], rows: range, job: ExtractionJob, backbone: Backbone) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise UserError(
            f"the network gives {job.path(rows[bad[0]])} numbers that are not finite in "
            f"{backbone.recipe.inference.precision}; use --precision=float32, or other weights"
        )
