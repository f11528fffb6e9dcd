"""HashNet: hashing by continuation (Cao et al., ICCV 2017): weighted likelihood of pairs, and a tanh that steepens.

Authors' code: github.com/thuml/HashNet, `pytorch/src`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import tf
from mhcln.storage.run_record import TrainConfig
from mhcln.training.methods.method import Iterative, Method
from mhcln.training.methods.pairs import mean_of, similarity
from mhcln.training.methods.shared import ITERATIONS, on_shared_network
from mhcln.training.networks import shared_network

SLOPE = 10.0  # over the bits: alpha of the pairs' sigmoid, `sigmoid_param` of `train.py`
GAMMA, POWER, STEP = 0.005, 0.5, 200  # `network.py`: the scale of tanh is (1 + gamma t)^power, renewed every STEP
TERMS = ("total", "accuracy")


def scale_at(iteration: tf.Tensor) -> tf.Tensor:
    """Return what outputs are multiplied by before tanh in an iteration (int64 scalar, from 0): 1, then growing."""
    stage = tf.cast((iteration + 1) // STEP * STEP, tf.float32)
    return (1.0 + GAMMA * stage) ** POWER


def hashnet_terms(codes: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
    """Negative log-likelihood of which pairs are of one class, where both kinds of pairs weigh the same.

    With T = 10 / K g1 . g2 for two codes g, and s = 1 for a pair of one class, 0 for another:

    - total = mean over pairs of w (log(1 + exp(T)) - s T), w the number of pairs over that of pairs of this s
    - accuracy = share of pairs for which (T > 0) = s

    Example: (1, 1) and (1, -1) have T = 0: log 2 for either s, and total is 2 log 2 = 1.3863 if both kinds occur.

    Args:
        codes: `[b, K] float32`, between -1 and 1.
        labels: `[b] int`.

    Returns:
        The terms by name.
    """
    same, pairs = similarity(labels)
    products = SLOPE / float(codes.shape[1]) * tf.matmul(codes, codes, transpose_b=True)
    losses = tf.nn.softplus(products) - same * products
    right = tf.cast((products > 0.0) == (same > 0.0), tf.float32)
    return {"total": mean_of(losses, same) + mean_of(losses, pairs - same), "accuracy": mean_of(right, pairs)}


def _build(config: TrainConfig, labels: NDArray[np.int32], width: int) -> Method:
    method = on_shared_network(config, labels, width, hashnet_terms, TERMS)

    def forward(features: tf.Tensor, iteration: tf.Tensor) -> tf.Tensor:
        return tf.tanh(scale_at(iteration) * method.forward(features, iteration))

    return dataclasses.replace(method, forward=forward)


SPEC = Iterative("HashNet", shared_network, _build, needs_pairs=True, iterations=ITERATIONS, open_ended=False)
