"""Arrays of texts, a million and more, handled without a Python string for each."""

import numpy as np
from numpy.typing import NDArray

Texts = NDArray[np.str_]
LARGEST = 0x10FFFF  # code point of Unicode
BLOCK = 1 << 12  # texts summed at a time: they fit a level-2 cache


def are_unicode(texts: Texts) -> bool:
    """Whether every letter is a code point; reading one that is none would fail, wherever that happens first."""
    letters = _letters(texts)
    return not letters.size or letters.max() <= LARGEST


def all_differ(texts: Texts) -> bool:
    """Whether no text `[n]` stands twice. Exact: where weighted sums of letters meet, the texts are compared."""
    letters = _letters(texts)
    weights = np.random.default_rng(0).integers(1 << 64, size=letters.shape[1], dtype=np.uint64, endpoint=False)
    sums = np.empty(len(letters), np.uint64)
    for start in range(0, len(letters), BLOCK):
        block = letters[start : start + BLOCK].astype(np.uint64)
        np.einsum("ij,j->i", block, weights, out=sums[start : start + BLOCK])
    sums.sort()
    return bool((sums[1:] != sums[:-1]).all()) or len(set(texts.tolist())) == len(texts)


def _letters(texts: Texts) -> NDArray[np.uint32]:
    width = texts.dtype.itemsize // 4
    return np.ascontiguousarray(texts).view(f"{texts.dtype.byteorder}u4").reshape(len(texts), width)
