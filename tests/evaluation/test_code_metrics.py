"""Counts within a Hamming radius, and balance and correlation of bits, by hand and against loops."""

import itertools

import numpy as np
import pytest
from ranking_oracles import relevance

from mhcln.evaluation import code_metrics


def test_counts_within_a_radius_are_as_worked_by_hand():
    counts = code_metrics.count_within_radius(relevance("+-+"), np.array([[0, 2, 2]]), bits=3)
    assert counts.found.tolist() == [[1, 1, 3, 3]]
    assert code_metrics.precision_within(counts)[0] == pytest.approx([1, 1, 2 / 3, 2 / 3])
    assert code_metrics.recall_within(counts)[0] == pytest.approx([1 / 2, 1 / 2, 1, 1])
    assert not code_metrics.empty_within(counts).any()
    nothing = code_metrics.count_within_radius(relevance("--"), np.array([[1, 3]]), bits=3)
    assert code_metrics.empty_within(nothing).tolist() == [[True, False, False, False]]
    assert code_metrics.precision_within(nothing).tolist() == [[0, 0, 0, 0]]
    assert code_metrics.recall_within(nothing).tolist() == [[0, 0, 0, 0]]


def test_counts_within_a_radius_equal_a_loop():
    random = np.random.default_rng(3)
    for _ in range(200):
        q, n, bits = random.integers(1, 7, 3)
        relevant, distances = random.random((q, n)) < 0.5, random.integers(0, bits + 1, (q, n))
        counts = code_metrics.count_within_radius(relevant, distances, bits)
        for row, radius in itertools.product(range(q), range(bits + 1)):
            inside = [bool(r) for r, d in zip(relevant[row], distances[row], strict=True) if d <= radius]
            assert counts.found[row, radius] == len(inside)
            assert code_metrics.empty_within(counts)[row, radius] == (not inside)
            assert code_metrics.precision_within(counts)[row, radius] == pytest.approx(
                sum(inside) / max(len(inside), 1)
            )
            total = max(int(relevant[row].sum()), 1)
            assert code_metrics.recall_within(counts)[row, radius] == pytest.approx(sum(inside) / total)


def test_balance_is_as_worked_by_hand():
    bits = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]])
    assert code_metrics.bit_balance(bits).tolist() == [0.25, 0.25, 0]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["0011", "0101"], 0),
        (["0011", "1100"], 1),
        (["0011", "1100", "0101"], 1 / 3),
        (["0011", "0000", "0011"], 1),  # the constant bit is left out
        (["0011", "1111"], None),
        (["0011"], None),
    ],
)
def test_correlation_is_as_worked_by_hand(columns, expected):
    bits = np.array([[int(bit) for bit in column] for column in columns]).T
    assert code_metrics.bit_correlation(bits) == (None if expected is None else pytest.approx(expected))


def test_correlation_is_pearsons():
    bits = np.random.default_rng(4).integers(0, 2, (50, 6))
    pairs = [abs(np.corrcoef(bits[:, a], bits[:, b])[0, 1]) for a, b in itertools.combinations(range(6), 2)]
    assert code_metrics.bit_correlation(bits) == pytest.approx(np.mean(pairs))


def test_correlation_of_more_bits_than_are_in_memory_at_a_time_is_the_same(monkeypatch):
    bits = np.random.default_rng(5).integers(0, 2, (40, 13))
    whole = code_metrics.bit_correlation(bits)
    for block in (1, 4, 5, 12, 13):
        monkeypatch.setattr(code_metrics, "BIT_BLOCK", block)
        assert code_metrics.bit_correlation(bits) == pytest.approx(whole, rel=1e-12)
