"""Average precision and its relatives, from ranked relevance: what was found, nearest first, right or wrong.

Symbols in every formula: `rel_i` is 1 where the image at rank i has the query's class and 0 where not; `hits_i` is
`rel_1 + ... + rel_i`; `P_i = hits_i / i` is the precision at rank i; `R` is how many images of the archive have the
query's class, the query itself left out; `k` is the cut-off. Everything is per query and vectorised over `q` queries;
where a value does not exist it is 0, and queries with `R = 0` are for the caller to leave out.
"""

import numpy as np
from numpy.typing import NDArray

Relevance = NDArray[np.bool_]
Values = NDArray[np.float64]


def average_precision(top: Relevance) -> Values:
    """Average precision of the published code (UCMD/eval.py:64-77): `sum_i rel_i P_i / hits_k`, 0 where `hits_k = 0`.

    `top` [q, k] bool in ranked order; answers [q]. Worked: `[+ - +]` gives (1/1 + 2/3) / 2 = 5/6, while `[+ - -]`
    gives 1/1 / 1 = 1: finding one more can lower it, which is why the other denominators stand beside it.
    """
    hits = top.sum(axis=1)
    return _precision_at_hits(top) / np.maximum(hits, 1)


def average_precision_min(top: Relevance, total: NDArray[np.integer]) -> Values:
    """Average precision over what could be found: `sum_i rel_i P_i / min(k, R)`.

    `top` [q, k] bool in ranked order, `total` [q] the `R` of each query; answers [q]. With the whole ranking as
    `top`, k is at least R and this is average precision proper, `sum_i rel_i P_i / R`. Worked: `[+ - +]` with R = 5
    gives (1/1 + 2/3) / 3 = 5/9, and `[+ - -]` gives 1/3.
    """
    return _precision_at_hits(top) / np.maximum(np.minimum(top.shape[1], total), 1)


def precision(top: Relevance) -> Values:
    """Share of the top k that is relevant: `hits_k / k`; `top` [q, k] bool, answers [q]. Worked: `[+ - +]` is 2/3."""
    return top.mean(axis=1)


def recall(top: Relevance, total: NDArray[np.integer]) -> Values:
    """Share of the relevant that is in the top k: `hits_k / R`; answers [q]. Worked: `[+ - +]` with R = 5 is 2/5."""
    return top.sum(axis=1) / np.maximum(total, 1)


def mean_per_class(values: Values, labels: NDArray[np.integer], classes: int) -> Values:
    """Mean of `values` [q] over the queries of each class: [classes], NaN for a class without queries.

    `mean_c = sum of values of class c / queries of class c`. Worked: values 1, 0, 0.5 of classes 0, 0, 2 give
    0.5, NaN, 0.5.
    """
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=values, minlength=classes)
    return np.divide(sums, counts, out=np.full(classes, np.nan), where=counts > 0)


def confusion(queries: NDArray[np.integer], found: NDArray[np.integer], classes: int) -> Values:
    """How the classes are taken for each other: `[a, b]` is the share of class b in the top k of queries of class a.

    `queries` [q] labels, `found` [q, k] labels of what was retrieved; answers [classes, classes], whose rows sum
    to 1 or, for a class without queries, to 0. Worked: one query of class 0 that found classes 0, 0, 1, 1 gives the
    row 0.5, 0.5.
    """
    pairs = queries[:, None].astype(np.int64) * classes + found
    counts = np.bincount(pairs.ravel(), minlength=classes * classes).reshape(classes, classes)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _precision_at_hits(relevant: Relevance) -> Values:
    # Only the hits are walked: row-major order numbers them within their query.
    row, column = np.nonzero(relevant)
    first = np.searchsorted(row, np.arange(len(relevant)))
    number = np.arange(1, len(row) + 1) - first[row]
    return np.bincount(row, weights=number / (column + 1), minlength=len(relevant))
