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
from mhcln.backbone.decoding import decode, decoder, small_jpeg
from mhcln.data.images import Content, load_image
from mhcln.data.reading import ImageError
from mhcln.quiet_tensorflow import tf
from mhcln.storage.image_info import ImageInfo

THREADS = min(os.cpu_count() or 1, 16)
AHEAD = 2  # batches: one is complete, and all threads work on the next; they never wait for the last image of a batch
TOGETHER = 8  # images that a thread takes at a time, and decodes in one call if they are small
_Parts = list[concurrent.futures.Future[list[ImageInfo]]]  # of a batch that is being loaded
LEAST = 16  # images of a batch; for fewer, such as a few queries, the first call, 0.1 s, would be more than it saves


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images that are ready for the network.

    Attributes:
        rows: Their rows in the data set.
        images: [len(rows), 299, 299, 3] float32, 0 to 255, black if an image cannot be read.
        infos: The facts about each image.
        release: Call it once, when `images` is no longer needed: threads write the next images there.
    """

    rows: range
    images: NDArray[np.float32]
    infos: list[ImageInfo]
    release: Callable[[], None]


def load_batches(
    path_of: Callable[[int], Path], batches: Sequence[range], backbone: Backbone, held: int, threads: int = THREADS
) -> Generator[Batch, None, None]:
    """Read, decode and resize image files in threads, each into its row of a batch.

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
    """
    shape = [max(map(len, batches), default=0), *backbone.scaling.size, 3]
    free = [aligned_array(shape) for _ in range(min(held + AHEAD, len(batches)))]
    coming = iter(batches)
    loading: collections.deque[tuple[range, NDArray[np.float32], _Parts]] = collections.deque()
    loader = GroupLoader(backbone, group_size(shape[0], threads))
    pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for _ in batches:
            for rows in itertools.islice(coming, len(free)):
                images = free.pop()
                groups = (rows[first : first + loader.size] for first in range(0, len(rows), loader.size))
                parts = [
                    pool.submit(loader.load, list(map(path_of, group)), images[group.start - rows.start :])
                    for group in groups
                ]
                loading.append((rows, images, parts))
            rows, images, parts = loading.popleft()
            infos = [info for part in parts for info in part.result()]
            yield Batch(rows, images[: len(rows)], infos, functools.partial(free.append, images))
    finally:
        pool.shutdown(cancel_futures=True)


def group_size(batch_size: int, threads: int) -> int:
    """Return how many images a thread takes at a time: each thread has some of a batch, TOGETHER at most."""
    return max(min(TOGETHER, batch_size // threads), 1) if batch_size >= LEAST else 1


class GroupLoader:
    """Reads groups of image files, and decodes a group in one call of TensorFlow if all of it are small JPEG files."""

    def __init__(self, backbone: Backbone, size: int) -> None:
        """Take the backbone whose size and way to read TIFFs are used, and the number of images of a group."""
        self.backbone = backbone
        self.size = size
        self._decode = decoder(backbone.scaling, size) if size > 1 else None

    def load(self, paths: list[Path], images: NDArray[np.float32]) -> list[ImageInfo]:
        """Write images to the first rows of `images`, black if they cannot be read; return the facts about each."""
        recipe = self.backbone.recipe
        infos: list[ImageInfo] = []
        small: dict[int, bytes] = {}
        for number, path in enumerate(paths):
            try:
                image = load_image(path, recipe.inference.tiff == "jpeg", recipe.inference.reading)
            except ImageError as error:
                images[number] = 0
                infos.append(ImageInfo(str(error)))
                continue
            infos.append(image.info)
            content = small_jpeg(image) if self._decode else None
            if content is None:
                infos[number] = self._write(image.content, images[number], image.info)
            else:
                small[number] = content
        if not self._write_together(list(small.values()), images):
            for number, content in small.items():
                infos[number] = self._write(content, images[number], infos[number])
        return infos

    def _write(self, content: Content, target: NDArray[np.float32], info: ImageInfo) -> ImageInfo:
        """Decode and resize one image; return `info`, or the error of an image that cannot be decoded."""
        try:
            target[:] = self.backbone.resize(decode(content))
        except ImageError as error:
            target[:] = 0
            return ImageInfo(str(error))
        return info

    def _write_together(self, contents: list[bytes], images: NDArray[np.float32]) -> bool:
        """Write a whole group; return whether that was done: there may be fewer images, or one of them damaged."""
        if self._decode is None or len(contents) < self.size:
            return False
        try:
            pixels = self._decode(contents)
        except tf.errors.InvalidArgumentError:
            return False
        for target, each in zip(images, pixels, strict=False):
            target[:] = each
        return True
