"""Hash codes as packed bits, and the exact k nearest of them by Hamming distance.

A code of K bits is a row of ceil(K / 8) bytes in `np.packbits` order (the first bit is the highest of its byte),
padded with zero bits, which add no distance. Everything here counts differing bits of such rows; nothing knows about
labels or files.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mhcln.errors import UserError
from mhcln.nearest import Nearest
from mhcln.search import Repeated, Spread, differing

THRESHOLD = 0.5  # a bit is set where its sigmoid exceeds this: published UCMD/eval.py
REPEATING = 0.75  # of codes are distinct at most where keeping one of each pays
NEIGHBOURS = 1 << 16  # found at a time
COMPARISONS = 1 << 27  # made at a time
THREADED = 1 << 25  # comparisons below which a second thread costs more than it gives


def binarise(activations: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Bits of the hashing network's sigmoid outputs `[n, K]`: set where above 0.5 (published code's rule)."""
    return np.asarray(activations) > THRESHOLD


def pack(bits: NDArray) -> NDArray[np.uint8]:
    """Codes `[n, ceil(K / 8)] uint8` of bits `[n, K]` (bool, or 0 and 1)."""
    return np.packbits(np.asarray(bits, dtype=bool), axis=1)


def unpack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Bits `[n, bits] uint8`, 0 or 1, of packed codes `[n, ceil(bits / 8)]`."""
    return np.unpackbits(codes, axis=1, count=bits)


def words(codes: NDArray[np.uint8]) -> NDArray[np.unsignedinteger]:
    """Codes `[n, b]` as columns of the widest machine words that fit, `[w, n]`, zero-padded: uint16, 32 or 64."""
    width = codes.shape[1]
    word = next((size for size in (2, 4) if width <= size), 8)
    if width % word:
        codes = np.pad(codes, [(0, 0), (0, -width % word)])
    return np.ascontiguousarray(np.ascontiguousarray(codes).view(f"u{word}").T)


def distances(queries: NDArray[np.uint8], archive: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Hamming distances `[q, n] uint16` between packed codes `[q, b]` and `[n, b]`."""
    _same_width(queries, archive)
    return differing(words(queries)[:, :, None], words(archive)[:, None]).astype(np.uint16)


class Index:
    """An archive of packed codes `[n, b] uint8`, searched exactly in the order (distance, storage order).

    Building takes about a tenth of a second for a million codes. `mhcln.search` says how they are laid out.
    """

    def __init__(self, codes: NDArray[np.uint8]) -> None:
        self.codes = codes
        archive = words(codes)
        bits = 8 * codes.shape[1]
        order, new = _sorted(archive)
        if np.count_nonzero(new) < REPEATING * len(codes):
            self._layout = Repeated(archive, order, new, bits)
        else:
            del order, new  # else a second time the codes' memory while the buckets are made
            self._layout = Spread(archive, bits)

    def __len__(self) -> int:
        return len(self.codes)

    def search(
        self, queries: NDArray[np.uint8], k: int, exclude: NDArray[np.integer] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """The k nearest rows of the archive for each query `[q, b] uint8`, nearest first, equals in storage order.

        `exclude` `[q]` names one archive row to leave out per query (the query itself, say), -1 for none.
        Returns rows `[q, k] int64` and distances `[q, k] uint16`.
        Raises UserError where k is below 1 or above the number of codes left to find.
        """
        _same_width(queries, self.codes)
        excluding = exclude is not None and bool(np.any(np.asarray(exclude) >= 0))
        available = len(self) - excluding
        if not 1 <= k <= available:
            raise UserError(
                f"k={k} neighbours asked for, but {available} codes can be found: choose k from 1 to {available}"
            )
        rows, found = self._nearest(queries, int(k) + excluding)
        if not excluding:
            return rows, found
        keep = rows != np.asarray(exclude)[:, None]
        keep[keep.all(axis=1), -1] = False
        return rows[keep].reshape(-1, k), found[keep].reshape(-1, k)

    def _nearest(self, queries: NDArray[np.uint8], k: int) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """Search for each distinct query once, in blocks that bound the memory, over the cores."""
        asked = words(queries)
        order, new = _sorted(asked)
        number = np.empty(len(queries), np.int64)
        number[order] = np.cumsum(new) - 1
        asked = asked[:, order[new]]
        rows = np.empty((asked.shape[1], k), np.int64)
        found = np.empty((asked.shape[1], k), np.uint16)
        work = asked.shape[1] * self._layout.codes.shape[1]
        threads = min(asked.shape[1], os.cpu_count() or 1) if work > THREADED else 1
        step = max(1, min(NEIGHBOURS // k, COMPARISONS // len(self), -(-asked.shape[1] // threads)))

        def search(start: int) -> None:
            block = slice(start, start + step)
            part = np.ascontiguousarray(asked[:, block])
            best = Nearest(part.shape[1], k)
            self._layout.nearest(part, best)
            rows[block], found[block] = best.result()

        starts = range(0, asked.shape[1], step)
        if threads == 1:
            for start in starts:
                search(start)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(search, starts))
        return rows[number], found[number]


def _sorted(codes: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """The stable order `[n]` that sorts codes `[w, n]`, and whether each is the first of its value in it."""
    order = np.lexsort(codes).astype(np.uint32)
    new = np.zeros(len(order), bool)
    new[:1] = True
    for word in codes:
        ranked = word[order]
        new[1:] |= ranked[1:] != ranked[:-1]
    return order, new


def _same_width(queries: NDArray, archive: NDArray) -> None:
    if queries.shape[1] != archive.shape[1]:
        raise UserError(
            f"codes of {queries.shape[1]} and of {archive.shape[1]} bytes cannot be compared: hash both with one model"
        )
