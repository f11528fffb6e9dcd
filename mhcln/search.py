"""Exact k nearest codes among a few or a million, always in the order (distance, storage order).

Codes are columns of machine words, `[w, n]` (`mhcln.hamming.words`). An archive is laid out in one of two ways:

- `Repeated`, where codes repeat, as a trained network's do: the distinct codes, sorted, with the rows that hold each
  behind them. Every code at distance 0, 1, 2, ... from a query is looked up among them;
- `Spread`, where they do not: all rows in storage order, and buckets of rows by each 16-bit piece of their code. Of m
  pieces, one differs in at most r / m bits if the codes differ in at most r (multi-index hashing; Norouzi, Punjani and
  Fleet, CVPR 2012), so few buckets hold every row within r.

Either stops when k rows are found within the distance that is covered. Where a step would cost more than comparing the
query with every code, that is done instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from mhcln.nearest import FAR, TILE, Nearest, ranges

Words = NDArray[np.unsignedinteger]

# Costs in comparisons of a scan, the unit of every choice below; one took 0.5 to 0.7 ns on the Zen 5 core measured.
LOOKUP = 100  # looking up one value among sorted ones
STEP = 1 << 18  # a step of growing the radius, for however many queries: what Python takes for its calls
CANDIDATE = 25  # fetching one row of a bucket and comparing with it: the fetch waits for memory
SAMPLE = 1 << 13  # codes that give a first bound on the k-th distance; fewer than twice as many are taken all at once
PIECE = 16  # bits
MANY = 1 << 16  # rows from which buckets are built: fewer would leave most of them empty
BUCKETS = 1 << PIECE
BY_WEIGHT = [np.flatnonzero(np.bitwise_count(np.arange(BUCKETS)) == weight) for weight in range(PIECE + 1)]


def pieces(codes: Words, bits: int) -> NDArray[np.uint16]:
    """Codes `[w, n]` as 16-bit pieces `[m, n]`, in any fixed order."""
    columns = [word.view(np.uint16).reshape(len(word), -1).T for word in codes]
    return np.concatenate(columns)[: -(-bits // PIECE)]


def differing(left: Words, right: Words) -> NDArray[np.unsignedinteger]:
    """Bits in which words `[w, ...]` differ, broadcast behind the first axis: uint8, or uint16 above one word."""
    if len(left) == 1:
        return np.bitwise_count(left[0] ^ right[0])
    return sum(np.bitwise_count(a ^ b).astype(np.uint16) for a, b in zip(left, right, strict=True))


class Repeated:
    """The distinct codes, and the rows that hold each in storage order."""

    def __init__(self, codes: Words, order: NDArray[np.uint32], new: NDArray[np.bool_], bits: int) -> None:
        """Take `[w, n]` codes, the stable order that sorts them, and whether each is the first of its value in it."""
        self.codes = codes[:, order[new]]
        self.bits = bits
        self._rows = order
        self._first = np.append(np.flatnonzero(new), len(order)).astype(np.uint32)

    def nearest(self, queries: Words, best: Nearest) -> None:
        """Offer `best` the k nearest rows, at least, of every query `[w, q]`."""
        active = np.arange(queries.shape[1])
        weight = 0
        while len(queries) == 1 and self._saved(weight) * len(active) > STEP:
            self._look_up(queries[0], active, weight, best)
            active = active[best.limits()[0][active] > weight]
            weight += 1
        scan(self, queries, active, best)

    def _saved(self, weight: int) -> int:
        """Comparisons of a scan, less what looking up a query's codes at that distance costs."""
        return self.codes.shape[1] - comb(self.bits, weight) * LOOKUP

    def _look_up(self, queries: Words, active: NDArray[np.int64], weight: int, best: Nearest) -> None:
        masks = flips(self.bits, weight).astype(queries.dtype)
        archive = self.codes[0]
        step = max(1, TILE // len(masks))
        for start in range(0, len(active), step):
            block = active[start : start + step]
            values = (queries[block, None] ^ masks).ravel()
            place = np.searchsorted(archive, values)
            hits = np.flatnonzero(archive.take(place, mode="clip") == values)
            self.offer(best, block[hits // len(masks)], place[hits], np.full(len(hits), weight))

    def offer(self, best: Nearest, query: NDArray, code: NDArray, distance: NDArray) -> None:
        """Offer the rows of codes `[p]`, found at distances `[p]` from queries `[p]`."""
        if not len(query):
            return
        first = self._first[code]
        counts = np.minimum(self._first[code + 1] - first, best.k).astype(np.int64)
        wide = int(distance.max()) + 1
        place = (query - query.min()) * wide + distance
        tally = np.bincount(place, counts, minlength=(np.ptp(query) + 1) * wide).reshape(-1, wide)
        nearer = np.cumsum(tally, axis=1) - tally
        keep = np.flatnonzero(nearer.ravel()[place] < best.k)
        counts = counts[keep]
        best.offer(
            np.repeat(query[keep], counts), np.repeat(distance[keep], counts), self._rows[ranges(first[keep], counts)]
        )

    def bound(self, distance: NDArray[np.int64], _row: NDArray[np.int64], _start: int) -> NDArray[np.int64]:
        """What a code must be nearer than: one at the k-th distance may hold an earlier row than the k-th."""
        return distance + 1


class Spread:
    """All rows in storage order; in buckets too, where looking there is cheaper than a scan even for random codes."""

    def __init__(self, codes: Words, bits: int) -> None:
        """Take `[w, n]` codes."""
        self.codes = codes
        self.bits = bits
        self._rows: list[NDArray[np.uint32]] = []
        self._first: list[NDArray[np.uint32]] = []
        for piece in pieces(codes, bits) if self._pays(1) else []:
            self._rows.append(np.argsort(piece, kind="stable").astype(np.uint32))
            self._first.append(np.append(0, np.cumsum(np.bincount(piece, minlength=BUCKETS))).astype(np.uint32))

    def _pays(self, k: int) -> bool:
        """Whether buckets find the k nearest of random codes in less than half of a scan's time."""
        n = self.codes.shape[1]
        if n < MANY:
            return False
        radius, reached = 0, 1
        while reached * n < k << self.bits:
            radius += 1
            reached += comb(self.bits, radius)
        opened = sum(comb(PIECE, step // -(-self.bits // PIECE)) for step in range(radius + 1))
        return 2 * CANDIDATE * opened < BUCKETS

    def nearest(self, queries: Words, best: Nearest) -> None:
        """Offer `best` the k nearest rows, at least, of every query `[w, q]`."""
        active = np.arange(queries.shape[1])
        if not self._pays(best.k):
            scan(self, queries, active, best)
            return
        asked = pieces(queries, self.bits)
        affordable = self.codes.shape[1] // (8 * CANDIDATE)
        covered, dear = -1, []
        while len(active):
            weight, piece = divmod(covered + 1, len(asked))
            values = asked[piece, active, None] ^ BY_WEIGHT[weight]
            first = self._first[piece][values]
            sizes = self._first[piece][values + 1] - first
            cheap = sizes.sum(axis=1) < affordable
            dear.append(active[~cheap])
            active = active[cheap]
            self._open(piece, queries, active, first[cheap], sizes[cheap].astype(np.int64), best)
            covered += 1
            active = active[best.limits()[0][active] > covered]
        scan(self, queries, np.concatenate(dear), best)

    def _open(self, piece: int, queries: Words, active: NDArray, first: NDArray, sizes: NDArray, best: Nearest) -> None:
        """Compare queries `active` `[a]` with the rows of the buckets that begin at `first` `[a, b]`."""
        limits = best.limits()[0]
        totals = sizes.sum(axis=1)
        ends = np.cumsum(totals)
        start = 0
        while start < len(active):
            stop = max(start + 1, int(np.searchsorted(ends, ends[start] - totals[start] + TILE // 4)))
            block, amount = active[start:stop], totals[start:stop]
            rows = self._rows[piece][ranges(first[start:stop].ravel(), sizes[start:stop].ravel())].astype(np.int64)
            distance = differing(
                [word[rows] for word in self.codes], [np.repeat(word[block], amount) for word in queries]
            )
            hits = np.flatnonzero(distance <= np.repeat(narrowed(limits[block], self.codes), amount))
            best.offer(block[np.searchsorted(np.cumsum(amount), hits, "right")], distance[hits], rows[hits])
            start = stop

    def offer(self, best: Nearest, query: NDArray, code: NDArray, distance: NDArray) -> None:
        """Offer rows `[p]` at distances `[p]` from queries `[p]`."""
        best.offer(query, distance, code)

    def bound(self, distance: NDArray[np.int64], row: NDArray[np.int64], start: int) -> NDArray[np.int64]:
        """What rows from `start` on must be nearer than: at the k-th distance only those before the k-th row count."""
        return distance + (row >= start)


def scan(archive: Repeated | Spread, queries: Words, active: NDArray[np.int64], best: Nearest) -> None:
    """Compare queries `active` of `[w, q]` with every code of the archive, and offer `best` all that may count."""
    if not len(active):
        return
    queries = queries[:, active]
    n = archive.codes.shape[1]
    bounds = np.full(len(active), FAR)
    size = max(SAMPLE, best.k)
    if n < 2 * size:
        size = n
    elif FAR in best.limits()[0][active]:
        sample = archive.codes[:, :: n // size]
        bounds = np.concatenate([kth(distance, best.k) for _, distance in tiles(queries, sample)]) + 1
        size *= 4
    start = 0
    while start < n:
        distance, row = best.limits()
        bounds = np.minimum(bounds, archive.bound(distance[active], row[active], start))
        for query, code, distance in pairs(queries, archive.codes[:, start : start + size], bounds, best.k):
            archive.offer(best, active[query], start + code, distance)
        start, size = start + size, size * 4


def tiles(queries: Words, codes: Words) -> Iterator[tuple[int, NDArray[np.unsignedinteger]]]:
    """Distances `[t, n]` of queries `[w, q]` from codes `[w, n]`, t queries at a time, after the first's number."""
    deep = max(1, TILE // codes.shape[1])
    for top in range(0, queries.shape[1], deep):
        yield top, differing(queries[:, top : top + deep, None], codes[:, None])


def kth(distance: NDArray[np.unsignedinteger], k: int) -> NDArray[np.int64]:
    """The k-th smallest of each row; `FAR` where a row is shorter."""
    if distance.shape[1] < k:
        return np.full(len(distance), FAR)
    # Partitioning 16-bit numbers is vectorised, 8-bit ones it is not.
    return np.partition(distance.astype(np.uint16), k - 1, axis=1)[:, k - 1].astype(np.int64)


def narrowed(limits: NDArray[np.int64], codes: Words) -> NDArray[np.unsignedinteger]:
    """Limits in the type of distances between such codes, whose largest number none reaches: to compare them faster."""
    kind = np.uint8 if len(codes) == 1 else np.uint16
    return np.minimum(limits, np.iinfo(kind).max).astype(kind)


def pairs(
    queries: Words, codes: Words, bounds: NDArray[np.int64], k: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Numbers of queries and codes nearer to each other than the query's bound, and their distance, some at a time.

    Where the bound is `FAR`, the k nearest of these codes and all that are as near as the k-th.
    """
    found, waiting = [], 0
    unbounded = FAR in bounds
    wide = codes.shape[1] if unbounded else SAMPLE
    limits = narrowed(bounds, codes)[:, None]
    for left in range(0, codes.shape[1], wide):
        for top, distance in tiles(queries, codes[:, left : left + wide]):
            limit = limits[top : top + len(distance)]
            if unbounded:
                limit = np.minimum(limit, narrowed(kth(distance, k) + 1, codes)[:, None])
            hits = np.flatnonzero(distance < limit)
            if len(hits):
                query = hits // distance.shape[1]
                found.append((query + top, hits - query * distance.shape[1] + left, distance.ravel()[hits].astype(int)))
                waiting += len(hits)
            if waiting > TILE:
                yield tuple(map(np.concatenate, zip(*found, strict=True)))
                found, waiting = [], 0
    if found:
        yield tuple(map(np.concatenate, zip(*found, strict=True)))


@cache
def flips(bits: int, weight: int) -> NDArray[np.uint64]:
    """All words with `weight` of the lowest `bits` bits set."""
    return np.array([sum(1 << bit for bit in chosen) for chosen in combinations(range(bits), weight)], np.uint64)
