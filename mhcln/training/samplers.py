"""Which training images make a batch: drawn in the graph, from seed and iteration alone, so that a run can resume."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.quiet_tensorflow import tf
from mhcln.training.draws import integers

# Iterations whose batches are drawn together: drawing each by itself took a quarter of an iteration's time.
BLOCK = 64

# Draws the training rows [BLOCK, batch] int32 of iterations `BLOCK * number` and following, given the number (int64).
Sampler = Callable[["tf.Tensor"], "tf.Tensor"]


def triplet_sampler(labels: NDArray[np.int32], batch_size: int, seed: int) -> Sampler:
    """Draw the batches of the paper: anchors and positives of one class, negatives of another, anew each iteration.

    The ordered pair of classes is uniform over those whose first has two images or more. An image is never its own
    positive. If the class has 2/3 of a batch or more images, anchors and positives are disjoint, as in
    UCMD/trainer.py:48-71 of the published code; smaller classes give their images several times, with other partners
    each time.

    Args:
        labels: `[n] int`, class of each training image, of two classes or more.
        batch_size: Images in a batch: a third anchors, a third positives, a third negatives, in this order.
        seed: Seed of the draws.

    Returns:
        The sampler.
    """
    if batch_size % 3:
        below = max(batch_size // 3 * 3, 3)
        raise UserError(
            f"a batch of {batch_size} images is not a multiple of 3 (anchors, positives, negatives); take {below} or "
            f"{below + 3}"
        )
    classes, sizes = np.unique(labels, return_counts=True)
    several = np.flatnonzero(sizes >= 2)
    if not len(several):
        raise UserError("no triplets can be made: a triplet needs two images of a class, and each class has one")
    # the training rows, class by class, how many each class has, and where they begin
    rows = tf.constant(np.argsort(labels, kind="stable"), tf.int32)
    counts, starts = tf.constant(sizes, tf.int32), tf.constant(np.cumsum(sizes) - sizes, tf.int32)
    pairable, largest = tf.constant(several, tf.int32), int(sizes.max())
    third = batch_size // 3
    place = tf.range(third)[None]

    def shuffled(of_class: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """Order the images of the classes `[b, 1]` by random int32 `keys` `[b, largest]`: positions in `rows`."""
        # the keys beyond the class's own images sort behind them, which keeps the shape fixed; of equal keys the first
        # comes first, so that an image's own key may be the smallest too
        outside = tf.range(largest)[None] >= tf.gather(counts, of_class)
        order = tf.math.top_k(tf.where(outside, tf.int32.min, keys), largest).indices
        return tf.gather(starts, of_class) + order

    def sample(number: tf.Tensor) -> tf.Tensor:
        draws = integers((BLOCK, 2 + 2 * largest), seed, number)
        # A class that has two images or more, and another one. A remainder is never negative, even of a negative draw;
        # c of them are uneven by c / 2^32 at most.
        first = tf.gather(pairable, draws[:, :1] % len(several))
        second = draws[:, 1:2] % (len(classes) - 1)
        second += tf.cast(second >= first, tf.int32)
        n = tf.gather(counts, first)
        order = shuffled(first, draws[:, 2 : 2 + largest])
        shift = 1 + (tf.minimum(third, n // 2) - 1 + place // n) % (n - 1)
        anchors = tf.gather(order, place % n, batch_dims=1)
        positives = tf.gather(order, (place + shift) % n, batch_dims=1)
        others = shuffled(second, draws[:, 2 + largest :])
        negatives = tf.gather(others, place % tf.gather(counts, second), batch_dims=1)
        return tf.gather(rows, tf.concat([anchors, positives, negatives], axis=1))

    return sample


def uniform_sampler(labels: NDArray[np.int32], batch_size: int, seed: int) -> Sampler:
    """Draw batches of training images, each image independently of all others.

    Args:
        labels: `[n] int`, class of each training image.
        batch_size: Images in a batch.
        seed: Seed of the draws.

    Returns:
        The sampler.
    """
    images = len(labels)

    def sample(number: tf.Tensor) -> tf.Tensor:
        return integers((BLOCK, batch_size), seed, number, below=images)

    return sample
