"""Batches of images to features: how many are with the device at a time, and what happens if they are too large."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln import device
from mhcln.backbone.backbone import Backbone
from mhcln.backbone.loader import Batch, load_batches
from mhcln.console import Console
from mhcln.data import remarks
from mhcln.data.images import About, ImageError
from mhcln.quiet_tensorflow import tf

BATCH_SIZE = 32
BATCH_SIZE_ON_GPU = 128  # not measured
IN_FLIGHT = 1  # a processor computes within the call that starts the network
IN_FLIGHT_ON_GPU = 2  # the second batch is on the card when the first is done


@dataclasses.dataclass(frozen=True)
class DescribedBatch:
    """Features of a batch.

    Attributes:
        rows: Rows of its images in the data set.
        features: [len(rows), d] float32, 0 in the rows of images that cannot be read.
        problems: What is wrong with which row.
        about: What else is known of which row.
    """

    rows: range
    features: NDArray[np.float32]
    problems: dict[int, ImageError]
    about: dict[int, About]


def default_batch_size() -> int:
    """Return the images per run of the network, if the user does not say it."""
    return BATCH_SIZE_ON_GPU if device.uses_gpu() else BATCH_SIZE


def in_flight() -> int:
    """Return how many batches are with the device at a time."""
    return IN_FLIGHT_ON_GPU if device.uses_gpu() else IN_FLIGHT


def describe(
    paths: list[Path], backbone: Backbone, console: Console, batch_size: int | None = None
) -> tuple[NDArray[np.float32], dict[int, ImageError]]:
    """Compute features of one or more image files, as those of an archive are computed.

    Args:
        paths: The files.
        backbone: The network.
        console: Where it is reported if the device has too little memory, and what is odd about the images.
        batch_size: Images per run of the network; chosen for the device if None.

    Returns:
        Features [n, d] float32, 0 in the rows of images that cannot be read; and what is wrong with which row.
    """
    size = batch_size or default_batch_size()
    batches = [range(first, min(first + size, len(paths))) for first in range(0, len(paths), size)]
    with contextlib.closing(load_batches(paths.__getitem__, batches, backbone, in_flight())) as loaded:
        parts = list(described(loaded, backbone, console))
    problems = {row: problem for part in parts for row, problem in part.problems.items()}
    for line in remarks.sentences(
        {str(paths[row]): each.remarks for part in parts for row, each in part.about.items()}
    ):
        console.warn(line)
    return np.concatenate([part.features for part in parts]), problems


def described(batches: Iterable[Batch], backbone: Backbone, console: Console) -> Iterator[DescribedBatch]:
    """Run the network on batches, the next ones of which start before the features of the first are fetched.

    Args:
        batches: The batches; each is released when its features are there.
        backbone: The network.
        console: Where it is reported if the device has too little memory.

    Yields:
        The features of each batch, in order. If a batch cannot be started, those before it come first.

    Raises:
        tf.errors.ResourceExhaustedError: The device has too little memory for half a batch.
    """
    network = _Halving(backbone, console)
    most = in_flight()
    started: collections.deque[tuple[Batch, list[tf.Tensor]]] = collections.deque()
    for batch in batches:
        try:
            started.append((batch, network.start(batch.images)))
        except BaseException:
            yield from (_fetched(network, *each) for each in started)
            raise
        if len(started) == most:
            yield _fetched(network, *started.popleft())
    yield from (_fetched(network, *each) for each in started)


def _fetched(network: _Halving, batch: Batch, parts: list[tf.Tensor]) -> DescribedBatch:
    features = network.fetch(batch.images, parts)
    batch.release()  # not earlier: the network reads this memory (`as_tensor`)
    features[[row - batch.rows.start for row in batch.problems]] = 0
    return DescribedBatch(batch.rows, features, batch.problems, batch.about)


class _Halving:
    """A backbone that runs on halves of batches as soon as the device has too little memory for a whole one."""

    def __init__(self, backbone: Backbone, console: Console) -> None:
        self.backbone = backbone
        self.console = console
        self.parts = 1

    def start(self, images: NDArray[np.float32]) -> list[tf.Tensor]:
        """Return the features of the parts of `images`, maybe still being computed."""
        try:
            return self._start_parts(images)
        except tf.errors.ResourceExhaustedError:
            if self.parts > 1 or len(images) == 1:
                raise
        self._halve(len(images))  # not in the handler: the error holds tensors of the failed run
        return self._start_parts(images)

    def fetch(self, images: NDArray[np.float32], parts: list[tf.Tensor]) -> NDArray[np.float32]:
        """Return the features of `images` when they are computed; `parts` is what `start` returned for them."""
        try:
            return np.concatenate([part.numpy() for part in parts])
        except tf.errors.ResourceExhaustedError:
            if len(parts) > 1 or len(images) == 1:
                raise
        parts.clear()
        self._halve(len(images))
        return np.concatenate([part.numpy() for part in self._start_parts(images)])

    def _start_parts(self, images: NDArray[np.float32]) -> list[tf.Tensor]:
        middle = (len(images) + 1) // 2
        parts = [images] if self.parts == 1 else [images[:middle], images[middle:]]
        return [self.backbone.start(part) for part in parts if len(part)]

    def _halve(self, size: int) -> None:
        if self.parts == 1:
            self.console.warn(f"the device has no memory for {size} images at a time; going on with {(size + 1) // 2}")
        self.parts = 2
