"""The losses, as pure functions of what the network puts out for a batch."""

import numpy as np

from mhcln.runtime import tf

# UCMD/trainer.py:88-114 of the published code: weights of the terms, and the
# epsilon of its l2_normalize (TensorFlow's own default would be 1e-12).
PUSH_WEIGHT = 0.001
BALANCE_WEIGHT = 1.0
NORM_EPSILON = 1e-10

MHCLN_TERMS = ("total", "triplet", "push", "balance", "active")


def mhcln_terms(activations: tf.Tensor, alpha: float) -> dict[str, tf.Tensor]:
    """The three terms of the paper, their weighted sum, and the share of triplets that still pull.

    `activations` [3 t, K] float32 in 0..1: t anchors, then their t positives, then their t negatives. With u the
    L2-normalised activations and d the squared Euclidean distance:

    - triplet = mean over triplets of max(d(u_a, u_p) - d(u_a, u_n) + alpha, 0)
    - push = mean over images and bits of (s - 0.5)², rewarded: it drives activations away from 0.5
    - balance = mean over images of (mean over bits of s - 0.5)²
    - total = triplet - 0.001 push + balance
    - active = share of triplets inside the margin, whose hinge is above 0
    """
    anchors, positives, negatives = tf.split(tf.math.l2_normalize(activations, axis=1, epsilon=NORM_EPSILON), 3)
    hinge = tf.nn.relu(_squared_distance(anchors, positives) - _squared_distance(anchors, negatives) + alpha)
    return _with_triplet(activations, tf.reduce_mean(hinge), tf.reduce_mean(tf.cast(hinge > 0, tf.float32)))


def semihard_terms(activations: tf.Tensor, labels: tf.Tensor, alpha: float) -> dict[str, tf.Tensor]:
    """The terms of `mhcln_terms` with the triplets of FaceNet (Schroff et al., CVPR 2015).

    `activations` [n, K] float32 of images of any classes, `labels` [n] int. Every ordered pair of two images of a
    class is an anchor and a positive; their negative is semi-hard: the nearest image of another class that lies
    further from the anchor than the positive does, or the furthest where none does. `triplet` is the mean over
    these pairs, 0 where there is none.
    """
    unit = tf.math.l2_normalize(activations, axis=1, epsilon=NORM_EPSILON)
    products = tf.matmul(unit, unit, transpose_b=True)
    squares = tf.linalg.diag_part(products)
    distances = tf.nn.relu(squares[:, None] + squares[None] - 2.0 * products)
    alike = labels[:, None] == labels[None]
    others = tf.where(alike, tf.constant(np.inf, tf.float32), distances)
    order = tf.argsort(others, axis=1)
    further = tf.searchsorted(tf.gather(others, order, batch_dims=1), distances, side="right")
    count = tf.reduce_sum(tf.cast(~alike, tf.int32), axis=1, keepdims=True)
    chosen = tf.gather(order, tf.clip_by_value(further, 0, tf.maximum(count - 1, 0)), batch_dims=1)
    negatives = tf.gather(distances, chosen, batch_dims=1)
    pairs = tf.logical_and(alike, count > 0)
    pairs = tf.cast(tf.linalg.set_diag(pairs, tf.zeros_like(labels, tf.bool)), tf.float32)
    hinge = tf.nn.relu(distances - negatives + alpha) * pairs
    total = tf.maximum(tf.reduce_sum(pairs), 1.0)
    active = tf.reduce_sum(tf.cast(hinge > 0, tf.float32)) / total
    return _with_triplet(activations, tf.reduce_sum(hinge) / total, active)


def _with_triplet(activations: tf.Tensor, triplet: tf.Tensor, active: tf.Tensor) -> dict[str, tf.Tensor]:
    push = tf.reduce_mean(tf.square(activations - 0.5))
    balance = tf.reduce_mean(tf.square(tf.reduce_mean(activations, axis=1) - 0.5))
    total = triplet - PUSH_WEIGHT * push + BALANCE_WEIGHT * balance
    return {"total": total, "triplet": triplet, "push": push, "balance": balance, "active": active}


def _squared_distance(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(a - b), axis=1)


ORTHOHASH_TERMS = ("total", "accuracy")


def orthohash_terms(
    outputs: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor, margin: float, scale: float
) -> dict[str, tf.Tensor]:
    """Cross-entropy of the cosines to the class targets, with a margin (Hoe et al., NeurIPS 2021).

    `outputs` [n, K] float32 before the sign, `labels` [n] int, `targets` [c, K] of -1 and 1. With z the cosine of an
    image's outputs to every target and y its class:

    - total = mean over images of -log softmax(scale * (z - margin * onehot(y)))[y]
    - accuracy = share of images nearest to the target of their own class
    """
    cosines = tf.matmul(tf.math.l2_normalize(outputs, axis=1), tf.math.l2_normalize(targets, axis=1), transpose_b=True)
    hot = tf.one_hot(labels, len(targets))
    losses = tf.nn.softmax_cross_entropy_with_logits(hot, scale * (cosines - margin * hot))
    nearest = tf.argmax(cosines, axis=1, output_type=labels.dtype)
    return {
        "total": tf.reduce_mean(losses),
        "accuracy": tf.reduce_mean(tf.cast(nearest == labels, tf.float32)),
    }
