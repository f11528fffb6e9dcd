"""Batches of images to features, some of which are with the device at a time."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln import device
from mhcln.backbone.backbone import Backbone
from mhcln.backbone.loader import Batch, load_batches
from mhcln.console import Console
from mhcln.data import image_warnings
from mhcln.quiet_tensorflow import tf
from mhcln.storage.image_info import ImageInfo

BATCH_SIZE = 32
BATCH_SIZE_ON_GPU = 128  # not measured
IN_FLIGHT = 1  # a processor computes within the call that starts the network
IN_FLIGHT_ON_GPU = 2  # the second batch is on the card when the first is done


def default_batch_size() -> int:
    """Return the images per run of the network, if the user does not say it."""
    return BATCH_SIZE_ON_GPU if device.uses_gpu() else BATCH_SIZE


def in_flight() -> int:
    """Return how many batches are with the device at a time."""
    return IN_FLIGHT_ON_GPU if device.uses_gpu() else IN_FLIGHT


def extract(
    paths: list[Path], backbone: Backbone, console: Console, batch_size: int | None = None
) -> tuple[NDArray[np.float32], list[ImageInfo]]:
    """Compute features of one or more image files, as they are computed for a data set.

    Args:
        paths: The files.
        backbone: The network.
        console: Where warnings about the images are shown.
        batch_size: Images per run of the network; chosen for the device if None.

    Returns:
        Features [n, d] float32, 0 in the rows of images that cannot be read; and the facts about each image.
    """
    size = batch_size or default_batch_size()
    batches = [range(first, min(first + size, len(paths))) for first in range(0, len(paths), size)]
    with contextlib.closing(load_batches(paths.__getitem__, batches, backbone, in_flight())) as loaded:
        parts = list(extracted_batches(loaded, backbone))
    infos = [info for batch, _ in parts for info in batch.infos]
    for line in image_warnings.sentences([str(path) for path in paths], infos):
        console.warn(line)
    return np.concatenate([features for _, features in parts]), infos


def extracted_batches(batches: Iterable[Batch], backbone: Backbone) -> Iterator[tuple[Batch, NDArray[np.float32]]]:
    """Run the network on batches, the next ones of which start before the features of the first are fetched.

    Args:
        batches: The batches; each is released when its features are there.
        backbone: The network.

    Yields:
        Each batch, in order, and its features [m, d] float32, 0 in the rows of images that cannot be read. If a batch
        cannot be started, those before it come first.

    Raises:
        tf.errors.ResourceExhaustedError: The device has too little memory for a batch.
    """
    most = in_flight()
    started: collections.deque[tuple[Batch, tf.Tensor]] = collections.deque()
    for batch in batches:
        try:
            started.append((batch, backbone.start(batch.images)))
        except BaseException:
            yield from (_fetched(*each) for each in started)
            raise
        if len(started) == most:
            yield _fetched(*started.popleft())
    yield from (_fetched(*each) for each in started)


def _fetched(batch: Batch, computed: tf.Tensor) -> tuple[Batch, NDArray[np.float32]]:
    features = computed.numpy()
    batch.release()  # not earlier: the network reads this memory (`as_tensor`)
    features[[bool(info.error) for info in batch.infos]] = 0
    return batch, features
