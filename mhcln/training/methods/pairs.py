"""Pairs of the images of a batch, for losses that compare two images at a time."""

from __future__ import annotations

from mhcln.quiet_tensorflow import tf


def similarity(labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return which pairs of images are of one class, and which pairs there are: an image makes none with itself.

    Args:
        labels: `[b] int`.

    Returns:
        Two `[b, b] float32` of 0 and 1.
    """
    same = tf.cast(labels[:, None] == labels[None], tf.float32)
    pairs = tf.ones_like(same) - tf.eye(tf.shape(labels)[0])
    return same * pairs, pairs


def mean_of(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Return the mean of values with weights, 0 if these are all 0."""
    return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(weights))


def squared_distances(outputs: tf.Tensor) -> tf.Tensor:
    """Return the squared Euclidean distances `[b, b]` between outputs `[b, K]`."""
    return tf.reduce_sum(tf.square(outputs[:, None] - outputs[None]), axis=2)


def half_products(outputs: tf.Tensor) -> tf.Tensor:
    """Return half the inner products `[b, b]` of outputs `[b, K]`."""
    return tf.matmul(outputs, outputs, transpose_b=True) / 2.0


def distance_to_signs(outputs: tf.Tensor) -> tf.Tensor:
    """Return the mean over images and bits of (u - sign u)² of outputs u `[b, K]`."""
    return tf.reduce_mean(tf.square(outputs - tf.sign(outputs)))
