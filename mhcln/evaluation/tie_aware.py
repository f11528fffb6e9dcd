"""What the order among equal distances does to average precision: expected value, worst case, best case.

Hamming distances are small integers, so most rankings hold groups of equal distance, and any order inside a group is
as right as another. Symbols, in addition to `mhcln.evaluation.metrics`: rank i lies in a group that starts after `N`
images, `B` of them relevant, and has `n` images, `p` of them relevant.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from mhcln.evaluation.metrics import Relevance, Values

Distances = NDArray[np.integer]


@dataclasses.dataclass(frozen=True)
class TieGroups:
    """The group of equal distance that each of the ranks 1 to k lies in, as `[q, k]` arrays: see the module's symbols.

    `total` `[q]` is R. The group of rank k may reach beyond k; `n` and `p` count all of it.
    """

    N: NDArray[np.int64]
    B: NDArray[np.int64]
    n: NDArray[np.int64]
    p: NDArray[np.int64]
    total: NDArray[np.int64]

    @property
    def k(self) -> int:
        """The cut-off."""
        return int(self.N.shape[1])


def tie_groups(relevant: Relevance, distances: Distances, k: int) -> TieGroups:
    """Find the groups of equal distance down to rank k.

    Args:
        relevant: `[q, n] bool`, the whole ranking, nearest first.
        distances: `[q, n]`, in the same order.
        k: The cut-off, 1 <= k <= n.

    Returns:
        The group of each rank. Example: distances 0 1 1 3 with k = 2 are the groups (N = 0, n = 1) and
        (N = 1, n = 2).
    """
    q = len(relevant)
    rank = np.arange(k)
    opens = np.ones((q, k), bool)
    np.not_equal(distances[:, 1:k], distances[:, : k - 1], out=opens[:, 1:])
    start = np.maximum.accumulate(np.where(opens, rank, 0), axis=1)
    inside = distances <= distances[:, k - 1 : k]
    end = np.empty((q, k), np.int64)
    end[:, -1] = inside.sum(axis=1)
    end[:, :-1] = np.where(opens[:, 1:], rank[1:], k)
    # A rank whose group goes on at the next rank has the end of that rank.
    last = start == start[:, -1:]
    end = np.where(last, end[:, -1:], np.minimum.accumulate(end[:, ::-1], axis=1)[:, ::-1])
    hits = np.zeros((q, k + 1), np.int64)
    np.cumsum(relevant[:, :k], axis=1, out=hits[:, 1:])
    before = np.take_along_axis(hits, start, axis=1)
    within = np.take_along_axis(hits, np.minimum(end, k), axis=1)
    through = np.where(last, (relevant & inside).sum(axis=1)[:, None], within)
    return TieGroups(start, before, end - start, through - before, relevant.sum(axis=1))


def expected_average_precision(ties: TieGroups) -> Values:
    """Expected average precision at k over all orders inside ties, with the denominator min(k, R).

    `sum_i (p / n) (B + 1 + (i - N - 1)(p - 1)/(n - 1)) / i / min(k, R)` over i = 1 to k, exact and linear in the
    orders (McSherry and Najork, ECIR 2008; He et al., CVPR 2018); the inner fraction is 0 if n = 1. Returns `[q]`.
    Example: two images at one distance, one of them relevant, k = 2, R = 1: (1/2)(1)/1 + (1/2)(1)/2 = 3/4, the mean
    of `[+ -]`, which is 1, and `[- +]`, which is 1/2.
    """
    i = np.arange(1, ties.k + 1)
    more = (ties.p - 1) / np.maximum(ties.n - 1, 1)
    gains = ties.p / ties.n * (ties.B + 1 + (i - ties.N - 1) * more) / i
    return gains.sum(axis=1) / np.maximum(np.minimum(ties.k, ties.total), 1)


def worst_and_best(ties: TieGroups) -> tuple[Values, Values]:
    """Worst and best published average precision at k over all orders inside ties.

    Published means `mhcln.evaluation.metrics.average_precision`. In a group that ends within k the hits come last
    (worst) or first (best). The group that holds rank k shows s = k - N of its n images, of which h are hits with
    max(0, s - n + p) <= h <= min(p, s); for each such h the hits come last or first,
    `sum_{j=1..h} (B + j)/(k - h + j) = h + (B - k + h)(H_k - H_{k-h})` or
    `sum_{j=1..h} (B + j)/(N + j) = h + (B - N)(H_{N+h} - H_N)` with harmonic numbers H, divided by B + h; the worst
    and the best h are taken, since fewer hits may score more. Returns two `[q]`. Example: distances 0 1 1, relevant
    + + -, k = 2: `[+ +]` and `[+ -]` both score 1, so both ends are 1; with - + - they are 0 and 1/2.
    """
    i = np.arange(1, ties.k + 1)
    inner = ties.N[:, -1:] > ties.N
    place = i - ties.N
    first = np.where(inner & (place <= ties.p), (ties.B + place) / i, 0).sum(axis=1)
    missed = ties.n - ties.p
    last = np.where(inner & (place > missed), (ties.B + place - missed) / i, 0).sum(axis=1)
    N, B, n, p = (array[:, -1:] for array in (ties.N, ties.B, ties.n, ties.p))
    slots = ties.k - N
    h = np.arange(int(np.minimum(p, slots).max(initial=0)) + 1)
    possible = (h >= np.maximum(0, slots - n + p)) & (h <= np.minimum(p, slots))
    H = np.concatenate(([0.0], np.cumsum(1 / i)))
    hits_last = h + (B - ties.k + h) * (H[ties.k] - H[ties.k - h])
    hits_first = h + (B - N) * (H[np.minimum(N + h, ties.k)] - H[N])
    found = np.maximum(B + h, 1)
    worst = np.where(possible, (last[:, None] + hits_last) / found, np.inf).min(axis=1)
    best = np.where(possible, (first[:, None] + hits_first) / found, -np.inf).max(axis=1)
    return worst, best


def tied_at_cutoff(distances: Distances, k: int) -> NDArray[np.bool_]:
    """Whether rank k falls inside a tie: `d_k = d_{k+1}`, so that the order decides what is in the top k.

    `distances` is `[q, n]`, nearest first; returns `[q]`, all false if k = n. Example: 0 1 1 3 is tied at k = 2, not
    at k = 3.
    """
    if k >= distances.shape[1]:
        return np.zeros(len(distances), bool)
    return distances[:, k - 1] == distances[:, k]
