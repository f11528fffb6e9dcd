"""Whether hash codes use their bits: balance, correlation, distinct values."""

import numpy as np
from numpy.typing import NDArray

from mhcln.metrics import Values


def bit_balance(bits: NDArray[np.integer]) -> Values:
    """How evenly each bit divides the images: `min(m_j, 1 - m_j)`, `m_j` the mean of bit j; 1/2 is even, 0 constant.

    `bits` [n, K] of 0 and 1; answers [K]. Worked: a bit that is 1 in 3 of 10 images has 0.3, as has one that is 1
    in 7.
    """
    ones = bits.mean(axis=0)
    return np.minimum(ones, 1 - ones)


def bit_correlation(bits: NDArray[np.integer]) -> float | None:
    """Mean of `|r_jl|` over all pairs of bits j < l that vary, `r` being Pearson's correlation over the images.

    `bits` [n, K] of 0 and 1; None where fewer than two bits vary. Worked: bits 0011 and 0101 have r = 0; bits 0011
    and 1100 have r = -1, so 1.
    """
    varying = bits[:, bits.min(axis=0) != bits.max(axis=0)].astype(np.float64)
    count = varying.shape[1]
    if count < 2:
        return None
    centred = varying - varying.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=0)
    return float(np.abs(unit.T @ unit)[np.triu_indices(count, 1)].mean())


def distinct(codes: NDArray[np.uint8]) -> int:
    """Number of different rows in packed codes [n, b]. Worked: codes 5, 5, 7 have 2."""
    rows = np.ascontiguousarray(codes)
    return len(np.unique(rows.view(f"V{rows.shape[1]}")))
