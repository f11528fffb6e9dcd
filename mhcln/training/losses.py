"""The losses, as pure functions of what the network puts out for a batch.

Symbols in the formulas: `s` are the activations of a batch, `u` the same rows scaled to Euclidean length 1, and
`d(u_a, u_b)` the squared Euclidean distance. Every function returns the terms by name as float32 scalars: "total" is
what is minimised, the others are logged.
"""

from __future__ import annotations

import numpy as np

from mhcln.quiet_tensorflow import tf

# UCMD/trainer.py:88-114 of the published code: weights of the terms, and the
# epsilon of its l2_normalize (TensorFlow's own default would be 1e-12).
PUSH_WEIGHT = 0.001
BALANCE_WEIGHT = 1.0
NORM_EPSILON = 1e-10

MHCLN_TERMS = ("total", "triplet", "push", "balance", "active")
ORTHOHASH_TERMS = ("total", "accuracy")


def mhcln_terms(activations: tf.Tensor, alpha: float) -> dict[str, tf.Tensor]:
    """The three terms of the paper, their weighted sum, and the share of triplets inside the margin.

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
    return _all_terms(activations, tf.reduce_mean(hinge), tf.reduce_mean(tf.cast(hinge > 0, tf.float32)))


def semihard_terms(activations: tf.Tensor, labels: tf.Tensor, alpha: float) -> dict[str, tf.Tensor]:
    """The terms of `mhcln_terms` with the triplets of FaceNet (Schroff et al., CVPR 2015).

    Every ordered pair of two images of one class is an anchor and a positive. Their negative is semi-hard: the nearest
    image of another class that is further from the anchor than the positive is, or the furthest image of another
    class if none is. `triplet` is the mean over these pairs, 0 if there are none.

    Args:
        activations: `[n, K] float32` in 0..1, of images of any classes.
        labels: `[n] int`.
        alpha: Margin.

    Returns:
        The terms by name, as `mhcln_terms` does.
    """
    unit = tf.math.l2_normalize(activations, axis=1, epsilon=NORM_EPSILON)
    products = tf.matmul(unit, unit, transpose_b=True)
    squares = tf.linalg.diag_part(products)
    distances = tf.nn.relu(squares[:, None] + squares[None] - 2.0 * products)
    same_class = labels[:, None] == labels[None]
    to_others = tf.where(same_class, tf.constant(np.inf, tf.float32), distances)
    order = tf.argsort(to_others, axis=1)
    # place, in that order, of the first image of another class beyond each positive
    beyond = tf.searchsorted(tf.gather(to_others, order, batch_dims=1), distances, side="right")
    others = tf.reduce_sum(tf.cast(~same_class, tf.int32), axis=1, keepdims=True)
    chosen = tf.gather(order, tf.clip_by_value(beyond, 0, tf.maximum(others - 1, 0)), batch_dims=1)
    negatives = tf.gather(distances, chosen, batch_dims=1)
    pairs = tf.logical_and(same_class, others > 0)
    pairs = tf.cast(tf.linalg.set_diag(pairs, tf.zeros_like(labels, tf.bool)), tf.float32)
    hinge = tf.nn.relu(distances - negatives + alpha) * pairs
    count = tf.maximum(tf.reduce_sum(pairs), 1.0)
    active = tf.reduce_sum(tf.cast(hinge > 0, tf.float32)) / count
    return _all_terms(activations, tf.reduce_sum(hinge) / count, active)


def orthohash_terms(
    outputs: tf.Tensor, labels: tf.Tensor, class_codes: tf.Tensor, margin: float, scale: float
) -> dict[str, tf.Tensor]:
    """Cross-entropy of the cosines to the class codes, with a margin (Hoe et al., NeurIPS 2021).

    With z the cosines of an image's outputs to all class codes, and y its class:

    - total = mean over images of -log softmax(scale * (z - margin * onehot(y)))[y]
    - accuracy = share of images that are nearest to the code of their own class

    Args:
        outputs: `[n, K] float32`, before the sign.
        labels: `[n] int`.
        class_codes: `[c, K] float32` of -1 and 1.
        margin: What is taken off the cosine to the own class.
        scale: What the cosines are multiplied by.

    Returns:
        The terms by name.
    """
    units = tf.math.l2_normalize(outputs, axis=1)
    cosines = tf.matmul(units, tf.math.l2_normalize(class_codes, axis=1), transpose_b=True)
    one_hot = tf.one_hot(labels, len(class_codes))
    losses = tf.nn.softmax_cross_entropy_with_logits(one_hot, scale * (cosines - margin * one_hot))
    nearest = tf.argmax(cosines, axis=1, output_type=labels.dtype)
    return {
        "total": tf.reduce_mean(losses),
        "accuracy": tf.reduce_mean(tf.cast(nearest == labels, tf.float32)),
    }


def _all_terms(activations: tf.Tensor, triplet: tf.Tensor, active: tf.Tensor) -> dict[str, tf.Tensor]:
    """Add push, balance and the total to a triplet term."""
    push = tf.reduce_mean(tf.square(activations - 0.5))
    balance = tf.reduce_mean(tf.square(tf.reduce_mean(activations, axis=1) - 0.5))
    total = triplet - PUSH_WEIGHT * push + BALANCE_WEIGHT * balance
    return {"total": total, "triplet": triplet, "push": push, "balance": balance, "active": active}


def _squared_distance(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(a - b), axis=1)
