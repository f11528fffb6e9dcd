"""Images that occur more than once, and splits that keep all copies of an image on one side."""

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.storage.mapped import Vectors

Rows = NDArray[np.int64]
Labels = NDArray[np.integer[Any]]

_ROWS_READ = 4096  # at a time
_DIGEST_BYTES = 16  # of BLAKE2b: two of 2**40 different rows agree by chance less often than once in 2**48 data sets


def equal_images(vectors: Vectors, paths: Sequence[str]) -> Rows:
    """Find the images that are equal: the same features bit by bit, or one path but for the ending.

    Features that are the same for all images are not used.

    Args:
        vectors: `[n, d]`, features of the images.
        paths: Their paths.

    Returns:
        `[n]`, the row of the first image that each image is equal to: its own for an image that occurs once.
    """
    first = list(range(len(paths)))

    def root(row: int) -> int:
        while first[row] != row:
            first[row] = first[first[row]]
            row = first[row]
        return row

    digests = _digests(vectors)
    same_name = _links(map(without_ending, paths))
    same_features = _links(digests) if len(set(digests)) > 1 else []
    for row, earlier in same_features + same_name:
        low, high = sorted((root(row), root(earlier)))
        first[high] = low
    return np.array([root(row) for row in range(len(paths))], np.int64)


def _digests(vectors: Vectors) -> list[bytes]:
    digests = []
    for start in range(0, len(vectors), _ROWS_READ):
        block = np.ascontiguousarray(vectors[start : start + _ROWS_READ])
        digests += [hashlib.blake2b(row, digest_size=_DIGEST_BYTES).digest() for row in block]
    return digests


def without_ending(path: str) -> str:
    """Return a path without the ending of its file."""
    stem, _, ending = path.rpartition(".")
    return stem if ending and "/" not in ending and stem and not stem.endswith("/") else path


def _links(keys: Iterable[Hashable]) -> list[tuple[int, int]]:
    """Return each row whose key occurred before, with the first row of that key."""
    seen: dict[Hashable, int] = {}
    return [(row, earlier) for row, key in enumerate(keys) if (earlier := seen.setdefault(key, row)) != row]


def groups_of_several(groups: Rows) -> list[Rows]:
    """Return the rows of each group of two or more, given the group of every row."""
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(counts[inverse] > 1)
    ordered = rows[np.argsort(inverse[rows], kind="stable")]
    return np.split(ordered, np.flatnonzero(np.diff(inverse[ordered])) + 1) if len(rows) else []


def equal_across(groups: Rows, train: Rows, test: Rows) -> list[tuple[int, int]]:
    """Find the test images that have an equal image among the training images.

    Args:
        groups: As `equal_images` returns them.
        train: Rows of the training images.
        test: Rows of the test images; images that are also trained on are ignored.

    Returns:
        The row of each such image, and the row of an equal training image.
    """
    trained = dict(zip(groups[train].tolist(), train.tolist(), strict=True))
    alone = test[~np.isin(test, train)]
    pairs = zip(alone.tolist(), groups[alone].tolist(), strict=True)
    return [(row, trained[group]) for row, group in pairs if group in trained]


def found_among(vectors: Vectors, others: Iterable[Vectors]) -> NDArray[np.bool_]:
    """Return `[n]`, which of the features `[n, d]` are bit by bit among several of other images, each `[m, d]`.

    Features that are the same for all images are not used.
    """
    known = {digest for each in others for digest in _digests(each)}
    if len(known) < 2:
        return np.zeros(len(vectors), bool)
    return np.array([digest in known for digest in _digests(vectors)], bool)


def keep_together(
    draw: Sequence[tuple[Rows, int]], labels: Labels, groups: Rows | None, training: bool
) -> NDArray[np.bool_]:
    """Choose the first images of each class in drawn order, but all of a group or none.

    A group that the draw tears apart goes where it disturbs least: where no class is left with one side only, the
    numbers per class stay as drawn, and the fewest images move. Images without a copy take their places in drawn order.
    The numbers of a class change only if its groups do not fit them. A group may reach over classes.

    Args:
        draw: For each class, in the order of the labels, its rows in drawn order and how many of them to choose.
        labels: `[n]`, class of each image.
        groups: As `equal_images` returns them; None if no images are equal.
        training: Whether the chosen images are the training images. A class with only one side has training images.

    Returns:
        `[n] bool`, true for the chosen images.
    """
    chosen, grouped = np.zeros(len(labels), bool), np.zeros(len(labels), bool)
    for rows, count in draw:
        chosen[rows[:count]] = True
    class_of = np.unique(labels, return_inverse=True)[1]
    sizes, counts = np.bincount(class_of), np.array([count for _, count in draw], np.int64)
    wanted = {True: counts, False: sizes - counts}
    taken = {True: np.zeros_like(sizes), False: np.zeros_like(sizes)}  # images of groups that have their side

    def is_torn(rows: Rows) -> bool:
        return len(set(chosen[rows].tolist())) > 1

    def disturbance(rows: Rows, side: bool) -> tuple[int, int, int]:
        classes, members = np.unique(class_of[rows], return_counts=True)
        there = taken[side][classes] + members
        one_sided = (there == sizes[classes]).any() * (1 if side == training else 2)
        excess = np.maximum(there - wanted[side][classes], 0).sum()
        return int(one_sided), int(excess), int((chosen[rows] != side).sum())

    several = [] if groups is None else groups_of_several(groups)
    for rows in sorted(several, key=lambda rows: (is_torn(rows), -len(rows))):
        side = bool(chosen[rows[0]])
        if is_torn(rows) and disturbance(rows, not side) < disturbance(rows, side):
            side = not side
        chosen[rows], grouped[rows] = side, True
        np.add.at(taken[side], class_of[rows], 1)
    for (rows, count), groups_chosen in zip(draw, taken[True].tolist(), strict=True):
        free = rows[~grouped[rows]]
        chosen[free] = np.arange(len(free)) < count - groups_chosen
    return chosen
