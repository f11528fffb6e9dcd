"""Hash codes: bits, packed bytes, machine words, and the distances between them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError

THRESHOLD = 0.5  # a bit is set if its sigmoid exceeds this: published UCMD/eval.py

# Codes `[w, n]` as columns of w machine words of one type: uint16, uint32 or uint64.
Words = NDArray[np.unsignedinteger]


def binarise(activations: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Bits of the hashing network's sigmoid outputs `[n, K]`: set if above 0.5 (published code's rule)."""
    return np.asarray(activations) > THRESHOLD


def pack(bits: NDArray[np.bool_] | NDArray[np.integer]) -> NDArray[np.uint8]:
    """Codes `[n, ceil(K / 8)] uint8` of bits `[n, K]` (bool, or 0 and 1)."""
    return np.packbits(np.asarray(bits, dtype=bool), axis=1)


def unpack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Bits `[n, bits] uint8`, 0 or 1, of packed codes `[n, ceil(bits / 8)]`."""
    return np.unpackbits(codes, axis=1, count=bits)


def count_distinct(codes: NDArray[np.uint8]) -> int:
    """Number of different rows in packed codes `[n, b]`. Example: the codes 5, 5, 7 have 2."""
    return group(words(codes)).distinct.shape[1]


def words(codes: NDArray[np.uint8]) -> Words:
    """Packed codes `[n, b]` as columns `[w, n]` of the narrowest word that holds a code, or several uint64.

    A code that does not fill its last word is padded with zeros.
    """
    width = codes.shape[1]
    size = next((size for size in (2, 4) if width <= size), 8)
    if width % size:
        codes = np.pad(codes, [(0, 0), (0, -width % size)])
    return np.ascontiguousarray(np.ascontiguousarray(codes).view(f"u{size}").T)


class Groups(NamedTuple):
    """Codes, each different one once, and the rows that hold it.

    Attributes:
        distinct: `[w, m]`, the different codes, sorted.
        first: `[m + 1] uint32`, where the rows of each begin in `rows`, and the end.
        rows: `[n] uint32`, code by code, in storage order for each.
    """

    distinct: Words
    first: NDArray[np.uint32]
    rows: NDArray[np.uint32]


def group(codes: Words) -> Groups:
    """Group the rows of codes `[w, n]` by their code."""
    rows = np.lexsort(codes).astype(np.uint32)
    ranked = codes[:, rows]
    begins = np.append(True, (ranked[:, 1:] != ranked[:, :-1]).any(axis=0))[: len(rows)]
    first = np.append(np.flatnonzero(begins), len(rows)).astype(np.uint32)
    return Groups(np.ascontiguousarray(ranked[:, begins]), first, rows)


def differing_bits(left: Words, right: Words) -> NDArray[np.unsignedinteger]:
    """Number of bits in which codes `[w, ...]` differ, broadcast behind the first axis.

    Its type is uint8 for codes of one word, uint16 for longer ones.
    """
    count = np.bitwise_count(left[0] ^ right[0])
    if len(left) > 1:
        count = count.astype(np.uint16)
        for a, b in zip(left[1:], right[1:], strict=True):
            count += np.bitwise_count(a ^ b)
    return count


def distances(queries: NDArray[np.uint8], archive: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Hamming distances `[q, n]` between packed codes `[q, b]` and `[n, b]`.

    Raises:
        UserError: The codes have different widths.
    """
    check_same_width(queries, archive)
    return differing_bits(words(queries)[:, :, None], words(archive)[:, None]).astype(np.uint16)


def check_same_width(queries: NDArray[np.uint8], archive: NDArray[np.uint8]) -> None:
    """Raise UserError if packed codes `[q, b]` and `[n, b]` have different widths."""
    if queries.shape[1] != archive.shape[1]:
        raise UserError(
            f"codes of {queries.shape[1]} and of {archive.shape[1]} bytes cannot be compared: hash both with one model"
        )
