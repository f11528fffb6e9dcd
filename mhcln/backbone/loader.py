"""Image files to batches of the backbone: threads decode ahead while the network runs."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone.backbone import Backbone
from mhcln.data.images import ImageError, read_image
from mhcln.quiet_tensorflow import tf

BATCH_SIZE = 32
THREADS = min(os.cpu_count() or 1, 16)


def describe(
    paths: list[Path], backbone: Backbone, batch_size: int = BATCH_SIZE
) -> tuple[NDArray[np.float32], dict[int, ImageError]]:
    """Compute features of one or more image files, as those of an archive are computed.

    Args:
        paths: The files.
        backbone: The network.
        batch_size: Images per run of the network.

    Returns:
        Features [n, d] float32, 0 in the rows of images that cannot be read; and what is wrong with which row.
    """
    parts: list[NDArray[np.float32]] = []
    problems: dict[int, ImageError] = {}
    with contextlib.closing(load_images(paths, backbone, batch_size)) as images:
        for first in range(0, len(paths), batch_size):
            rows = range(first, min(first + batch_size, len(paths)))
            batch, broken = next_batch(images, rows, backbone)
            problems.update(broken)
            parts.append(zero_rows(backbone.features(batch), broken, first))
    return np.concatenate(parts), problems


def load_images(paths: Iterable[Path], backbone: Backbone, ahead: int) -> Generator[tf.Tensor | ImageError, None, None]:
    """Read, decode and resize image files in threads.

    Close the generator: left to the garbage collector, it would wait for its threads whenever that happens to run,
    maybe for good.

    Args:
        paths: The files; taken one by one as they are needed.
        backbone: Its size and its way to read TIFFs are used.
        ahead: Images that threads may prepare in advance, so that memory does not grow with the number of images.

    Yields:
        For each file, in order, the image [299, 299, 3] float32, 0 to 255, or what is wrong with it.
    """
    tiff_as_jpeg = backbone.recipe.tiff == "jpeg"

    def load(path: Path) -> tf.Tensor | ImageError:
        try:
            return backbone.resize(decode(path, read_image(path, tiff_as_jpeg)))
        except ImageError as error:
            return error

    pool = concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="decode")
    waiting: collections.deque[concurrent.futures.Future[tf.Tensor | ImageError]] = collections.deque()
    try:
        for path in paths:
            waiting.append(pool.submit(load, path))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def decode(path: Path, content: bytes | NDArray[np.uint8]) -> tf.Tensor:
    """Return pixels [height, width, 3] uint8; a JPEG is decoded by TensorFlow's default, as in the paper's graph.

    Its fast DCT is part of the features: Pillow's exact one moves pool_3 by 5 to 10 %. Raises ImageError, which names
    `path`, if a JPEG is damaged.
    """
    if isinstance(content, np.ndarray):
        return tf.convert_to_tensor(content)
    try:
        with tf.device("CPU"):
            return tf.io.decode_jpeg(content, channels=3)
    except tf.errors.InvalidArgumentError as error:
        raise ImageError(path, "damaged (TensorFlow cannot decode this JPEG)") from error


def next_batch(
    images: Iterator[tf.Tensor | ImageError], rows: range, backbone: Backbone
) -> tuple[tf.Tensor, dict[int, ImageError]]:
    """Stack the next images.

    Args:
        images: What `load_images` yields.
        rows: Their rows in the data set.
        backbone: Its size is used.

    Returns:
        The batch [len(rows), 299, 299, 3] float32, black if an image cannot be read; and what is wrong with which row.
    """
    batch, broken = [], {}
    for row in rows:
        image = next(images)
        if isinstance(image, ImageError):
            broken[row] = image
            image = tf.zeros([*backbone.scaling.size, 3])
        batch.append(image)
    with tf.device("CPU"):
        return tf.stack(batch), broken


def zero_rows(features: NDArray[np.float32], broken: Iterable[int], first: int) -> NDArray[np.float32]:
    """Set the features of images that cannot be read to 0.

    Args:
        features: Features [batch, d] of a batch, changed in place.
        broken: Rows in the data set of the images that cannot be read.
        first: Row in the data set of the first image of the batch.

    Returns:
        `features`.
    """
    features[[row - first for row in broken]] = 0
    return features
