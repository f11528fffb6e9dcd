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


def check_triplet_batch(batch_size: int) -> None:
    """Raise UserError if a batch cannot be divided into anchors, positives and negatives."""
    below = batch_size // 3 * 3
    if batch_size != max(below, 3):
        raise UserError(
            f"BATCH_SIZE {batch_size} is not a multiple of 3 (anchors, positives, negatives); "
            f"try {f'{below} or {below + 3}' if below else 3}"
        )


def check_classes(labels: NDArray[np.int32]) -> None:
    """Raise UserError if all images are of one class."""
    if len(np.unique(labels)) < 2:
        raise UserError("the training images are of one class; codes that tell classes apart need two")


def triplet_sampler(labels: NDArray[np.int32], batch_size: int, seed: int) -> Sampler:
    """Draw the batches of the paper: anchors and positives of one class, negatives of another, anew each iteration.

    The ordered pair of classes is uniform over those whose first has two images or more. An image is never its own
    positive. If the class has 2/3 of a batch or more images, anchors and positives are disjoint, as in
    UCMD/trainer.py:48-71 of the published code; smaller classes give their images several times, with other partners
    each time.

    Args:
        labels: `[n] int`, class of each training image.
        batch_size: Images in a batch: a third anchors, a third positives, a third negatives, in this order.
        seed: Seed of the draws.

    Returns:
        The sampler.

    Raises:
        UserError: `batch_size` is not a multiple of 3, or the labels allow no triplet.
    """
    check_triplet_batch(batch_size)
    classes = _Classes(labels)
    third = batch_size // 3
    place = tf.range(third)[None]

    def sample(number: tf.Tensor) -> tf.Tensor:
        draws = integers((BLOCK, 2 + 2 * classes.largest), seed, number)
        first, second = classes.draw_pair(draws[:, :1], draws[:, 1:2])
        n = tf.gather(classes.counts, first)
        order = classes.shuffle(first, draws[:, 2 : 2 + classes.largest])
        shift = 1 + (tf.minimum(third, n // 2) - 1 + place // n) % (n - 1)
        anchors = tf.gather(order, place % n, batch_dims=1)
        positives = tf.gather(order, (place + shift) % n, batch_dims=1)
        others = classes.shuffle(second, draws[:, 2 + classes.largest :])
        negatives = tf.gather(others, place % tf.gather(classes.counts, second), batch_dims=1)
        return tf.gather(classes.rows, tf.concat([anchors, positives, negatives], axis=1))

    return sample


def uniform_sampler(labels: NDArray[np.int32], batch_size: int, seed: int) -> Sampler:
    """Draw batches of training images, each image independently of all others.

    Args:
        labels: `[n] int`, class of each training image.
        batch_size: Images in a batch.
        seed: Seed of the draws.

    Returns:
        The sampler.

    Raises:
        UserError: All images are of one class.
    """
    check_classes(labels)
    images = len(labels)

    def sample(number: tf.Tensor) -> tf.Tensor:
        return integers((BLOCK, batch_size), seed, number, below=images)

    return sample


class _Classes:
    """The training rows sorted by class, as tensors.

    Attributes:
        rows: `[n] int32`, class by class.
        counts: `[c] int32`, images of each class.
        largest: Images of the largest class.
    """

    def __init__(self, labels: NDArray[np.int32]) -> None:
        classes, counts = np.unique(labels, return_counts=True)
        pairable = np.flatnonzero(counts >= 2)
        if len(classes) < 2 or not len(pairable):
            raise UserError(
                f"no triplets can be made: the training images have {len(classes)} classes, {len(pairable)} of them "
                "with two images or more; a triplet needs two classes, one of them with two images"
            )
        self.rows = tf.constant(np.argsort(labels, kind="stable"), tf.int32)
        self.counts = tf.constant(counts, tf.int32)
        self.largest = int(counts.max())
        self._starts = tf.constant(np.cumsum(counts) - counts, tf.int32)
        self._pairable = tf.constant(pairable, tf.int32)

    def draw_pair(self, first_draws: tf.Tensor, second_draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Turn int32 draws `[b, 1]` into a class that has two images or more, and another class."""
        # remainders are 0 or more, also those of negative draws; c of them are uneven by c / 2^32 at most
        first = tf.gather(self._pairable, first_draws % len(self._pairable))
        second = second_draws % (len(self.counts) - 1)
        return first, second + tf.cast(second >= first, tf.int32)

    def shuffle(self, of_class: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """Order the images of the classes `[b, 1]` by random int32 `keys` `[b, largest]`: positions in `rows`."""
        # the keys beyond the class's own images sort behind them, which keeps the shape fixed; of equal keys the first
        # comes first, so that an image's own key may be the smallest too
        outside = tf.range(self.largest)[None] >= tf.gather(self.counts, of_class)
        order = tf.math.top_k(tf.where(outside, tf.int32.min, keys), self.largest).indices
        return tf.gather(self._starts, of_class) + order
