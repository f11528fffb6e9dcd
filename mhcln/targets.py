"""Binary codes for classes, as far from each other as they go: what OrthoHash draws the images' codes towards."""

import numpy as np

from mhcln.errors import UserError

RESTARTS = 8
# Each bit of distance makes a pair of codes this much less pressing: steep, so that the closest pairs decide.
STEEPNESS = 3.0
WORK = 50_000_000  # products of bits per restart, which bounds the time for very many classes


def class_targets(classes: int, bits: int, seed: int) -> np.ndarray:
    """Codes [classes, bits] int8 of -1 and 1, two classes or more, as far apart as their closest two go.

    Random codes (Hoe et al., NeurIPS 2021) are nearly orthogonal only for many bits: with 16 bits and
    21 classes the closest two of them differ in 2 or 3. Here random codes are improved by flipping, one at a time,
    the bit that most lowers the sum over pairs of 3^-distance, until none does; the best of 8 such starts is
    taken, by smallest distance, then by the fewest pairs at it.

    Raises UserError where there are fewer codes than classes.
    """
    if bits < 63 and 2**bits < classes:
        raise UserError(f"{bits} bits make {2**bits} codes, too few for {classes} classes; take more HASH_BITS")
    rng = np.random.default_rng(seed)
    starts = [_improved(rng.choice(np.array([-1.0, 1.0]), (classes, bits))) for _ in range(RESTARTS)]
    return max(starts, key=_quality).astype(np.int8)


def distances(targets: np.ndarray) -> np.ndarray:
    """Hamming distances [classes, classes] int between targets [classes, bits] of -1 and 1."""
    codes = targets.astype(np.int64)
    return (codes.shape[1] - codes @ codes.T) // 2


def _quality(targets: np.ndarray) -> tuple[int, int]:
    pairs = distances(targets)[np.triu_indices(len(targets), 1)]
    least = int(pairs.min(initial=targets.shape[1]))
    return least, -int((pairs == least).sum())


def _improved(codes: np.ndarray) -> np.ndarray:
    classes, bits = codes.shape
    for _ in range(max(1, WORK // (classes * classes * bits))):
        apart_now = distances(codes).astype(np.float64)
        np.fill_diagonal(apart_now, np.inf)
        pressure = STEEPNESS ** (apart_now.min() - apart_now)
        # flipping a bit that two codes share moves them apart by one, any other brings them nearer by one
        apart, nearer = 1 / STEEPNESS - 1, STEEPNESS - 1
        alike = pressure @ codes * codes
        both = pressure.sum(axis=1, keepdims=True)
        change = apart * (both + alike) / 2 + nearer * (both - alike) / 2
        row, bit = np.unravel_index(change.argmin(), change.shape)
        if change[row, bit] > -1e-9:
            break
        codes[row, bit] *= -1
    return codes
