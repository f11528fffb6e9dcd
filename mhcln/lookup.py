"""Precision and recall of looking up every image within a Hamming radius of the query."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from mhcln.metrics import Relevance, Values


@dataclasses.dataclass(frozen=True)
class Balls:
    """What lies within each radius 0 to K of each query: `found` and `hits`, [q, K + 1] counts."""

    found: NDArray[np.int64]
    hits: NDArray[np.int64]


def balls(relevant: Relevance, distances: NDArray[np.integer], bits: int) -> Balls:
    """Count what lies within each radius; `relevant` and `distances` [q, n] in one order, whichever it is.

    `found_r = #{j: d_j <= r}`, `hits_r = #{j: d_j <= r, rel_j = 1}`. Worked: distances 0 2 2, relevant + - +,
    2 bits: found 1 1 3, hits 1 1 2.
    """
    q = len(relevant)
    cell = np.arange(q)[:, None] * (bits + 1) + distances
    shape = (q, bits + 1)
    found = np.bincount(cell.ravel(), minlength=q * (bits + 1)).reshape(shape)
    hits = np.bincount(cell[relevant], minlength=q * (bits + 1)).reshape(shape)
    return Balls(found.cumsum(axis=1), hits.cumsum(axis=1))


def precision_within(inside: Balls) -> Values:
    """Share of each ball that is relevant: `hits_r / found_r`, 0 for an empty ball; answers [q, K + 1].

    Worked: found 0 4, hits 0 3 gives 0 and 3/4.
    """
    return inside.hits / np.maximum(inside.found, 1)


def recall_within(inside: Balls) -> Values:
    """Share of the relevant that each ball holds: `hits_r / R`; answers [q, K + 1]. Worked: hits 1 2, R = 2: 1/2, 1."""
    return inside.hits / np.maximum(inside.hits[:, -1:], 1)


def empty(inside: Balls) -> NDArray[np.bool_]:
    """Whether each ball holds nothing, `found_r = 0`; answers [q, K + 1]. Worked: found 0 4 is empty at radius 0."""
    return inside.found == 0
