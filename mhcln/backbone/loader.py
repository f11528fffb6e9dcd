"""Image files to batches of the backbone: threads decode ahead into memory that is used again and again."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone.aligned import aligned_array
from mhcln.backbone.backbone import Backbone
from mhcln.data.images import About, ImageError, load_image
from mhcln.quiet_tensorflow import tf

THREADS = min(os.cpu_count() or 1, 16)
AHEAD = 2  # batches: one is complete, and all threads work on the next; they never wait for the last image of a batch


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images that are ready for the network.

    Attributes:
        rows: Their rows in the data set.
        images: [len(rows), 299, 299, 3] float32, 0 to 255, black if an image cannot be read.
        problems: What is wrong with which row.
        about: What else is known of which row.
        release: To be called once, when `images` is no longer needed: threads write the next images there.
    """

    rows: range
    images: NDArray[np.float32]
    problems: dict[int, ImageError]
    about: dict[int, About]
    release: Callable[[], None]


def load_batches(
    path_of: Callable[[int], Path], batches: Sequence[range], backbone: Backbone, held: int, threads: int = THREADS
) -> Generator[Batch, None, None]:
    """Read, decode and resize image files in threads, each into its place in a batch.

    Close the generator: left to the garbage collector, it would wait for its threads whenever that happens to run,
    maybe for good.

    Args:
        path_of: Returns the file of a row; called when its turn comes.
        batches: Rows of each batch.
        backbone: Its size and its way to read TIFFs are used.
        held: Batches that the caller holds at most, from `next` to `release`. There is memory for `held` + `AHEAD`
            batches, whatever the number of images.
        threads: Threads that decode.

    Yields:
        The batches, in order.

    Raises:
        RuntimeError: More than `held` + `AHEAD` - 1 batches were not released.
    """
    shape = [max(map(len, batches), default=0), *backbone.scaling.size, 3]
    free = [aligned_array(shape) for _ in range(min(held + AHEAD, len(batches)))]
    coming = iter(batches)
    loading: collections.deque[tuple[range, NDArray[np.float32], list[_Outcome]]] = collections.deque()
    load = functools.partial(_load, backbone)
    pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for _ in batches:
            for rows in itertools.islice(coming, len(free)):
                places = free.pop()
                outcomes = [pool.submit(load, path_of(row), places[row - rows.start]) for row in rows]
                loading.append((rows, places, outcomes))
            if not loading:
                raise RuntimeError("no batch was released, so that there is no memory for the next")
            rows, places, outcomes = loading.popleft()
            found = {row: outcome.result() for row, outcome in zip(rows, outcomes, strict=True)}
            problems = {row: each for row, each in found.items() if isinstance(each, ImageError)}
            about = {row: each for row, each in found.items() if isinstance(each, About) and each}
            yield Batch(rows, places[: len(rows)], problems, about, functools.partial(free.append, places))
    finally:
        pool.shutdown(cancel_futures=True)


_Outcome = concurrent.futures.Future[ImageError | About]


def _load(backbone: Backbone, path: Path, place: NDArray[np.float32]) -> ImageError | About:
    """Write an image to its place in a batch, black if it cannot be read; return what is wrong with it, or known."""
    try:
        image = load_image(path, backbone.recipe.tiff == "jpeg", backbone.recipe.reading)
        place[:] = backbone.resize(decode(path, image.content))
    except ImageError as error:
        place[:] = 0
        return error
    return image.about


def decode(path: Path, content: bytes | NDArray[np.uint8]) -> tf.Tensor:
    """Return pixels [height, width, 3] uint8; a JPEG is decoded by TensorFlow's default, as in the paper's graph.

    Its fast DCT is part of the features: Pillow's exact one moves pool_3 by 5 to 10 %. Raises ImageError, which names
    `path`, if a JPEG is damaged.
    """
    with tf.device("CPU"):  # otherwise pixels would travel to the GPU, back to be resized, and there again
        if isinstance(content, np.ndarray):
            return tf.convert_to_tensor(content)
        try:
            return tf.io.decode_jpeg(content, channels=3)
        except tf.errors.InvalidArgumentError as error:
            raise ImageError(path, "damaged (TensorFlow cannot decode this JPEG)") from error
