"""Arrays that TensorFlow reads where they are: to copy a batch takes a fifth of the time of decoding it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import tf

ALIGNMENT = 64  # bytes, of every tensor; TensorFlow ends the process at another (EIGEN_MAX_ALIGN_BYTES with AVX-512)


def aligned_array(shape: Sequence[int]) -> NDArray[np.float32]:
    """Return an array of any content that `as_tensor` need not copy."""
    size = 4 * math.prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


def as_tensor(images: tf.Tensor | NDArray[np.float32]) -> tf.Tensor:
    """Return images as a tensor. If they are an aligned array it shares their memory, which must not change then."""
    if isinstance(images, np.ndarray) and _is_readable_in_place(images):
        return tf.experimental.dlpack.from_dlpack(images.__dlpack__())
    return tf.convert_to_tensor(images)


def _is_readable_in_place(array: NDArray[np.float32]) -> bool:
    # NumPy exports no array that is read-only
    return array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % ALIGNMENT == 0
