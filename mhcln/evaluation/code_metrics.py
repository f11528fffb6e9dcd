"""What only hash codes have: images within a Hamming radius of the query, and bits that are used well or not."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from mhcln.evaluation.metrics import Relevance, Values

BIT_BLOCK = 1024  # bits whose correlations with all others are in memory at a time: 0.5 GB for codes of 65,536 bits


@dataclasses.dataclass(frozen=True)
class RadiusCounts:
    """How many images lie within each radius 0 to K of a query: all (`found`) and relevant (`hits`), `[q, K + 1]`."""

    found: NDArray[np.int64]
    hits: NDArray[np.int64]


def count_within_radius(relevant: Relevance, distances: NDArray[np.integer], bits: int) -> RadiusCounts:
    """Count the images within each Hamming radius.

    Args:
        relevant: `[q, n] bool`, in any order.
        distances: `[q, n]` Hamming distances, in the same order.
        bits: K, bits of a code.

    Returns:
        `found_r = #{j: d_j <= r}` and `hits_r = #{j: d_j <= r, rel_j = 1}`. Example: distances 0 2 2, relevant + - +,
        2 bits: found 1 1 3, hits 1 1 2.
    """
    q, radii = len(relevant), bits + 1
    cell = np.arange(q)[:, None] * radii + distances
    found = np.bincount(cell.ravel(), minlength=q * radii).reshape(q, radii)
    hits = np.bincount(cell[relevant], minlength=q * radii).reshape(q, radii)
    return RadiusCounts(found.cumsum(axis=1), hits.cumsum(axis=1))


def precision_within(counts: RadiusCounts) -> Values:
    """Precision of each radius: `hits_r / found_r`, 0 if nothing is found; returns `[q, K + 1]`.

    Example: found 0 4, hits 0 3 gives 0 and 3/4.
    """
    return counts.hits / np.maximum(counts.found, 1)


def recall_within(counts: RadiusCounts) -> Values:
    """Recall of each radius: `hits_r / R`; returns `[q, K + 1]`. Example: hits 1 2, R = 2 gives 1/2 and 1."""
    return counts.hits / np.maximum(counts.hits[:, -1:], 1)


def empty_within(counts: RadiusCounts) -> NDArray[np.bool_]:
    """Whether each radius holds nothing, `found_r = 0`; returns `[q, K + 1]`. Example: found 0 4 is empty at 0."""
    return counts.found == 0


def bit_balance(bits: NDArray[np.integer]) -> Values:
    """How evenly each bit divides the images: `min(m_j, 1 - m_j)`, `m_j` the mean of bit j; 1/2 is even, 0 constant.

    `bits` is `[n, K]` of 0 and 1; returns `[K]`. Example: a bit that is 1 in 3 of 10 images has 0.3, as has one that
    is 1 in 7.
    """
    ones = bits.mean(axis=0)
    return np.minimum(ones, 1 - ones)


def bit_correlation(bits: NDArray[np.integer]) -> float | None:
    """Mean of `|r_jl|` over all pairs of bits j < l that vary, `r` being Pearson's correlation over the images.

    `bits` is `[n, K]` of 0 and 1; returns None if fewer than two bits vary. Example: bits 0011 and 0101 have r = 0;
    bits 0011 and 1100 have r = -1, so 1.
    """
    varying = bits[:, bits.min(axis=0) != bits.max(axis=0)].astype(np.float64)
    count = varying.shape[1]
    if count < 2:
        return None
    centred = varying - varying.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=0)
    total = sum(
        np.triu(np.abs(unit[:, first : first + BIT_BLOCK].T @ unit[:, first:]), 1).sum()
        for first in range(0, count, BIT_BLOCK)
    )
    return float(total / (count * (count - 1) / 2))
