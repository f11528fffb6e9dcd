"""The losses, as pure functions of what the network puts out for a batch."""

from mhcln.runtime import tf

# UCMD/trainer.py:88-114 of the published code, read in research for this rebuild: weights of the terms, and the
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
    triplet = tf.reduce_mean(hinge)
    push = tf.reduce_mean(tf.square(activations - 0.5))
    balance = tf.reduce_mean(tf.square(tf.reduce_mean(activations, axis=1) - 0.5))
    return {
        "total": triplet - PUSH_WEIGHT * push + BALANCE_WEIGHT * balance,
        "triplet": triplet,
        "push": push,
        "balance": balance,
        "active": tf.reduce_mean(tf.cast(hinge > 0, tf.float32)),
    }


def _squared_distance(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(a - b), axis=1)


ORTHOHASH_TERMS = ("total", "accuracy")


def orthohash_terms(
    outputs: tf.Tensor, labels: tf.Tensor, targets: tf.Tensor, margin: float, scale: float
) -> dict[str, tf.Tensor]:
    """Cross-entropy of the cosines to the class targets, with a margin (Hoe et al., NeurIPS 2021, equation 8).

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
