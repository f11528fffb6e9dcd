"""MHCLN: deep metric and hash-code learning (Roy et al., IGARSS 2018; MiLaN, GRSL 2020), the method of the paper.

Authors' code: github.com/MLEnthusiast/MHCLN, `UCMD/trainer.py`, whose lines are named below.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import tf
from mhcln.storage.run_record import TrainConfig
from mhcln.training.methods.method import Adam, Iterative, Loss, Method
from mhcln.training.networks import published_network
from mhcln.training.samplers import Sampler, triplet_sampler

# Lines 88-114: weights of the terms, and the epsilon of its l2_normalize (TensorFlow's own default would be 1e-12).
PUSH_WEIGHT = 0.001
BALANCE_WEIGHT = 1.0
NORM_EPSILON = 1e-10
# Line 118; Keras's own epsilon would be 1e-7.
RATE, BETA_1, BETA_2, EPSILON = 1e-4, 0.5, 0.9, 1e-8

TERMS = ("total", "triplet", "push", "balance", "active")


def mhcln_terms(activations: tf.Tensor, alpha: float) -> dict[str, tf.Tensor]:
    """The three terms of the paper, their weighted sum, and the share of triplets inside the margin.

    With `s` the activations of a batch, `u` the same rows scaled to Euclidean length 1, and `d(u_a, u_b)` the squared
    Euclidean distance:

    - triplet = mean over triplets of max(d(u_a, u_p) - d(u_a, u_n) + alpha, 0), for anchor, positive and negative
    - push = mean over images and bits of (s - 0.5)²; it is rewarded, which drives activations away from 0.5
    - balance = mean over images of (mean over bits of s - 0.5)²
    - total = triplet - 0.001 push + balance
    - active = share of triplets whose hinge is above 0

    Example: anchor and positive (1, 0), negative (0, 1) have distances 0 and 2, so with alpha = 0.2 the triplet term
    is max(0 - 2 + 0.2, 0) = 0; with positive and negative exchanged it is 2.2. Push is 0.25, its largest; balance 0.

    `activations` is `[3 t, K] float32` in 0..1: t anchors, then their t positives, then their t negatives.
    """
    anchors, positives, negatives = tf.split(tf.math.l2_normalize(activations, axis=1, epsilon=NORM_EPSILON), 3)
    hinge = tf.nn.relu(_squared_distance(anchors, positives) - _squared_distance(anchors, negatives) + alpha)
    return all_terms(activations, tf.reduce_mean(hinge), tf.reduce_mean(tf.cast(hinge > 0, tf.float32)))


def all_terms(activations: tf.Tensor, triplet: tf.Tensor, active: tf.Tensor) -> dict[str, tf.Tensor]:
    """Add push, balance and the total to a triplet term."""
    push = tf.reduce_mean(tf.square(activations - 0.5))
    balance = tf.reduce_mean(tf.square(tf.reduce_mean(activations, axis=1) - 0.5))
    total = triplet - PUSH_WEIGHT * push + BALANCE_WEIGHT * balance
    return {"total": total, "triplet": triplet, "push": push, "balance": balance, "active": active}


def on_published_network(config: TrainConfig, width: int, sampler: Sampler, loss: Loss) -> Method:
    """Return the paper's network and optimiser with a sampler and a loss of these terms."""
    network = published_network(width, config.bits, config.seed, config.precision)

    def forward(features: tf.Tensor, _iteration: tf.Tensor) -> tf.Tensor:
        return network(features, training=True)

    adam = Adam(lambda _iteration: tf.constant(RATE), BETA_1, BETA_2, EPSILON)
    return Method(sampler, network, forward, loss, TERMS, adam, triplet_margin=config.alpha)


def _build(config: TrainConfig, labels: NDArray[np.int32], width: int) -> Method:
    """Triplets of two classes a batch, sigmoid head, three terms."""
    sampler = triplet_sampler(labels, config.batch_size, config.seed)
    return on_published_network(config, width, sampler, lambda outputs, _labels: mhcln_terms(outputs, config.alpha))


def _squared_distance(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(a - b), axis=1)


SPEC = Iterative("MHCLN", published_network, _build, needs_pairs=True, has_margin=True)
