"""The k nearest codes, equal distances ordered by the activations that the codes were cut from."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mhcln.hamming.codes import Words, binarise, check_same_width, differing_bits, pack, words

# What a network gives before the sigmoid lies within 20 of 0: there even float32 activations are all but 0 or 1.
REACH = 20
UNKNOWN = np.iinfo(np.int32).max  # how far activations are apart if one is not known: behind all that are
BLOCK = 1 << 16  # rows whose levels are compared at a time, to bound the memory

Levels = NDArray[np.uint8]


def quantise(activations: NDArray[np.floating]) -> Levels:
    """Levels `[n, K] uint8` of activations `[n, K]` between 0 and 1, in even steps of what was before the sigmoid.

    A trained network's activations crowd at 0 and 1: after 10,000 iterations of `mhcln`, steps of the activations
    themselves are too coarse to order equal codes well. Distances between levels are whole numbers, equal in every
    language and on every processor. A level is 128 or more where the bit is set: activations 0, 0.5, 0.50001 and 1 have
    the levels 0, 127, 128 and 255.
    """
    values = activations.astype(np.float64)
    with np.errstate(divide="ignore"):  # 0 and 1 are infinitely far before the sigmoid
        before_sigmoid = np.log(values / (1 - values))
    return np.clip(np.ceil(before_sigmoid * (128 / REACH)) + 127, 0, 255).astype(np.uint8)


class Point(NamedTuple):
    """What an image is compared by.

    Attributes:
        code: `[b] uint8`, packed.
        levels: `[K] uint8`, None if its activations are not known.
    """

    code: NDArray[np.uint8]
    levels: Levels | None


def point_of(activations: NDArray[np.floating]) -> Point:
    """Return what an image with these activations `[K]` is compared by."""
    return Point(pack(binarise(activations[None]))[0], quantise(activations[None])[0])


class Nearest(NamedTuple):
    """The k nearest of a query.

    Attributes:
        rows: `[k] int64`, nearest first.
        distances: `[k]`, their Hamming distances.
        tied: How many codes of the archive are at the last of these distances, found or not.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.unsignedinteger]
    tied: int


class OrderedIndex:
    """An archive searched in the order (Hamming distance, L1 distance of levels, storage order).

    Every code at the k-th distance is considered, however many there are. A search goes over all codes, in about a
    millisecond for a million of 32 bits; `mhcln.hamming.index.Index`, which knows no activations, is faster still.

    Attributes:
        codes: `[n, b] uint8`, packed.
        levels: `[n, K] uint8`.
        known: `[n]` whether the levels of an image are known; those that are not come after their equals.
    """

    def __init__(self, codes: NDArray[np.uint8], levels: Levels, known: NDArray[np.bool_]) -> None:
        self.codes, self.levels, self.known = codes, levels, known
        self._words: Words = words(codes)

    def __len__(self) -> int:
        return len(self.codes)

    def point(self, row: int) -> Point:
        """Return what an image of the archive is compared by."""
        return Point(self.codes[row], self.levels[row] if self.known[row] else None)

    def search(self, query: Point, k: int) -> Nearest:
        """Find the k nearest images, or all if there are fewer.

        Raises:
            UserError: The query's code has another width than those of the archive.
        """
        check_same_width(query.code[None], self.codes)
        distance = differing_bits(words(query.code[None]), self._words)
        counts = np.bincount(distance)
        last = int(np.searchsorted(np.cumsum(counts), min(k, len(self))))
        near = np.flatnonzero(distance <= last)
        order = np.lexsort((self._apart(near, query.levels), distance[near]))[:k]  # stable: else in storage order
        rows = near[order]
        return Nearest(rows, distance[rows], int(counts[last]))

    def _apart(self, rows: NDArray[np.int64], levels: Levels | None) -> NDArray[np.int32]:
        """Return the L1 distances of the levels of rows `[m]` from those of a query."""
        apart = np.full(len(rows), UNKNOWN, np.int32)
        if levels is None:
            return apart
        middle = levels.astype(np.int16)
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            away = np.abs(self.levels[block] - middle).sum(axis=1, dtype=np.int32)
            apart[start : start + BLOCK] = np.where(self.known[block], away, UNKNOWN)
        return apart
