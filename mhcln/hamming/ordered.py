"""The k nearest codes, equal distances ordered by the activations that the codes were cut from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mhcln.hamming.codes import Words, binarise, check_same_width, differing_bits, group, pack, words
from mhcln.hamming.top_k import ranges

# What a network gives before the sigmoid lies within 20 of 0: there even float32 activations are all but 0 or 1.
REACH = 20
UNKNOWN = np.iinfo(np.int32).max  # how far activations are apart if one is not known: behind all that are
KEY_BITS = 32  # of a row's key that hold how far activations are apart; the distance is above them
# What is compared at a time, to bound the memory and to stay in the cache.
BLOCK = 1 << 16  # levels
CODES = 1 << 18

Levels = NDArray[np.uint8]


def quantise(activations: NDArray[np.floating]) -> Levels:
    """Levels `[n, K] uint8` of activations `[n, K]` between 0 and 1, in even steps of what was before the sigmoid.

    A trained network's activations crowd at 0 and 1: after 10,000 iterations of `mhcln`, steps of the activations
    themselves are too coarse to order equal codes well. Distances between levels are whole numbers, equal in every
    language and on every processor. A level is 128 or more where the bit is set: activations 0, 0.5, 0.50001 and 1 have
    the levels 0, 127, 128 and 255.
    """
    levels = np.empty(activations.shape, np.uint8)
    for start in range(0, len(activations), BLOCK):
        values = activations[start : start + BLOCK].astype(np.float64)
        with np.errstate(divide="ignore"):  # 0 and 1 are infinitely far before the sigmoid
            before_sigmoid = np.log(values / (1 - values))
        levels[start : start + BLOCK] = np.clip(np.ceil(before_sigmoid * (128 / REACH)) + 127, 0, 255)
    return levels


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
    distances: NDArray[np.int64]
    tied: int


class LaidOut(NamedTuple):
    """Some rows of an archive, one after another, laid out for search.

    Attributes:
        codes: `[n, b] uint8`, packed, in storage order.
        distinct, first, rows: The codes in groups, as `mhcln.hamming.codes.Groups` has them.
        levels: `[n, K] uint8` in the order of `rows`: those of equal codes lie together, and so are read together. None
            if they are not known.
    """

    codes: NDArray[np.uint8]
    distinct: Words
    first: NDArray[np.uint32]
    rows: NDArray[np.uint32]
    levels: Levels | None

    def point(self, row: int) -> Point:
        """Return what a row is compared by."""
        return Point(self.codes[row], None if self.levels is None else self.levels[self._place(row)])

    def _place(self, row: int) -> int:
        """Return where a row stands in `rows`."""
        number = int(np.flatnonzero((self.distinct == words(self.codes[row : row + 1])).all(axis=0))[0])
        start = int(self.first[number])
        return start + int(np.searchsorted(self.rows[start : int(self.first[number + 1])], row))

    def levels_by_row(self) -> Levels | None:
        """Return the levels in storage order, None if they are not known."""
        if self.levels is None:
            return None
        levels = np.empty_like(self.levels)
        levels[self.rows] = self.levels
        return levels


def lay_out(codes: NDArray[np.uint8], levels: Levels | None) -> LaidOut:
    """Lay out codes `[n, b]` and levels `[n, K]`, both in storage order."""
    groups = group(words(codes))
    return LaidOut(codes, *groups, None if levels is None else levels[groups.rows])


class OrderedIndex:
    """An archive searched in the order (Hamming distance, L1 distance of levels, storage order).

    Every code at the k-th distance is considered, however many there are; rows whose levels are not known come after
    their equals. A search compares the query with each different code of each part, and reads the levels of the rows
    within the k-th distance alone, so that the rest of what is mapped from files stays there.

    Attributes:
        parts: The rows of the archive, one part after another.
    """

    def __init__(self, parts: Sequence[LaidOut]) -> None:
        self.parts = parts
        self._starts = np.cumsum([0, *(len(part.rows) for part in parts)])  # of the parts, and the end

    def __len__(self) -> int:
        return int(self._starts[-1])

    def point(self, row: int) -> Point:
        """Return what an image of the archive is compared by."""
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self.parts[part].point(row - int(self._starts[part]))

    def search(self, query: Point, k: int) -> Nearest:
        """Find the k nearest images, or all if there are fewer.

        Raises:
            UserError: The query's code has another width than those of the archive.
        """
        for part in self.parts:
            check_same_width(query.code[None], part.codes)
        near, tied = self._codes_within_kth(words(query.code[None]), min(k, len(self)))
        best = _Best(k)
        for number, codes, distances in near:
            part, start = self.parts[number], int(self._starts[number])
            first = part.first[codes]
            sizes = part.first[codes + 1] - first
            places, distances = ranges(first, sizes.astype(np.int64)), np.repeat(distances, sizes)
            for block in (slice(at, at + BLOCK) for at in range(0, len(places), BLOCK)):
                apart = _apart(part.levels, places[block], query.levels)
                best.offer(distances[block], apart, start + part.rows[places[block]].astype(np.int64))
        return best.result(tied)

    def _codes_within_kth(self, query: Words, k: int) -> tuple[list["_Near"], int]:
        """Find the different codes within the k-th distance of a query `[w, 1]`.

        Returns:
            Those of each part that has any, and the number of rows at just the k-th distance.
        """
        counts = np.zeros(64 * len(query) + 1, np.int64)  # rows at each distance, as far as they may be wanted
        kth = len(counts) - 1
        found: list[_Near] = []
        for number, part in enumerate(self.parts):
            for start in range(0, part.distinct.shape[1], CODES):
                distance = differing_bits(query, part.distinct[:, start : start + CODES])
                codes = np.flatnonzero(distance <= kth)
                if not len(codes):
                    continue
                near = _Near(number, start + codes, distance[codes])
                sizes = part.first[near.codes + 1] - part.first[near.codes]
                counts += np.bincount(near.distances, sizes, len(counts)).astype(np.int64)
                kth = int(np.searchsorted(np.cumsum(counts), k))  # never grows as rows are added
                found.append(near)
        within = [each.within(kth) for each in found]
        return [each for each in within if len(each.codes)], int(counts[kth])


class _Near(NamedTuple):
    """Different codes near a query.

    Attributes:
        part: The part that they are of.
        codes: `[m] int64`, their numbers in it.
        distances: `[m]`, from the query.
    """

    part: int
    codes: NDArray[np.int64]
    distances: NDArray[np.unsignedinteger]

    def within(self, distance: int) -> "_Near":
        """Return those at most that far away."""
        near = self.distances <= distance
        return _Near(self.part, self.codes[near], self.distances[near])


def _apart(levels: Levels | None, places: NDArray[np.int64], query: Levels | None) -> NDArray[np.int64]:
    """Return the L1 distances of the levels at some places `[m]` from those of a query."""
    if levels is None or query is None:
        return np.full(len(places), UNKNOWN)
    there = levels[places]
    return (np.maximum(there, query) - np.minimum(there, query)).sum(axis=1, dtype=np.int64)


class _Best:
    """The k best rows of what was offered so far, by (distance, L1 distance, row)."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._keys, self._rows = np.empty(0, np.int64), np.empty(0, np.int64)

    def offer(self, distances: NDArray[np.unsignedinteger], apart: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Take rows `[m]` into account."""
        keys = np.append(self._keys, distances.astype(np.int64) << KEY_BITS | apart)
        rows = np.append(self._rows, rows)
        if len(keys) > self._k:
            last = np.partition(keys, self._k - 1)[self._k - 1]
            nearer, equal = np.flatnonzero(keys < last), np.flatnonzero(keys == last)
            wanted = self._k - len(nearer)
            equal = equal[np.argpartition(rows[equal], wanted - 1)[:wanted]]
            kept = np.append(nearer, equal)
            keys, rows = keys[kept], rows[kept]
        self._keys, self._rows = keys, rows

    def result(self, tied: int) -> Nearest:
        """Return the rows, nearest first."""
        order = np.lexsort((self._rows, self._keys))
        return Nearest(self._rows[order], self._keys[order] >> KEY_BITS, tied)
