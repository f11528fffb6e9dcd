"""Greedy Hash (Su et al., NeurIPS 2018): classify by signs, whose gradient is passed straight through.

Authors' code: github.com/ssppp/GreedyHash, `cifar1.py`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import keras, tf
from mhcln.storage.run_record import TrainConfig
from mhcln.training.methods.method import Iterative, Method
from mhcln.training.methods.shared import ITERATIONS, on_shared_network
from mhcln.training.networks import shared_network

WEIGHT = 0.1  # of the penalty
TERMS = ("total", "penalty", "accuracy")


def greedyhash_terms(outputs: tf.Tensor, labels: tf.Tensor, classifier: tf.Tensor) -> dict[str, tf.Tensor]:
    """Cross-entropy of a linear classifier of the signs, and how far outputs are from them.

    - cross-entropy = mean over images of -log softmax(sign(outputs) @ classifier)[label]; its gradient by the outputs
      is taken to be that by their signs
    - penalty = mean over images and bits of ||output| - 1|³
    - total = cross-entropy + 0.1 penalty
    - accuracy = share of images that are classified right

    Example: the outputs (2, -0.5) and the classifier of two equal columns give log 2 + 0.1 (1 + 0.125) / 2 = 0.7494.

    Args:
        outputs: `[b, K] float32`, before the sign.
        labels: `[b] int`.
        classifier: `[K, c] float32`.

    Returns:
        The terms by name.
    """
    signs = outputs + tf.stop_gradient(tf.sign(outputs) - outputs)
    logits = tf.matmul(signs, classifier)
    entropy = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    penalty = tf.reduce_mean(tf.abs(tf.abs(outputs) - 1.0) ** 3)
    right = tf.argmax(logits, axis=1, output_type=labels.dtype) == labels
    return {
        "total": entropy + WEIGHT * penalty,
        "penalty": penalty,
        "accuracy": tf.reduce_mean(tf.cast(right, tf.float32)),
    }


def _build(config: TrainConfig, labels: NDArray[np.int32], width: int) -> Method:
    classes = int(labels.max()) + 1
    # as torch.nn.Linear draws it: uniform in ±1 / sqrt(K)
    limit = config.bits**-0.5
    drawn = np.random.default_rng(config.seed).uniform(-limit, limit, (config.bits, classes)).astype(np.float32)
    classifier = keras.Variable(drawn, name="classifier")

    def loss(outputs: tf.Tensor, of: tf.Tensor) -> dict[str, tf.Tensor]:
        return greedyhash_terms(outputs, of, classifier.value)

    method = on_shared_network(config, labels, width, loss, TERMS)
    return dataclasses.replace(method, unsaved=(classifier,))


SPEC = Iterative("GreedyHash", shared_network, _build, needs_pairs=False, iterations=ITERATIONS, open_ended=False)
