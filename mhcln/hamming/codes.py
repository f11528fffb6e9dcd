"""Hash codes: bits, packed bytes, machine words, the distances between them, and the levels of their activations."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError

THRESHOLD = 0.5  # a bit is set if its sigmoid exceeds this: published UCMD/eval.py
# Inputs of the sigmoid lie within 20 of 0: beyond, even float32 activations are 0 or 1.
REACH = 20
ACTIVATION_BLOCK = 1 << 16  # activations quantised at a time, to bound the memory

# Codes `[w, n]` as columns of w machine words of one type: uint16, uint32 or uint64.
Words = NDArray[np.unsignedinteger]
Levels = NDArray[np.uint8]


def binarise(activations: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return bits of the hashing network's sigmoid outputs `[n, K]`: set if above 0.5 (published code's rule)."""
    return np.asarray(activations) > THRESHOLD


def pack(bits: NDArray[np.bool_] | NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return codes `[n, ceil(K / 8)] uint8` of bits `[n, K]` (bool, or 0 and 1)."""
    return np.packbits(np.asarray(bits, dtype=bool), axis=1)


def unpack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Return bits `[n, bits] uint8`, 0 or 1, of packed codes `[n, ceil(bits / 8)]`."""
    return np.unpackbits(codes, axis=1, count=bits)


def quantise(activations: NDArray[np.floating]) -> Levels:
    """Return levels `[n, K] uint8` of activations `[n, K]` between 0 and 1, in even steps of the inputs of the sigmoid.

    A trained network's activations crowd at 0 and 1: after 10,000 iterations of `mhcln`, steps of the activations
    themselves are too coarse to order equal codes well. Distances between levels are whole numbers, equal in every
    language and on every processor. A level is 128 or more where the bit is set: activations 0, 0.5, 0.50001 and 1 have
    the levels 0, 127, 128 and 255.
    """
    levels = np.empty(activations.shape, np.uint8)
    for start in range(0, len(activations), ACTIVATION_BLOCK):
        values = activations[start : start + ACTIVATION_BLOCK].astype(np.float64)
        with np.errstate(divide="ignore"):  # the sigmoid is 0 and 1 at infinity
            before_sigmoid = np.log(values / (1 - values))
        levels[start : start + ACTIVATION_BLOCK] = np.clip(np.ceil(before_sigmoid * (128 / REACH)) + 127, 0, 255)
    return levels


class Points(NamedTuple):
    """The codes and levels that images are compared by.

    Attributes:
        codes: `[q, b] uint8`, packed.
        levels: `[q, K] uint8`, None if their activations are not known.
    """

    codes: NDArray[np.uint8]
    levels: Levels | None


def points_of(activations: NDArray[np.floating]) -> Points:
    """Return the codes and levels of activations `[q, K]`."""
    return Points(pack(binarise(activations)), quantise(activations))


def words(codes: NDArray[np.uint8]) -> Words:
    """Return packed codes `[n, b]` as columns `[w, n]` of the narrowest word that holds a code, or several uint64.

    A code that does not fill its last word is padded with zeros.
    """
    width = codes.shape[1]
    size = next((size for size in (2, 4) if width <= size), 8)
    if width % size:
        codes = np.pad(codes, [(0, 0), (0, -width % size)])
    return np.ascontiguousarray(np.ascontiguousarray(codes).view(f"u{size}").T)


def differing_bits(left: Words, right: Words) -> NDArray[np.unsignedinteger]:
    """Return the number of bits in which codes `[w, ...]` differ, broadcast behind the first axis.

    Its type is uint8 for codes of one word, uint16 for longer ones, uint32 from 65,536 bits on.
    """
    count = np.bitwise_count(left[0] ^ right[0])
    if len(left) > 1:
        count = count.astype(np.uint16 if len(left) < 1024 else np.uint32)
        for a, b in zip(left[1:], right[1:], strict=True):
            count += np.bitwise_count(a ^ b)
    return count


def require_same_width(queries: NDArray[np.uint8], archive: NDArray[np.uint8]) -> None:
    """Raise UserError if packed codes `[q, b]` and `[n, b]` have different widths."""
    if queries.shape[1] != archive.shape[1]:
        raise UserError(
            f"codes of {queries.shape[1]} and of {archive.shape[1]} bytes cannot be compared: hash both with one model"
        )


class SortedCodes(NamedTuple):
    """An archive, or a part of one, laid out for search: each different code once, with its rows.

    Attributes:
        codes: `[n, b] uint8`, packed, in storage order.
        distinct: `[w, m]`, the different codes as machine words, sorted.
        first: `[m + 1] uint32`, start of the rows of each code in `rows`, and the end.
        rows: `[n] uint32`, code by code, in storage order for each.
        levels: `[n, K] uint8` in the order of `rows`, so that the levels of equal codes are read together; None if they
            are not known.
    """

    codes: NDArray[np.uint8]
    distinct: Words
    first: NDArray[np.uint32]
    rows: NDArray[np.uint32]
    levels: Levels | None

    def levels_of(self, row: int) -> Levels | None:
        """Return the levels `[K]` of a row, None if unknown."""
        if self.levels is None:
            return None
        code = int(np.flatnonzero((self.distinct == words(self.codes[row : row + 1])).all(axis=0))[0])
        first, end = self.first[code : code + 2].tolist()
        return self.levels[first + np.searchsorted(self.rows[first:end], row)]


def lay_out(codes: NDArray[np.uint8], levels: Levels | None = None) -> SortedCodes:
    """Lay out codes `[n, b]` and levels `[n, K]`, both in storage order."""
    columns = words(codes)
    rows = np.lexsort(columns).astype(np.uint32)
    ranked = columns[:, rows]
    begins = np.append(True, (ranked[:, 1:] != ranked[:, :-1]).any(axis=0))[: len(rows)]
    first = np.append(np.flatnonzero(begins), len(rows)).astype(np.uint32)
    distinct = np.ascontiguousarray(ranked[:, begins])
    return SortedCodes(codes, distinct, first, rows, None if levels is None else levels[rows])


def count_distinct(codes: NDArray[np.uint8]) -> int:
    """Number of different rows in packed codes `[n, b]`. Example: the codes 5, 5, 7 have 2."""
    return lay_out(codes).distinct.shape[1]
