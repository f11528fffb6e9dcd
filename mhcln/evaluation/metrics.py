"""Average precision and its relatives, from ranked relevance: what was retrieved, nearest first, relevant or not.

Symbols in every formula: `rel_i` is 1 if the image at rank i has the query's class, else 0; `hits_i` is
`rel_1 + ... + rel_i`; `P_i = hits_i / i` is the precision at rank i; `R` is how many images of the archive have the
query's class, the query itself left out; `k` is the cut-off. Everything is per query and vectorised over `q` queries;
a value that does not exist is 0, and the caller leaves out queries with `R = 0`.
"""

import numpy as np
from numpy.typing import NDArray

Relevance = NDArray[np.bool_]
Values = NDArray[np.float64]


def average_precision(top: Relevance) -> Values:
    """Average precision of the published code (UCMD/eval.py:64-77): `sum_i rel_i P_i / hits_k`, 0 if `hits_k = 0`.

    `top` is `[q, k] bool` in ranked order; returns `[q]`. Example: `[+ - +]` gives (1/1 + 2/3) / 2 = 5/6, but
    `[+ - -]` gives 1/1 / 1 = 1: one more hit can lower it, which is why there are the other denominators.
    """
    return _sum_of_precisions(top) / np.maximum(top.sum(axis=1), 1)


def average_precision_min(top: Relevance, total: NDArray[np.integer]) -> Values:
    """Average precision over what could be found: `sum_i rel_i P_i / min(k, R)`.

    `top` is `[q, k] bool` in ranked order, `total` `[q]` the `R` of each query; returns `[q]`. With the whole ranking
    as `top`, k is at least R and this is average precision proper, `sum_i rel_i P_i / R`. Example: `[+ - +]` with
    R = 5 gives (1/1 + 2/3) / 3 = 5/9, and `[+ - -]` gives 1/3.
    """
    return _sum_of_precisions(top) / np.maximum(np.minimum(top.shape[1], total), 1)


def precision(top: Relevance) -> Values:
    """Share of the top k that is relevant: `hits_k / k`; returns `[q]`. Example: `[+ - +]` is 2/3."""
    return top.mean(axis=1)


def recall(top: Relevance, total: NDArray[np.integer]) -> Values:
    """Share of the relevant that is in the top k: `hits_k / R`; returns `[q]`. Example: `[+ - +]` with R = 5 is 2/5."""
    return top.sum(axis=1) / np.maximum(total, 1)


def mean_per_class(values: Values, labels: NDArray[np.integer], classes: int) -> Values:
    """Mean over the queries of each class: `sum of values of class c / queries of class c`.

    Args:
        values: `[q]`, one value per query.
        labels: `[q]` class of each query.
        classes: Number of classes.

    Returns:
        `[classes]`, NaN for a class without queries. Example: values 1, 0, 0.5 of classes 0, 0, 2 give 0.5, NaN, 0.5.
    """
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=values, minlength=classes)
    return np.divide(sums, counts, out=np.full(classes, np.nan), where=counts > 0)


def confusion(queries: NDArray[np.integer], found: NDArray[np.integer], classes: int) -> Values:
    """How the classes are taken for each other.

    Args:
        queries: `[q]` class of each query.
        found: `[q, k]` classes of what was retrieved.
        classes: Number of classes.

    Returns:
        `[classes, classes]`; `[a, b]` is the share of class b in the top k of queries of class a. Rows sum to 1, or
        to 0 for a class without queries. Example: one query of class 0 that found classes 0, 0, 1, 1 gives the row
        0.5, 0.5.
    """
    pairs = queries[:, None].astype(np.int64) * classes + found
    counts = np.bincount(pairs.ravel(), minlength=classes * classes).reshape(classes, classes)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _sum_of_precisions(relevant: Relevance) -> Values:
    # Only the hits are visited: row-major order numbers them within their query.
    row, column = np.nonzero(relevant)
    first = np.searchsorted(row, np.arange(len(relevant)))
    number = np.arange(1, len(row) + 1) - first[row]
    # NumPy's stubs overlook that weights make it float64
    return np.bincount(row, weights=number / (column + 1), minlength=len(relevant))  # type: ignore[return-value]
