"""Fixed binary codes of classes, towards which the codes of their images are drawn.

OrthoHash and SDH take `class_codes`, which are as far from each other as possible, CSQ and DPN `balanced_codes`.
"""

import math

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError

RESTARTS = 8
# Each bit of distance divides what a pair of codes adds to the sum by this: steep, so that the closest pairs decide.
STEEPNESS = 3.0
WORK = 50_000_000  # products of bits per restart, which bounds the time for very many classes


def class_codes(classes: int, bits: int, seed: int) -> NDArray[np.int8]:
    """Find codes whose closest two are as far apart as possible.

    Random codes (Hoe et al., NeurIPS 2021) are nearly orthogonal only for many bits: with 16 bits and
    21 classes the closest two of them differ in 2 or 3. Here random codes are improved by flipping, one at a time,
    the bit that most lowers the sum over pairs of 3^-distance, until none lowers it. The best of 8 such starts is
    taken, by smallest distance, then by the fewest pairs at it.

    Args:
        classes: Number of codes, two or more.
        bits: Bits of a code.
        seed: Seed of the random codes.

    Returns:
        `[classes, bits] int8` of -1 and 1.
    """
    if bits < 63 and 2**bits < classes:
        raise UserError(f"{bits} bits make {2**bits} codes, too few for {classes} classes; take more bits")
    rng = np.random.default_rng(seed)
    starts = [_improve(rng.choice(np.array([-1.0, 1.0]), (classes, bits))) for _ in range(RESTARTS)]
    return max(starts, key=_quality).astype(np.int8)


def balanced_codes(classes: int, bits: int, seed: int) -> NDArray[np.int8]:
    """Draw different codes of which half of the bits are 1, half rounded down if their number is odd.

    Args:
        classes: Number of codes.
        bits: Bits of a code.
        seed: Seed of the draw.

    Returns:
        `[classes, bits] int8` of -1 and 1.
    """
    there = math.comb(bits, bits // 2)
    if there < classes:
        raise UserError(
            f"{bits} bits make {there} codes with half of them set, too few for {classes} classes; take more bits"
        )
    rng, drawn = np.random.default_rng(seed), dict[bytes, NDArray[np.int8]]()
    code = np.where(np.arange(bits) < bits // 2, 1, -1).astype(np.int8)
    while len(drawn) < classes:
        one = rng.permutation(code)
        drawn[one.tobytes()] = one
    return np.stack(list(drawn.values()))


def distances(codes: NDArray[np.int8] | NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the Hamming distances `[c, c]` between codes `[c, bits]` of -1 and 1.

    Example: (1, -1, 1) and (1, 1, -1) differ in 2 bits: (3 - (1 - 1 - 1)) / 2.
    """
    signs = codes.astype(np.int64)
    return (signs.shape[1] - signs @ signs.T) // 2


def _quality(codes: NDArray[np.float64]) -> tuple[int, int]:
    """Return the smallest distance between two codes, and how few pairs have it."""
    pairs = distances(codes)[np.triu_indices(len(codes), 1)]
    smallest = int(pairs.min(initial=codes.shape[1]))
    return smallest, -int((pairs == smallest).sum())


def _improve(codes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Flip bits of `codes`, in place, as long as that lowers the sum over pairs of 3^-distance."""
    classes, bits = codes.shape
    for _ in range(max(1, WORK // (classes * classes * bits))):
        apart = distances(codes).astype(np.float64)
        np.fill_diagonal(apart, np.inf)
        weight = STEEPNESS ** (apart.min() - apart)
        # flipping a bit that two codes share moves them apart by one, any other bit brings them nearer by one
        farther, nearer = 1 / STEEPNESS - 1, STEEPNESS - 1
        shared = weight @ codes * codes
        both = weight.sum(axis=1, keepdims=True)
        change = farther * (both + shared) / 2 + nearer * (both - shared) / 2
        row, bit = np.unravel_index(change.argmin(), change.shape)
        if change[row, bit] > -1e-9:
            break
        codes[row, bit] *= -1
    return codes
