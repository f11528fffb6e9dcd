"""The comparison of queries with every code of an archive, in the order of the archive."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mhcln.hamming.codes import Words, differing_bits
from mhcln.hamming.top_k import FAR, TILE

SAMPLE = 1 << 13  # codes that give a first bound on the k-th distance; fewer than twice as many are taken all at once
GROWTH = 4  # of the number of codes compared between two looks at the bounds, which help less and less


class Candidates(NamedTuple):
    """Codes that may be among the k nearest of queries.

    Attributes:
        query: `[p]` number of the query.
        code: `[p]` number of the code.
        distance: `[p]` between the two.
    """

    query: NDArray[np.int64]
    code: NDArray[np.int64]
    distance: NDArray[np.int64]


def scan(queries: Words, codes: Words, k: int, bounds: Callable[[int], NDArray[np.int64]]) -> Iterator[Candidates]:
    """Compare queries with codes, and yield a superset of each query's k nearest.

    Args:
        queries: `[w, q]`.
        codes: `[w, n]`, n at least k for a superset of k.
        k: Number of codes to find for each query.
        bounds: Given a code's number, returns the distances `[q]` that it and the codes behind it must stay below to
            be of use, `FAR` if any is. It is asked again as the scan goes on, so it should take account of the
            candidates yielded so far.

    Yields:
        Candidates, some at a time.
    """
    if not queries.shape[1]:
        return
    n = codes.shape[1]
    limits = np.full(queries.shape[1], FAR, np.int64)
    size = max(SAMPLE, k)
    if n < 2 * size:
        size = n
    elif FAR in bounds(0):
        limits = _sample_bounds(queries, codes[:, :: n // size], k)
        size *= GROWTH
    start = 0
    while start < n:
        limits = np.minimum(limits, bounds(start))
        for query, code, distance in _joined(_nearer(queries, codes[:, start : start + size], limits, k)):
            yield Candidates(query, start + code, distance)
        start, size = start + size, size * GROWTH


def in_distance_type(limits: NDArray[np.int64], codes: Words) -> NDArray[np.unsignedinteger]:
    """Limits in the type of distances between such codes, whose maximum no distance reaches: to compare them faster."""
    kind = np.uint8 if len(codes) == 1 else np.uint16
    return np.minimum(limits, np.iinfo(kind).max).astype(kind)


def _sample_bounds(queries: Words, sample: Words, k: int) -> NDArray[np.int64]:
    """Bounds `[q]` that keep every code as near as the k-th nearest of a sample `[w, s]`."""
    return np.concatenate([_kth_smallest(distance, k) for _, distance in _tiles(queries, sample)]) + 1


def _nearer(queries: Words, codes: Words, bounds: NDArray[np.int64], k: int) -> Iterator[Candidates]:
    """Yield the codes nearer than each query's bound `[q]`, tile by tile.

    Of a query whose bound is `FAR`, the k nearest of these codes and all that are as near as the k-th.
    """
    unbounded = FAR in bounds
    width = codes.shape[1] if unbounded else SAMPLE  # the k nearest can be told only from whole rows
    limits = in_distance_type(bounds, codes)[:, None]
    for left in range(0, codes.shape[1], width):
        for top, distance in _tiles(queries, codes[:, left : left + width]):
            limit = limits[top : top + len(distance)]
            if unbounded:
                limit = np.minimum(limit, in_distance_type(_kth_smallest(distance, k) + 1, codes)[:, None])
            hits = np.flatnonzero(distance < limit)
            if len(hits):
                query = hits // distance.shape[1]
                code = hits - query * distance.shape[1]
                yield Candidates(query + top, code + left, distance.ravel()[hits].astype(np.int64))


def _joined(parts: Iterator[Candidates]) -> Iterator[Candidates]:
    """Join candidates to parts of more than `TILE`, as each part costs some calls to work on."""
    waiting: list[Candidates] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += len(part.query)
        if count > TILE:
            yield Candidates(*map(np.concatenate, zip(*waiting, strict=True)))
            waiting, count = [], 0
    if waiting:
        yield Candidates(*map(np.concatenate, zip(*waiting, strict=True)))


def _tiles(queries: Words, codes: Words) -> Iterator[tuple[int, NDArray[np.unsignedinteger]]]:
    """Yield the number of a first query, and the distances `[t, n]` of it and the next ones from codes `[w, n]`."""
    height = max(1, TILE // codes.shape[1])
    for top in range(0, queries.shape[1], height):
        yield top, differing_bits(queries[:, top : top + height, None], codes[:, None])


def _kth_smallest(distance: NDArray[np.unsignedinteger], k: int) -> NDArray[np.int64]:
    """The k-th smallest `[q]` of each row of distances `[q, n]`; `FAR` if n is below k."""
    if distance.shape[1] < k:
        return np.full(len(distance), FAR, np.int64)
    # Partitioning 16-bit numbers is vectorised, 8-bit ones it is not.
    return np.partition(distance.astype(np.uint16), k - 1, axis=1)[:, k - 1].astype(np.int64)
