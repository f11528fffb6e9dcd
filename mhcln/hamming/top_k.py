"""The k best rows of many queries, kept while a search goes on."""

import numpy as np
from numpy.typing import NDArray

FAR = int(np.iinfo(np.uint16).max)  # above every distance: fewer than k rows are known yet
TILE = 1 << 17  # numbers worked on at a time: what is computed from them fits a level-2 cache

# A key, from its highest bits down: 16 bits of query, 16 of distance, 32 of row.
ROW_BITS, DISTANCE_BITS = np.uint64(32), np.uint64(16)
QUERY_SHIFT = ROW_BITS + DISTANCE_BITS
ROW_MASK, DISTANCE_MASK = np.uint64((1 << 32) - 1), np.uint64(FAR)


class TopK:
    """The k best rows known of each of up to 65,536 queries, by (distance, row).

    They are one sorted array of 64-bit keys (query, distance, row), into which what is offered is merged now and then.
    """

    def __init__(self, queries: int, k: int) -> None:
        self.queries, self.k = queries, k
        self._keys = np.empty(0, np.uint64)
        self._starts = np.zeros(queries + 1, np.int64)  # of each query's keys, and the end
        self._offered: list[NDArray[np.uint64]] = []
        self._waiting = 0

    def offer(self, query: NDArray[np.integer], row: NDArray[np.integer], distance: NDArray[np.integer]) -> None:
        """Take rows into account.

        Args:
            query: `[p]` the number of the query that each row is offered to.
            row: `[p]` rows of the archive; one may be offered to a query twice.
            distance: `[p]` how far each row is from its query.
        """
        key = query.astype(np.uint64) << QUERY_SHIFT
        key |= distance.astype(np.uint64) << ROW_BITS
        key |= row.astype(np.uint64)
        self._offered.append(key)
        self._waiting += len(key)
        if self._waiting > max(TILE, len(self._keys)):
            self._merge()

    def limits(self, first_row: int = 0) -> NDArray[np.int64]:
        """Distances `[q]` that rows from `first_row` on must stay below to count; `FAR` if fewer than k rows are known.

        Example: if the k-th best row is row 7 at distance 3, rows from 7 on must be nearer than 3. Among the rows from
        6 on, row 6 would count at distance 3: their limit is 4.
        """
        self._merge()
        full = np.flatnonzero(np.diff(self._starts) == self.k)
        last = self._keys[self._starts[full] + self.k - 1]
        limits = np.full(self.queries, FAR, np.int64)
        limits[full] = ((last >> ROW_BITS) & DISTANCE_MASK) + ((last & ROW_MASK) > first_row)
        return limits

    def result(self) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """Rows and distances `[q, k]`, once k rows of every query are known."""
        self._merge()
        keys = self._keys.reshape(self.queries, self.k)
        return (keys & ROW_MASK).astype(np.int64), (keys >> ROW_BITS).astype(np.uint16)

    def _merge(self) -> None:
        """Sort what was offered into the keys, each once, and drop all but the k best of each query."""
        if not self._waiting:
            return
        keys = np.sort(np.concatenate([self._keys, *self._offered]))
        self._offered, self._waiting = [], 0
        new = np.ones(len(keys), bool)
        np.not_equal(keys[1:], keys[:-1], out=new[1:])
        keys = keys[new]
        starts = np.searchsorted(keys, np.arange(self.queries, dtype=np.uint64) << QUERY_SHIFT)
        sizes = np.diff(starts, append=len(keys))
        kept = np.minimum(sizes, self.k)
        self._keys = keys if (kept == sizes).all() else keys[ranges(starts, kept)]
        self._starts = np.append(0, np.cumsum(kept))


def ranges(first: NDArray[np.integer], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers first[i], first[i] + 1, ..., first[i] + sizes[i] - 1 for every i, one run after another."""
    ends = np.cumsum(sizes)
    numbers: NDArray[np.int64] = np.repeat(first - (ends - sizes), sizes)
    numbers += np.arange(len(numbers))
    return numbers
