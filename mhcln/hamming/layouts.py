"""How an archive is laid out to find the exact k nearest codes among a few or a million.

Each layout looks where near codes must be, and stops when k rows are found within the distance that is covered. If its
next step would cost more than comparing the query with every code, that is done instead (`mhcln.hamming.scan`).
"""

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from mhcln.hamming.codes import Groups, Words, differing_bits, group
from mhcln.hamming.scan import Candidates, in_distance_type, scan
from mhcln.hamming.top_k import TILE, TopK, ranges

DISTINCT_SHARE = 0.75  # of codes are distinct at most if keeping one of each pays

# Costs in comparisons of a scan, the unit of every choice below; one took 0.5 to 0.7 ns on the Zen 5 core measured.
LOOKUP = 100  # looking up one value among sorted ones
STEP = 1 << 18  # a step of growing the radius, for however many queries: what Python takes for its calls
CANDIDATE = 25  # fetching one row of a bucket and comparing with it: the fetch waits for memory

PIECE = 16  # bits
BUCKETS = 1 << PIECE
MANY = 1 << 16  # rows from which buckets are built: fewer would leave most of them empty
FLIPS_OF_PIECE = [np.flatnonzero(np.bitwise_count(np.arange(BUCKETS)) == count) for count in range(PIECE + 1)]


def lay_out(codes: Words, bits: int) -> "DistinctCodes | Buckets":
    """Build the layout that suits codes `[w, n]` of `bits` bits.

    Its `codes` are those that a scan compares, and its `search` offers a `TopK` the k nearest rows, and perhaps others,
    of every query `[w, q]`.
    """
    groups = group(codes)
    if groups.distinct.shape[1] < DISTINCT_SHARE * codes.shape[1]:
        return DistinctCodes(groups, bits)
    del groups  # otherwise the codes' memory is taken a second time while the buckets are made
    return Buckets(codes, bits)


class DistinctCodes:
    """Each distinct code once, sorted, and the rows that hold it: for codes that repeat, as a trained network's do.

    The codes at distance 0, 1, 2, ... from a query are looked up one by one.
    """

    def __init__(self, groups: Groups, bits: int) -> None:
        self.codes, self._first, self._rows = groups
        self.bits = bits

    def search(self, queries: Words, best: TopK) -> None:
        """Look codes up at growing distance while that is cheaper than a scan, and scan for the queries left."""
        active = np.arange(queries.shape[1])
        distance = 0
        # Only codes of one word can be looked up.
        while len(queries) == 1 and self._comparisons_saved(distance) * len(active) > STEP:
            for query, code in self._look_up(queries[0, active], distance):
                self._offer(Candidates(active[query], code, np.full(len(code), distance)), best)
            distance += 1
            active = active[best.limits()[active] > distance]
        # A code at the k-th distance may hold an earlier row than the k-th, wherever the code stands.
        for query, code, apart in scan(queries[:, active], self.codes, best.k, lambda _start: best.limits()[active]):
            self._offer(Candidates(active[query], code, apart), best)

    def _comparisons_saved(self, distance: int) -> int:
        """Comparisons of a scan, less what looking up a query's codes at that distance costs."""
        return int(self.codes.shape[1]) - comb(self.bits, distance) * LOOKUP

    def _look_up(
        self, queries: NDArray[np.unsignedinteger], distance: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield numbers of queries `[q]` of one word and of codes at exactly that distance from them."""
        masks = _flips(self.bits, distance).astype(queries.dtype)
        codes = self.codes[0]
        step = max(1, TILE // len(masks))
        for start in range(0, len(queries), step):
            values = (queries[start : start + step, None] ^ masks).ravel()
            place = np.searchsorted(codes, values)
            hits = np.flatnonzero(codes.take(place, mode="clip") == values)
            yield start + hits // len(masks), place[hits]

    def _offer(self, found: Candidates, best: TopK) -> None:
        """Offer the rows that hold the codes found: the first k of a code, none if nearer codes have k already."""
        if not len(found.query):
            return
        first = self._first[found.code]
        counts = np.minimum(self._first[found.code + 1] - first, best.k).astype(np.int64)
        keep = np.flatnonzero(_rows_nearer(found, counts) < best.k)
        first, counts = first[keep], counts[keep]
        query, distance = np.repeat(found.query[keep], counts), np.repeat(found.distance[keep], counts)
        best.offer(query, self._rows[ranges(first, counts)], distance)


class Buckets:
    """All rows in storage order; in buckets too, if looking there is cheaper than a scan even for random codes.

    A bucket holds the rows that agree in one 16-bit piece of their code. Of the m pieces of two codes that differ in r
    bits, one differs in at most r / m bits, so that few buckets hold every row within distance r of a query
    (multi-index hashing; Norouzi, Punjani and Fleet, CVPR 2012).
    """

    def __init__(self, codes: Words, bits: int) -> None:
        self.codes, self.bits = codes, bits
        self._tables = [_Table(piece) for piece in _pieces(codes, bits)] if self._buckets_pay(1) else []

    def search(self, queries: Words, best: TopK) -> None:
        """Open buckets while that is cheaper than a scan, and scan for the queries left."""
        active = np.arange(queries.shape[1])
        if self._buckets_pay(best.k):
            active = self._search_buckets(queries, best)
        for query, row, distance in scan(
            queries[:, active], self.codes, best.k, lambda start: best.limits(start)[active]
        ):
            best.offer(active[query], row, distance)

    def _buckets_pay(self, k: int) -> bool:
        """Whether buckets find the k nearest of random codes in less than half of a scan's time."""
        n = self.codes.shape[1]
        if n < MANY:
            return False
        radius, reached = 0, 1  # of the 2**bits codes, so many are within that radius
        while reached * n < k << self.bits:
            radius += 1
            reached += comb(self.bits, radius)
        pieces = -(-self.bits // PIECE)
        opened = sum(comb(PIECE, step // pieces) for step in range(radius + 1))
        return 2 * CANDIDATE * opened < BUCKETS

    def _search_buckets(self, queries: Words, best: TopK) -> NDArray[np.int64]:
        """Open the buckets that differ from queries `[w, q]` in 0 bits of each piece in turn, then in 1 bit, in 2, ...

        After s steps every row at a distance below s was met: one that was not differs in s bits at least.

        Returns:
            Numbers of the queries for which the next buckets hold so many rows that a scan is cheaper.
        """
        query_pieces = _pieces(queries, self.bits)
        affordable = self.codes.shape[1] // (8 * CANDIDATE)
        active, expensive = np.arange(queries.shape[1]), []
        step = 0
        while len(active):
            flipped, piece = divmod(step, len(query_pieces))
            table, values = self._tables[piece], query_pieces[piece, active, None] ^ FLIPS_OF_PIECE[flipped]
            cheap = table.sizes(values).sum(axis=1) < affordable
            expensive.append(active[~cheap])
            active = active[cheap]
            for query, row, distance in self._open(table, values[cheap], queries[:, active], best.limits()[active]):
                best.offer(active[query], row, distance)
            step += 1
            active = active[best.limits()[active] > step]
        return np.concatenate(expensive)

    def _open(
        self, table: "_Table", values: NDArray[np.integer], queries: Words, limits: NDArray[np.int64]
    ) -> Iterator[Candidates]:
        """Yield the rows in the buckets `[q, b]` of each query that are nearer to the query than its limit `[q]`."""
        first, sizes = table.first[values], table.sizes(values)
        totals = sizes.sum(axis=1)
        ends = np.cumsum(totals)
        start = 0
        while start < len(totals):
            stop = max(start + 1, int(np.searchsorted(ends, ends[start] - totals[start] + TILE // 4)))
            block, counts = slice(start, stop), totals[start:stop]
            rows = table.rows[ranges(first[block].ravel(), sizes[block].ravel())].astype(np.int64)
            distance = differing_bits(np.take(self.codes, rows, axis=1), np.repeat(queries[:, block], counts, axis=1))
            hits = np.flatnonzero(distance < np.repeat(in_distance_type(limits[block], queries), counts))
            query = start + np.searchsorted(np.cumsum(counts), hits, "right")
            yield Candidates(query, rows[hits], distance[hits].astype(np.int64))
            start = stop


class _Table:
    """All rows of an archive in buckets, one for each value of one 16-bit piece of their codes."""

    def __init__(self, piece: NDArray[np.uint16]) -> None:
        """Take the piece `[n]` of all codes."""
        self.rows = np.argsort(piece, kind="stable").astype(np.uint32)  # bucket by bucket, in storage order in each
        self.first = np.append(0, np.cumsum(np.bincount(piece, minlength=BUCKETS))).astype(np.uint32)

    def sizes(self, values: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return how many rows the buckets of these values hold."""
        return (self.first[values + 1] - self.first[values]).astype(np.int64)


def _pieces(codes: Words, bits: int) -> NDArray[np.uint16]:
    """Codes `[w, n]` as 16-bit pieces `[m, n]`, in any fixed order."""
    columns = [word.view(np.uint16).reshape(len(word), -1).T for word in codes]
    return np.concatenate(columns)[: -(-bits // PIECE)]


@cache
def _flips(bits: int, count: int) -> NDArray[np.uint64]:
    """All words with `count` of the lowest `bits` bits set."""
    return np.array([sum(1 << bit for bit in chosen) for chosen in combinations(range(bits), count)], np.uint64)


def _rows_nearer(found: Candidates, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each of the codes found, the number of rows `[p]` that nearer ones of the same query hold.

    Args:
        found: Codes found for some queries.
        counts: `[p]` rows that hold each of them.
    """
    width = int(found.distance.max()) + 1
    place = (found.query - found.query.min()) * width + found.distance
    cells = (int(np.ptp(found.query)) + 1) * width
    rows_at = np.bincount(place, counts, minlength=cells).reshape(-1, width)  # [queries, distances]
    return (np.cumsum(rows_at, axis=1) - rows_at).ravel()[place]
