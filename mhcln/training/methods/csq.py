"""CSQ: central similarity quantisation (Yuan et al., CVPR 2020): bits drawn to the hash centres of the classes.

Authors' code: github.com/yuanli2333/Hadamard-Matrix-for-hashing, `train.py`; the weight is that of `CSQ.py` in
github.com/swuxyj/DeepHash-pytorch. The loss of pairs that the authors' code can add is not here.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import tf
from mhcln.storage.run_record import TrainConfig
from mhcln.training.class_codes import balanced_codes
from mhcln.training.methods.method import Loss
from mhcln.training.methods.shared import shared_spec

WEIGHT = 1e-4  # of the quantisation term
TERMS = ("total", "central", "quantisation")


def hash_centres(classes: int, bits: int, seed: int) -> NDArray[np.int8]:
    """Return a centre `[classes, bits]` of -1 and 1 for each class.

    If the bits are a power of two they are rows of a Hadamard matrix, which differ in half of their bits, and then
    their negatives; otherwise, or for more classes than twice the bits, half of the bits of each, drawn at random, are
    1.
    """
    if bits & (bits - 1) or classes > 2 * bits:
        return balanced_codes(classes, bits, seed)
    hadamard = np.ones((1, 1), np.int8)
    while len(hadamard) < bits:  # Sylvester's construction
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    return np.concatenate([hadamard, -hadamard])[:classes]


def csq_terms(outputs: tf.Tensor, labels: tf.Tensor, centres: NDArray[np.float32]) -> dict[str, tf.Tensor]:
    """Cross-entropy of the bits to the bits of the class's centre, and how far they are from -1 and 1.

    With h = tanh(outputs), and c the centre of -1 and 1:

    - central = mean over images and bits of -log((1 + h c) / 2)
    - quantisation = mean over images and bits of (|h| - 1)²
    - total = central + 0.0001 quantisation

    Example: an output of 0 is half of either bit: central is log 2 = 0.6931, quantisation 1.

    Args:
        outputs: `[b, K] float32`, before the sign.
        labels: `[b] int`.
        centres: `[c, K] float32`.

    Returns:
        The terms by name.
    """
    # (1 + tanh(x)) / 2 is the sigmoid of 2 x, whose -log is the softplus of -2 x
    central = tf.reduce_mean(tf.nn.softplus(-2.0 * outputs * tf.gather(centres, labels)))
    quantisation = tf.reduce_mean(tf.square(tf.abs(tf.tanh(outputs)) - 1.0))
    return {"total": central + WEIGHT * quantisation, "central": central, "quantisation": quantisation}


def _loss(config: TrainConfig, labels: NDArray[np.int32]) -> Loss:
    centres = hash_centres(int(labels.max()) + 1, config.bits, config.seed)
    return functools.partial(csq_terms, centres=centres.astype(np.float32))


SPEC = shared_spec("CSQ", TERMS, _loss, needs_pairs=False)
