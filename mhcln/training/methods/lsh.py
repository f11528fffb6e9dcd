"""LSH: signs of random projections (Charikar, STOC 2002). It learns nothing but the mean: the floor.

The features are centred first, as ITQ does: the averages of rectified values are all positive, and planes
through 0 would hardly divide them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import keras
from mhcln.storage.run_record import TrainConfig
from mhcln.training.methods.method import ClosedForm
from mhcln.training.methods.projections import sign_network
from mhcln.training.networks import linear_network


def hyperplanes(width: int, bits: int, seed: int) -> NDArray[np.float64]:
    """Draw the normals `[width, bits]` of random planes: standard normal, so that all directions are as likely.

    A plane parts two vectors with probability (angle between them) / π, which is what Hamming distance then estimates.
    """
    return np.random.default_rng(seed).standard_normal((width, bits))


def _solve(config: TrainConfig, vectors: NDArray[np.float32], _labels: NDArray[np.int32]) -> keras.Model:
    mean = vectors.mean(axis=0, dtype=np.float64)
    return sign_network(vectors, mean, hyperplanes(vectors.shape[1], config.bits, config.seed))


SPEC = ClosedForm("LSH", linear_network, _solve, needs_labels=False)
