"""The exact k nearest codes of an archive, equal distances ordered by activations if these are known."""

import os
from bisect import bisect
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mhcln.hamming.codes import (
    Levels,
    Points,
    SortedCodes,
    Words,
    differing_bits,
    lay_out,
    require_same_width,
    words,
)

PART_CODES = 1 << 20  # codes that are laid out together
CELLS = 1 << 23  # distances that a thread works on at a time: they bound the memory of a search
LEVEL_BLOCK = 1 << 18  # levels, or rows without levels, that a thread reads at a time: they fit a level-2 cache
SAMPLE = 1 << 12  # codes, at least, that give a first bound of the k-th distance
FEW = 4  # with fewer queries, or codes of each first half, comparing first halves does not pay
# A key, from its highest bits down: 15 bits of query, 20 of distance, 28 of the L1 distance of levels.
QUERY, DISTANCE = 48, 28
MOST_QUERIES, FARTHEST, UNKNOWN_L1 = (1 << 15) - 1, (1 << 20) - 1, (1 << 28) - 1

Numbers = NDArray[np.int64]
Distances = NDArray[np.unsignedinteger]
Near = tuple[Numbers, Numbers, Distances]  # of codes: the number of the query, the number of the code, the distance


class Nearest(NamedTuple):
    """The k nearest of each query.

    Attributes:
        rows: `[q, k] int64`, rows of the archive, nearest first.
        distances: `[q, k] int64`, their Hamming distances.
        tied: `[q] int64`, number of rows of the archive at the last of these distances.
    """

    rows: Numbers
    distances: Numbers
    tied: Numbers


class Index:
    """An archive that is searched exactly, in the order (Hamming distance, L1 distance of levels, row).

    A search compares the queries with the different codes of each part, and looks up the rows within the k-th distance.
    The other rows and levels are not read, which keeps them on disk if they are mapped from a file.

    Attributes:
        parts: The archive, one part after another.
    """

    def __init__(self, *archive: NDArray[np.uint8] | SortedCodes) -> None:
        """Take the archive: packed codes `[n, b]`, or parts that are laid out already."""
        self.parts: list[SortedCodes] = []
        for part in archive:
            if isinstance(part, SortedCodes):
                self.parts.append(part)
            else:
                starts = range(0, max(1, len(part)), PART_CODES)
                self.parts += [lay_out(part[start : start + PART_CODES]) for start in starts]
        *self._starts, self._end = np.cumsum([0, *(len(part.codes) for part in self.parts)]).tolist()

    def __len__(self) -> int:
        return self._end

    def stored(self, row: int) -> Points:
        """Return the code and the levels of an image of the archive."""
        number = bisect(self._starts, row) - 1
        part, row = self.parts[number], row - self._starts[number]
        levels = part.levels_of(row)
        return Points(part.codes[row][None], None if levels is None else levels[None])

    def search(
        self,
        queries: NDArray[np.uint8],
        k: int,
        levels: Levels | None = None,
        exclude: NDArray[np.integer] | None = None,
    ) -> Nearest:
        """Find the k nearest rows of the archive for each query, or all if there are fewer.

        Args:
            queries: `[q, b] uint8`, packed codes.
            k: Rows to find for each query.
            levels: `[q, K] uint8`, which order rows at equal distance; rows whose levels are not known come after
                their equals. None orders equals by row alone.
            exclude: `[q]` one row to leave out for each query, such as the query itself; -1 leaves out none.
        """
        for part in self.parts:
            require_same_width(queries, part.codes)
        count, threads = len(queries), os.cpu_count() or 1
        left_out = np.full(count, -1) if exclude is None else np.asarray(exclude)
        k = min(k, len(self) - bool((left_out >= 0).any()))
        found = Nearest(*(np.empty(shape, np.int64) for shape in ((count, k), (count, k), count)))
        widest = max(*(part.distinct.shape[1] for part in self.parts), k, 8 * queries.shape[1])
        step = max(1, min(CELLS // widest, -(-count // threads), MOST_QUERIES))

        def search(start: int) -> None:
            block = slice(start, start + step)
            near = self._search(queries[block], k, None if levels is None else levels[block], left_out[block])
            for all_values, values in zip(found, near, strict=True):
                all_values[block] = values

        starts = range(0, count, step)
        with ThreadPoolExecutor(threads) as pool:  # which starts threads when it is given work
            list((pool.map if len(starts) > 1 else map)(search, starts))  # a list, to raise what a thread raised
        return found

    def _search(self, queries: NDArray[np.uint8], k: int, levels: Levels | None, left_out: Numbers) -> Nearest:
        """Search for a block of queries."""
        near, limits, tied = self._codes_within_kth(words(queries), k, left_out)
        keys, rows = np.empty(0, np.int64), np.empty(0, np.int64)
        kth_keys = np.full(len(queries), np.iinfo(np.int64).max)
        step = max(1, k, LEVEL_BLOCK // (1 if levels is None else levels.shape[1]))
        for part, start, (query, code, distance) in zip(self.parts, self._starts, near, strict=True):
            within = distance <= limits[query]
            query, code, distance = query[within], code[within], distance[within].astype(np.int64)
            most = k + 1 if levels is None or part.levels is None else len(part.rows)
            first = part.first[code].astype(np.int64)
            sizes = np.minimum(part.first[code + 1] - first, most)
            for begin in range(0, int(sizes.sum()), step):
                hit, place = _in_ranges(first, sizes, begin, begin + step)
                apart = _l1_distances(part.levels, place, levels, query[hit])
                found = start + part.rows[place].astype(np.int64)
                more = query[hit] << QUERY | distance[hit] << DISTANCE | apart
                kept = (found != left_out[query[hit]]) & (more <= kth_keys[query[hit]])
                keys, rows = _first_k(np.append(keys, more[kept]), np.append(rows, found[kept]), k, kth_keys)
        shape = len(queries), k
        return Nearest(rows.reshape(shape), (keys >> DISTANCE & FARTHEST).reshape(shape), tied)

    def _codes_within_kth(self, queries: Words, k: int, left_out: Numbers) -> tuple[list[Near], Numbers, Numbers]:
        """Find the different codes within the k-th distance of each query `[w, q]`.

        Returns:
            These codes of each part, and perhaps others; the k-th distance of each query; and how many rows are at
            just that distance.
        """
        count, farthest = queries.shape[1], 8 * self.parts[0].codes.shape[1]
        limits, counts = np.full(count, farthest), np.zeros((count, farthest + 1), np.int64)
        near = []
        for part, start in zip(self.parts, self._starts, strict=True):
            if farthest in limits:
                limits = np.minimum(limits, _first_limits(queries, part, k + 1))
            query, code, distance = _codes_within(queries, limits, part)
            near.append((query, code, distance))
            # Rows at each distance: complete up to the limits, which never grow.
            sizes = part.first[code + 1] - part.first[code]
            found = np.bincount(query * (farthest + 1) + distance, sizes, counts.size)
            counts += found.reshape(counts.shape).astype(np.int64)
            here = np.flatnonzero((left_out >= start) & (left_out < start + len(part.codes)))
            counts[here, differing_bits(queries[:, here], words(part.codes[left_out[here] - start]))] -= 1
            reached = counts.cumsum(axis=1) >= k
            limits = np.minimum(limits, np.where(reached.any(axis=1), reached.argmax(axis=1), farthest))
        return near, limits, counts[np.arange(count), limits]


def _first_limits(queries: Words, part: SortedCodes, k: int) -> Numbers:
    """Return distances `[q]` within which a part has at least k rows, FARTHEST if it has fewer."""
    limits, sizes, m = np.full(queries.shape[1], FARTHEST), np.diff(part.first), part.distinct.shape[1]
    frequent = np.flatnonzero(sizes >= k)  # the nearest of these alone has k rows
    if len(frequent):
        codes = frequent[:: 1 + len(frequent) // SAMPLE]
        limits = differing_bits(queries[:, :, None], part.distinct[:, None, codes]).min(axis=1).astype(np.int64)
    codes = np.arange(0, m, max(1, m // max(k, SAMPLE)))
    if k <= len(codes) and 2 * sizes[frequent].sum() < len(part.rows):  # else most queries are near a frequent code
        distances = differing_bits(queries[:, :, None], part.distinct[:, None, codes])
        # NumPy partitions numbers of 16 bits by vector instructions, of 8 bits not
        limits = np.minimum(limits, np.partition(distances.astype(np.uint16), k - 1, axis=1)[:, k - 1])
    return limits


def _codes_within(queries: Words, limits: Numbers, part: SortedCodes) -> Near:
    """Find the codes of a part within the limit of each query `[w, q]`.

    Codes are sorted, so that many have the same first half. If it is not within the limit, neither are they.
    """
    count, m = queries.shape[1], part.distinct.shape[1]
    if count >= FEW:
        first_halves = _first_halves(part.distinct)
        starts = np.append(0, np.flatnonzero(first_halves[0, 1:] != first_halves[0, :-1]) + 1)
        if FEW * len(starts) < m:
            near = differing_bits(_first_halves(queries)[:, :, None], first_halves[:, None, starts])
            query, half = _within(near, limits)
            starts = np.append(starts, m)
            sizes = starts[half + 1] - starts[half]
            total = int(sizes.sum())
            if total * 16 < count * m:  # else it is faster to compare all codes
                number, code = _in_ranges(starts[half], sizes, 0, total)
                query = query[number]
                distances = differing_bits(queries[:, query], part.distinct[:, code])
                kept = distances <= limits[query]
                return query[kept], code[kept], distances[kept]
    distances = differing_bits(queries[:, :, None], part.distinct[:, None])
    query, code = _within(distances, limits)
    return query, code, distances[query, code]


def _first_halves(codes: Words) -> Words:
    """Return the half `[1, n]` of codes `[w, n]`, or of their last word, by which they are sorted first."""
    return codes[-1:] >> codes.dtype.type(4 * codes.itemsize)


def _within(distances: Distances, limits: Numbers) -> tuple[Numbers, Numbers]:
    """Return the rows and columns of distances `[q, m]` that are within the limit `[q]` of their row."""
    in_type = np.minimum(limits, np.iinfo(distances.dtype).max).astype(distances.dtype)  # to compare them faster
    return np.divmod(np.flatnonzero(distances <= in_type[:, None]), max(1, distances.shape[1]))


def _in_ranges(first: Numbers, sizes: Numbers, begin: int, end: int) -> tuple[Numbers, Numbers]:
    """Return i and the number, of the numbers first[i], ..., first[i] + sizes[i] - 1 of each i, one i after another.

    Only those from `begin` to `end` of all these numbers are returned.
    """
    ends = np.cumsum(sizes)
    place = np.arange(begin, min(end, int(sizes.sum())))
    i = np.searchsorted(ends, place, side="right")
    return i, first[i] + place - (ends - sizes)[i]


def _l1_distances(stored: Levels | None, place: Numbers, levels: Levels | None, query: Numbers) -> Numbers:
    """Return the L1 distances `[p]` of levels at some places from the levels of queries, UNKNOWN_L1 without levels."""
    if stored is None or levels is None:
        return np.full(len(place), UNKNOWN_L1)
    left, right = stored[place], levels if len(levels) == 1 else levels[query]
    return (np.maximum(left, right) - np.minimum(left, right)).sum(axis=1, dtype=np.int64)


def _first_k(keys: Numbers, rows: Numbers, k: int, kth_keys: Numbers) -> tuple[Numbers, Numbers]:
    """Sort rows by (key, row), keep the first k of each query, and note the k-th key of each that has as many."""
    order = np.lexsort((rows, keys))
    keys, rows = keys[order], rows[order]
    query = keys >> QUERY
    rank = np.arange(len(keys)) - np.searchsorted(query, query)
    kth_keys[query[rank == k - 1]] = keys[rank == k - 1]
    return keys[rank < k], rows[rank < k]
