"""Average precision and its relatives against cases worked by hand and loops."""

import math

import numpy as np
import pytest
from ranking_oracles import precision_sum, published, relevance

from mhcln.evaluation import metrics, ranking


@pytest.mark.parametrize(
    ("signs", "total", "expected"),
    [
        ("+-+", 5, {"published": 5 / 6, "min": 5 / 9, "precision": 2 / 3, "recall": 2 / 5}),
        ("+--", 5, {"published": 1, "min": 1 / 3, "precision": 1 / 3, "recall": 1 / 5}),
        ("---", 2, {"published": 0, "min": 0, "precision": 0, "recall": 0}),
        ("+++", 3, {"published": 1, "min": 1, "precision": 1, "recall": 1}),
        ("--+", 1, {"published": 1 / 3, "min": 1 / 3, "precision": 1 / 3, "recall": 1}),
        ("-+-+", 2, {"published": 1 / 2, "min": 1 / 2, "precision": 1 / 2, "recall": 1}),
        ("-", 0, {"published": 0, "min": 0, "precision": 0, "recall": 0}),
    ],
)
def test_formulas_give_what_was_worked_by_hand(signs, total, expected):
    top, totals = relevance(signs), np.array([total])
    assert metrics.average_precision(top)[0] == pytest.approx(expected["published"])
    assert metrics.average_precision_min(top, totals)[0] == pytest.approx(expected["min"])
    assert metrics.precision(top)[0] == pytest.approx(expected["precision"])
    assert metrics.recall(top, totals)[0] == pytest.approx(expected["recall"])


def test_many_rankings_at_once_equal_the_loop():
    random = np.random.default_rng(0)
    for _ in range(200):
        q, k = random.integers(1, 8, 2)
        top = random.random((q, k)) < random.random()
        total = top.sum(axis=1) + random.integers(0, 4, q)
        assert metrics.average_precision(top) == pytest.approx([float(published(row)) for row in top])
        expected = [float(precision_sum(row.tolist())) / max(min(k, r), 1) for row, r in zip(top, total, strict=True)]
        assert metrics.average_precision_min(top, total) == pytest.approx(expected)


def test_means_of_classes_and_confusion_are_as_worked_by_hand():
    means = metrics.mean_per_class(np.array([1, 0, 0.5]), np.array([0, 0, 2]), 3)
    assert means[[0, 2]].tolist() == [0.5, 0.5]
    assert math.isnan(means[1])
    confusion = metrics.confusion(np.array([0, 2, 2]), np.array([[0, 1], [2, 0], [0, 0]]), 3)
    assert confusion.tolist() == [[0.5, 0.5, 0], [0, 0, 0], [0.75, 0, 0.25]]
    assert metrics.confusion(np.array([0]), np.array([[1]]), 2).tolist() == [[0, 1], [0, 0]]


def test_equal_vectors_keep_the_storage_order_and_zeros_are_far():
    vectors = np.array([[1, 0], [0, 0], [2, 0], [0, 3], [1, 0]], np.float32)
    (block,) = ranking.by_cosine(vectors[[0]], vectors, np.array([0]))
    assert block.order[0].tolist() == [2, 4, 1, 3]
    assert (block.distances[0] / ranking.STEPS).tolist() == [0, 0, 1, 1]
