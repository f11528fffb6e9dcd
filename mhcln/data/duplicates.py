"""Images that occur more than once, and splits that keep all copies of an image on one side."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.storage.mapped import Vectors

Rows = NDArray[np.int64]
Labels = NDArray[np.integer[Any]]

_BLOCK = 4096  # rows that are read at a time
_DIGEST_BYTES = 16  # of BLAKE2b: two of 2**40 different rows agree by chance less often than once in 2**48 data sets


def equal_images(vectors: Vectors, paths: Sequence[str]) -> Rows:
    """Find the images that are equal: the same features bit by bit, or one path but for the ending.

    Features that are the same for all images tell none apart, and are not used.

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
    same_name = _links(map(_without_ending, paths))
    same_features = _links(digests) if len(set(digests)) > 1 else []
    for row, earlier in same_features + same_name:
        low, high = sorted((root(row), root(earlier)))
        first[high] = low
    return np.array([root(row) for row in range(len(paths))], np.int64)


def _digests(vectors: Vectors) -> list[bytes]:
    digests = []
    for start in range(0, len(vectors), _BLOCK):
        block = np.ascontiguousarray(vectors[start : start + _BLOCK])
        digests += [hashlib.blake2b(row, digest_size=_DIGEST_BYTES).digest() for row in block]
    return digests


def _without_ending(path: str) -> str:
    return path.removesuffix(PurePosixPath(path).suffix)


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
        test: Rows of the test images. Those that are also trained on are left alone.

    Returns:
        The row of each such image, and that of a training image that it is equal to.
    """
    trained = dict(zip(groups[train].tolist(), train.tolist(), strict=True))
    alone = test[~np.isin(test, train)]
    pairs = zip(alone.tolist(), groups[alone].tolist(), strict=True)
    return [(row, trained[group]) for row, group in pairs if group in trained]


def found_among(vectors: Vectors, others: Iterable[Vectors]) -> NDArray[np.bool_]:
    """Return `[n]`, which of the features `[n, d]` are bit by bit among several of other images, each `[m, d]`.

    Others that are all the same tell none apart, and are not used.
    """
    known = {digest for each in others for digest in _digests(each)}
    if len(known) < 2:
        return np.zeros(len(vectors), bool)
    return np.array([digest in known for digest in _digests(vectors)], bool)


def keep_together(
    draw: Mapping[int, tuple[Rows, int]], labels: Labels, groups: Rows, training: bool
) -> NDArray[np.bool_]:
    """Choose the first images of each class in drawn order, but all of a group or none.

    A group that the draw tears apart goes where it disturbs least: where no class is left with one side only, the
    numbers per class stay as drawn, and the fewest images move. Images without a copy take their places in drawn order.
    The numbers of a class change only if its groups do not fit them. A group may reach over classes.

    Args:
        draw: For each class its rows in drawn order, and how many of them to choose.
        labels: `[n]`, class of each image.
        groups: As `equal_images` returns them.
        training: Whether the chosen images are those to train on. A class with only one side has that.

    Returns:
        `[n] bool`, true for the chosen images.
    """
    chosen = np.zeros(len(labels), bool)
    for rows, count in draw.values():
        chosen[rows[:count]] = True
    several = groups_of_several(groups)
    if not several:
        return chosen
    grouped = np.zeros(len(labels), bool)
    grouped[np.concatenate(several)] = True
    torn = sorted((rows for rows in several if len(set(chosen[rows].tolist())) > 1), key=len, reverse=True)
    placed = grouped.copy()
    placed[[row for rows in torn for row in rows.tolist()]] = False
    taken = {
        side: {label: int((placed[rows] & (chosen[rows] == side)).sum()) for label, (rows, _) in draw.items()}
        for side in (False, True)
    }
    for rows in torn:
        members = dict(zip(*(found.tolist() for found in np.unique(labels[rows], return_counts=True)), strict=True))
        disturbance = _disturbance(draw, taken, members, training)
        moved = {side: int((chosen[rows] != side).sum()) for side in (False, True)}
        first = bool(chosen[rows[0]])
        side = min((first, not first), key=lambda side: (*disturbance(side), moved[side]))
        chosen[rows] = side
        for label, count in members.items():
            taken[side][label] += count
    for label, (rows, count) in draw.items():
        free = rows[~grouped[rows]]
        chosen[free] = np.arange(len(free)) < count - taken[True][label]
    return chosen


def _disturbance(
    draw: Mapping[int, tuple[Rows, int]],
    taken: Mapping[bool, Mapping[int, int]],
    members: Mapping[int, int],
    training: bool,
) -> Callable[[bool], tuple[int, int]]:
    """Return a function of a side: what it costs to put a group there.

    Args:
        draw: As in `keep_together`.
        taken: For each side and class, the images of groups that are there already.
        members: Images of the group in each class.
        training: The side that is trained on.
    """

    def of_side(side: bool) -> tuple[int, int]:
        one_sided = excess = 0
        for label, count in members.items():
            rows, chosen = draw[label]
            there = taken[side][label] + count
            if there == len(rows):
                one_sided = max(one_sided, 1 if side == training else 2)
            excess += max(there - (chosen if side else len(rows) - chosen), 0)
        return one_sided, excess

    return of_side
