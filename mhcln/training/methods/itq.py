"""ITQ: iterative quantisation (Gong and Lazebnik, CVPR 2011): principal components, rotated to fit the cube's corners.

Authors' code: `ITQ.m` and `compressITQ.m`, kept in github.com/willard-yuan/hashing-baseline-for-image-retrieval; the
features are centred as there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import keras
from mhcln.storage.run_record import TrainConfig
from mhcln.training.methods.method import ClosedForm
from mhcln.training.methods.projections import Matrix, centred, principal_axes, sign_network
from mhcln.training.networks import linear_network

ROTATIONS = 50  # "usually enough" in `ITQ.m`; `compressITQ.m` takes as many


def fit_rotation(projected: Matrix, seed: int) -> Matrix:
    """Find the rotation R that brings vectors V near the signs of their rotation B.

    Lowers the quantisation loss ||B - V R||² by turns: B = sign(V R) for fixed R; then, for fixed B, the
    orthogonal Procrustes problem, whose solution is R = Y Xᵀ with B ᵀV = X S Yᵀ by singular value decomposition.

    Args:
        projected: `[n, K]`, V.
        seed: Seed of the random orthogonal matrix to begin with.

    Returns:
        `[K, K]`, orthogonal.
    """
    bits = projected.shape[1]
    rotation = np.linalg.svd(np.random.default_rng(seed).standard_normal((bits, bits)))[0]
    for _ in range(ROTATIONS):
        codes = np.where(projected @ rotation > 0, 1.0, -1.0)
        x, _, y_transposed = np.linalg.svd(codes.T @ projected)
        rotation = (x @ y_transposed).T
    return rotation


def _solve(config: TrainConfig, vectors: NDArray[np.float32], _labels: NDArray[np.int32]) -> keras.Model:
    mean = vectors.mean(axis=0, dtype=np.float64)
    axes = principal_axes(vectors, mean, config.bits)
    return sign_network(vectors, mean, axes @ fit_rotation(centred(vectors, mean, axes), config.seed))


SPEC = ClosedForm("ITQ", linear_network, _solve, needs_labels=False)
