"""Hash codes as packed bits, and the exact k nearest of them by Hamming distance.

A code of K bits is a row of ceil(K / 8) bytes in `np.packbits` order (the first bit is the highest of its byte),
padded with zero bits, which add no distance. Everything here counts differing bits of such rows; nothing knows about
labels or files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mhcln.errors import UserError

THRESHOLD = 0.5  # a bit is set where its sigmoid exceeds this: published UCMD/eval.py
BLOCK_CELLS = 1 << 20  # distances held at a time


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
    """Codes as rows of the widest machine words that fit: `[n, w]` of uint8, uint16, uint32 or uint64, zero-padded."""
    width = codes.shape[1]
    word = next((size for size in (1, 2, 4) if width <= size), 8)
    padded = np.zeros((len(codes), -(-width // word) * word), np.uint8)
    padded[:, :width] = codes
    return padded.view(f"u{word}")


def distances(queries: NDArray[np.uint8], archive: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Hamming distances `[q, n] uint16` between packed codes `[q, b]` and `[n, b]`."""
    _same_width(queries, archive)
    left, right = words(queries), words(archive)
    total = np.zeros((len(left), len(right)), np.uint16)
    for word in range(left.shape[1]):
        total += np.bitwise_count(left[:, word, None] ^ right[None, :, word])
    return total


class Index:
    """An archive of packed codes `[n, b] uint8`, searched exactly in the order (distance, storage order)."""

    def __init__(self, codes: NDArray[np.uint8]) -> None:
        self.codes = np.ascontiguousarray(codes, dtype=np.uint8)

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
        left_out = np.full(len(queries), -1) if exclude is None else np.asarray(exclude)
        available = len(self) - bool((left_out >= 0).any())
        if not 1 <= k <= available:
            raise UserError(
                f"k={k} neighbours asked for, but {available} codes can be found: choose k from 1 to {available}"
            )
        rows = np.empty((len(queries), k), np.int64)
        found = np.empty((len(queries), k), np.uint16)
        step = max(1, BLOCK_CELLS // len(self))
        for start in range(0, len(queries), step):
            block = slice(start, start + step)
            near = distances(queries[block], self.codes)
            hidden = np.flatnonzero(left_out[block] >= 0)
            near[hidden, left_out[block][hidden]] = np.iinfo(np.uint16).max
            rows[block] = np.argsort(near, axis=1, kind="stable")[:, :k]
            found[block] = np.take_along_axis(near, rows[block], axis=1)
        return rows, found


def _same_width(queries: NDArray, archive: NDArray) -> None:
    if queries.shape[1] != archive.shape[1]:
        raise UserError(
            f"codes of {queries.shape[1]} and of {archive.shape[1]} bytes cannot be compared: hash both with one model"
        )
