"""JPEG files to pixels: one by one, or several in one call of TensorFlow.

Calls cost as much as small images do, and only one thread at a time runs Python: two threads on two cores decode and
resize 930 of UCMD's images a second one by one, and 1,510 in groups of eight.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone.layers import Scaling
from mhcln.data.images import Content, LoadedImage
from mhcln.data.reading import ImageError
from mhcln.quiet_tensorflow import tf

# Values of an image up to which it is resized faster, to the same bits, as float32: UCMD's 256x256 pixels take 0.36 ms
# in place of 0.62, and 600x600 0.53 in place of 0.64, but 1000x1000 would take 1.0 in place of 0.67.
FASTER_AS_FLOAT = 600 * 600 * 3


def decode(content: Content) -> tf.Tensor:
    """Return pixels [height, width, 3] uint8; a JPEG is decoded by TensorFlow's default, as in the paper's graph.

    Its fast DCT is part of the features: Pillow's exact one moves pool_3 by 5 to 10 %. Raises ImageError if a JPEG is
    damaged.
    """
    with tf.device("CPU"):  # otherwise pixels would travel to the GPU, back to be resized, and there again
        if isinstance(content, np.ndarray):
            return tf.convert_to_tensor(content)
        try:
            return tf.io.decode_jpeg(content, channels=3)
        except tf.errors.InvalidArgumentError as error:
            raise ImageError("damaged (TensorFlow cannot decode this JPEG)") from error


def resize(image: tf.Tensor | NDArray[np.uint8], scaling: Scaling) -> tf.Tensor:
    """Return an image [height, width, 3] in the network's size, [299, 299, 3] float32, 0 to 255."""
    elements = tf.TensorShape(image.shape).num_elements()  # None in a graph
    # tf.image.resize would place samples at pixel centres, which moves the 2015 graph's pool_3 by about 0.5 %
    with tf.device("CPU"):
        if elements is not None and elements <= FASTER_AS_FLOAT:
            image = tf.cast(image, tf.float32)
        resized = tf.raw_ops.ResizeBilinear(
            images=tf.expand_dims(image, 0),  # an index in its place would take as long as the resize
            size=np.asarray(scaling.size, np.int32),  # to convert a tuple takes a fifth of the resize
            align_corners=False,
            half_pixel_centers=scaling.half_pixel,
        )
        return tf.squeeze(resized, 0)


def small_jpeg(image: LoadedImage) -> bytes | None:
    """Return the content of an image that `decoder` is for, and many of which may be in memory; None for others."""
    is_small = max(image.values, len(image.content)) <= FASTER_AS_FLOAT
    return image.content if is_small and isinstance(image.content, bytes) else None


@functools.cache
def decoder(scaling: Scaling, count: int) -> Callable[[list[bytes]], list[tf.Tensor]]:
    """Return a function that decodes and resizes `count` small JPEG files in one call, to the same bits as one by one.

    The thread that calls it does all the work: those of TensorFlow are the network's. The function raises
    InvalidArgumentError if one of the files is damaged.
    """

    @tf.function(input_signature=[tf.TensorSpec([count], tf.string)], autograph=False)
    def run(contents: tf.Tensor) -> list[tf.Tensor]:
        with tf.device("CPU"):
            pixels = [tf.io.decode_jpeg(content, channels=3) for content in tf.unstack(contents)]
            return [resize(tf.cast(each, tf.float32), scaling) for each in pixels]

    traced = run.get_concrete_function()

    def run_in_this_thread(contents: list[bytes]) -> list[tf.Tensor]:
        with tf.device("CPU"), tf.experimental.function_executor_type("SINGLE_THREADED_EXECUTOR"):
            found: list[tf.Tensor] = traced(tf.constant(contents))
        return found

    return run_in_this_thread
