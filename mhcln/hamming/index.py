"""The exact k nearest codes of an archive."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.hamming.codes import Words, check_same_width, group, words
from mhcln.hamming.layouts import lay_out
from mhcln.hamming.top_k import TopK

# What is worked on at a time, to bound the memory of a search.
BLOCK_NEIGHBOURS = 1 << 16  # found
BLOCK_COMPARISONS = 1 << 27  # made, if all codes are scanned
THREADS_FROM = 1 << 25  # comparisons below which a second thread costs more than it gives

Rows = NDArray[np.int64]
Distances = NDArray[np.uint16]


class Index:
    """An archive of packed codes `[n, b] uint8`, searched exactly in the order (distance, storage order).

    Building takes about a tenth of a second for a million codes.
    """

    def __init__(self, codes: NDArray[np.uint8]) -> None:
        self.codes = codes
        self._layout = lay_out(words(codes), 8 * codes.shape[1])

    def __len__(self) -> int:
        return len(self.codes)

    def search(
        self, queries: NDArray[np.uint8], k: int, exclude: NDArray[np.integer] | None = None
    ) -> tuple[Rows, Distances]:
        """Find the k nearest rows of the archive for each query, nearest first, equals in storage order.

        Args:
            queries: `[q, b] uint8`.
            k: Rows to find for each query.
            exclude: `[q]` one row to leave out per query (the query itself, say), -1 for none; None leaves out none.

        Returns:
            Rows `[q, k] int64` and their distances `[q, k] uint16`.

        Raises:
            UserError: k is below 1 or above the number of codes left to find, or the codes have different widths.
        """
        check_same_width(queries, self.codes)
        excluding = exclude is not None and bool(np.any(np.asarray(exclude) >= 0))
        available = len(self) - excluding
        if not 1 <= k <= available:
            raise UserError(
                f"k={k} neighbours asked for, but {available} codes can be found: choose k from 1 to {available}"
            )
        rows, distances = self._search_distinct(words(queries), int(k) + excluding)
        if not excluding:
            return rows, distances
        keep = rows != np.asarray(exclude)[:, None]
        keep[keep.all(axis=1), -1] = False  # the excluded row is not among the k + 1 nearest: drop the last
        return rows[keep].reshape(-1, k), distances[keep].reshape(-1, k)

    def _search_distinct(self, queries: Words, k: int) -> tuple[Rows, Distances]:
        """Search for each distinct query of `[w, q]` once."""
        distinct, first, order = group(queries)
        number = np.empty(queries.shape[1], np.int64)  # of each query among the distinct ones
        number[order] = np.repeat(np.arange(distinct.shape[1]), np.diff(first))
        rows, distances = self._search_blocks(distinct, k)
        return rows[number], distances[number]

    def _search_blocks(self, queries: Words, k: int) -> tuple[Rows, Distances]:
        """Search for queries `[w, q]` in blocks, on all cores if there is enough to do."""
        count = queries.shape[1]
        comparisons = count * self._layout.codes.shape[1]
        threads = min(count, os.cpu_count() or 1) if comparisons > THREADS_FROM else 1
        step = max(1, min(BLOCK_NEIGHBOURS // k, BLOCK_COMPARISONS // len(self), -(-count // threads)))
        rows, distances = np.empty((count, k), np.int64), np.empty((count, k), np.uint16)

        def search(start: int) -> None:
            block = np.ascontiguousarray(queries[:, start : start + step])
            best = TopK(block.shape[1], k)
            self._layout.search(block, best)
            rows[start : start + step], distances[start : start + step] = best.result()

        starts = range(0, count, step)
        if threads == 1:
            for start in starts:
                search(start)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(search, starts))  # a list, to raise what a thread raised
        return rows, distances
