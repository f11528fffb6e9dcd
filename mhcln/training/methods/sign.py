"""Sign: a bit of each feature, cut at its median over the training images. Other codes must be worth more than that.

Blumenstiel et al. 2024 (arXiv:2403.02059) find such binarised embeddings of remote-sensing models as good to search as
floats, at a 32nd of the size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.quiet_tensorflow import keras
from mhcln.storage.run_record import TrainConfig
from mhcln.training.methods.method import ClosedForm
from mhcln.training.methods.projections import require_variation
from mhcln.training.networks import centring, threshold_network


def medians(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median `[d] float32` of each feature of vectors `[n, d]`; a bit is a feature above it."""
    return np.median(vectors, axis=0).astype(np.float32)


def _solve(config: TrainConfig, vectors: NDArray[np.float32], _labels: NDArray[np.int32]) -> keras.Model:
    width = vectors.shape[1]
    if config.bits != width:
        raise UserError(f"loss sign makes a bit of each of the {width} features, not {config.bits}; take {width} bits")
    require_variation(vectors)
    # a power of two, so that no product is rounded and a feature at its median stays at 0
    scale = 2.0 ** -np.round(np.log2(vectors.std(axis=0, dtype=np.float64).mean()))
    network = threshold_network(width, config.bits)
    network.set_weights(centring(medians(vectors), float(scale)))
    return network


SPEC = ClosedForm("Sign of features", threshold_network, _solve, needs_labels=False)
