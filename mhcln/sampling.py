"""Which training images make a batch: drawn in the graph, from seed and iteration alone, so that a run can resume."""

from collections.abc import Callable

import numpy as np

from mhcln.errors import UserError
from mhcln.runtime import tf

# Iterations whose batches are drawn together: drawing each by itself took a quarter of an iteration's time.
BLOCK = 64

# Draws the training rows [BLOCK, batch] int32 of iterations `BLOCK * number` and following, given the number (int64).
Sampler = Callable[[tf.Tensor], tf.Tensor]


def triplet_sampler(labels: np.ndarray, batch_size: int, seed: int) -> Sampler:
    """Batches of the paper: anchors and positives of one class, negatives of one other, both drawn anew.

    `labels` [n] int of the training rows. The ordered pair of classes is uniform over those whose first has two
    images or more. An image never meets itself as its positive; with 2/3 of a batch or more images in the class,
    anchors and positives are disjoint, as in UCMD/trainer.py:48-71 of the published code. Smaller classes give their
    images several times, with other partners each time.

    Raises UserError where `batch_size` is not a multiple of 3, or the labels allow no triplet.
    """
    if batch_size < 3 or batch_size % 3:
        raise UserError(
            f"BATCH_SIZE {batch_size} is not a multiple of 3 (anchors, positives, negatives); "
            f"try {batch_size // 3 * 3 + 3}"
        )
    classes, counts = np.unique(labels, return_counts=True)
    pairable = np.flatnonzero(counts >= 2)
    if len(classes) < 2 or not len(pairable):
        raise UserError(
            f"no triplets can be made: the training images have {len(classes)} classes, {len(pairable)} of them with "
            "two images or more; a triplet needs two classes, one of them with two images"
        )
    members = tf.constant(np.argsort(labels, kind="stable"), tf.int32)
    starts = tf.constant(np.cumsum(counts) - counts, tf.int32)
    counts = tf.constant(counts, tf.int32)
    anchor_classes = tf.constant(pairable, tf.int32)
    third, largest = batch_size // 3, int(tf.reduce_max(counts))
    place = tf.range(third)[None]

    def shuffled(of_class: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        # the keys beyond the class's own images sort behind them, which keeps the shape fixed
        outside = tf.range(largest)[None] >= tf.gather(counts, of_class)
        return tf.gather(starts, of_class) + tf.argsort(tf.where(outside, 2.0, keys), stable=True)

    def sample(number: tf.Tensor) -> tf.Tensor:
        draws = tf.random.stateless_uniform([BLOCK, 2 + 2 * largest], _key(seed, number), alg="philox")
        # a float32 draw is below 1 by 2^-23 or more, so that the product rounds to below the count
        first = tf.gather(anchor_classes, tf.cast(draws[:, :1] * len(pairable), tf.int32))
        second = tf.cast(draws[:, 1:2] * (len(classes) - 1), tf.int32)
        second += tf.cast(second >= first, tf.int32)
        n = tf.gather(counts, first)
        order = shuffled(first, draws[:, 2 : 2 + largest])
        shift = 1 + (tf.minimum(third, n // 2) - 1 + place // n) % (n - 1)
        anchors = tf.gather(order, place % n, batch_dims=1)
        positives = tf.gather(order, (place + shift) % n, batch_dims=1)
        others = shuffled(second, draws[:, 2 + largest :])
        negatives = tf.gather(others, place % tf.gather(counts, second), batch_dims=1)
        return tf.gather(members, tf.concat([anchors, positives, negatives], axis=1))

    return sample


def uniform_sampler(labels: np.ndarray, batch_size: int, seed: int) -> Sampler:
    """Batches of `batch_size` training rows, each drawn independently of all others.

    `labels` [n] int of the training rows. Raises UserError where they are of one class.
    """
    if len(np.unique(labels)) < 2:
        raise UserError("the training images are of one class; codes that tell classes apart need two")
    images = len(labels)

    def sample(number: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform(
            [BLOCK, batch_size], _key(seed, number), 0, images, dtype=tf.int32, alg="philox"
        )

    return sample


def _key(seed: int, number: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.constant(seed, tf.int64), number])
