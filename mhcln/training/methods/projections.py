"""Codes that are the signs of linear projections of the centred features: what such methods share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.quiet_tensorflow import keras
from mhcln.training.networks import linear_network

Matrix = NDArray[np.float64]
ROW_BLOCK = 4096  # rows that are float64 at a time


def centred(vectors: NDArray[np.float32], mean: Matrix, axes: Matrix) -> Matrix:
    """Return `(vectors - mean) @ axes`, `[n, K] float64`, of vectors `[n, d]`, block by block."""
    return np.concatenate([(vectors[at : at + ROW_BLOCK] - mean) @ axes for at in range(0, len(vectors), ROW_BLOCK)])


def principal_axes(vectors: NDArray[np.float32], mean: Matrix, count: int) -> Matrix:
    """Return the directions `[d, count]` in which vectors `[n, d]` of that mean vary most, of length 1."""
    n, width = vectors.shape
    _require_directions(min(width, n - 1), count, n, width)
    scatter = np.zeros((width, width))
    for at in range(0, n, ROW_BLOCK):
        block = vectors[at : at + ROW_BLOCK] - mean
        scatter += block.T @ block
    values, axes = np.linalg.eigh(scatter)
    largest = float(values[-1])
    # eigenvalues below this are rounding, as in numpy.linalg.matrix_rank
    real = int((values > largest * max(n, width) * np.finfo(np.float64).eps).sum()) if largest > 0 else 0
    _require_directions(real, count, n, width)
    return np.asarray(axes[:, ::-1][:, :count])


def require_variation(vectors: NDArray[np.float32]) -> None:
    """Raise UserError if all vectors `[n, d]` are equal."""
    if (vectors == vectors[0]).all():
        raise UserError("the features of all training images are equal: no code can tell them apart")


def _require_directions(found: int, count: int, images: int, width: int) -> None:
    if found < count:
        raise UserError(
            f"{images} training images with features of width {width} vary in {found} directions, of which at most "
            f"{found} bits can be made, not {count}; take fewer bits or more images"
        )


def sign_network(vectors: NDArray[np.float32], mean: Matrix, axes: NDArray[Any]) -> keras.Model:
    """Return the network whose bits are the signs of the centred features along axes `[d, K]`.

    All projections are divided by their common standard deviation on the training images, so that their sigmoids use
    the range from 0 to 1; that changes no sign and no order of distances between projections.
    """
    require_variation(vectors)
    deviation = np.sqrt(np.mean(centred(vectors, mean, axes) ** 2))
    network = linear_network(*axes.shape)
    network.set_weights([axes / deviation, -mean @ axes / deviation])
    return network
