"""Average precision and its relatives against cases worked by hand and an oracle that tries every order of ties."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhcln import codehealth, hamming, lookup, metrics, ties


def rankings(signs: str) -> np.ndarray:
    return np.array([[sign == "+" for sign in signs]])


def published(top) -> Fraction:
    """The published evaluator's loop (UCMD/eval.py:64-77), in exact arithmetic."""
    hits, total = 0, Fraction(0)
    for rank, relevant in enumerate(top, start=1):
        if relevant:
            hits += 1
            total += Fraction(hits, rank)
    return total / hits if hits else Fraction(0)


def precision_sum(top) -> Fraction:
    return sum((Fraction(sum(top[: i + 1]), i + 1) for i in range(len(top)) if top[i]), Fraction(0))


def orders(relevant, distances):
    """Every ranking that the distances allow, as tuples of relevance."""
    pools = [
        [bool(r) for r, d in zip(relevant, distances, strict=True) if d == level] for level in sorted(set(distances))
    ]
    for chosen in itertools.product(*(list(itertools.permutations(pool)) for pool in pools)):
        yield tuple(itertools.chain.from_iterable(chosen))


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
def test_hand_worked_cases(signs, total, expected):
    top, totals = rankings(signs), np.array([total])
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


def tied_case(random) -> tuple[np.ndarray, np.ndarray, int]:
    n = int(random.integers(1, 8))
    distances = np.sort(random.integers(0, random.integers(1, 5), n))
    return random.random(n) < random.random(), distances, int(random.integers(1, n + 1))


def test_ties_against_every_order():
    random = np.random.default_rng(1)
    for _ in range(500):
        relevant, distances, k = tied_case(random)
        every = [order[:k] for order in orders(relevant, distances)]
        scores = [published(top) for top in every]
        found = min(k, int(relevant.sum()))
        mean = sum(precision_sum(top) for top in every) / len(every) / max(found, 1)
        tied = ties.groups(relevant[None], distances[None], k)
        worst, best = ties.band(tied)
        case = (relevant, distances, k)
        assert ties.expected_average_precision(tied)[0] == pytest.approx(float(mean), abs=1e-12), case
        assert worst[0] == pytest.approx(float(min(scores)), abs=1e-12), case
        assert best[0] == pytest.approx(float(max(scores)), abs=1e-12), case
        assert ties.tied_at_cutoff(distances[None], k)[0] == (k < len(distances) and distances[k - 1] == distances[k])


def test_queries_do_not_touch_each_other():
    random = np.random.default_rng(2)
    relevant = random.random((40, 9)) < 0.4
    distances = np.sort(random.integers(0, 4, (40, 9)), axis=1)
    for k in (1, 4, 9):
        together = ties.groups(relevant, distances, k)
        apart = [ties.groups(relevant[[row]], distances[[row]], k) for row in range(40)]
        expected = [ties.expected_average_precision(one)[0] for one in apart]
        assert ties.expected_average_precision(together) == pytest.approx(expected)
        bands = np.array([ties.band(one) for one in apart])[:, :, 0]
        assert pytest.approx(bands) == np.array(ties.band(together)).T


@pytest.mark.parametrize(
    ("signs", "distances", "k", "expected", "worst", "best"),
    [
        ("+-", [3, 3], 2, 3 / 4, 1 / 2, 1),
        ("++-", [0, 1, 1], 2, 3 / 4, 1, 1),  # [+ +] is 1 and [+ -] 1/2 where divided by 2; as published both are 1
        ("-+-", [0, 1, 1], 2, 1 / 4, 0, 1 / 2),
        ("+-+", [0, 0, 0], 1, 2 / 3, 0, 1),
        ("--", [0, 0], 2, 0, 0, 0),
    ],
)
def test_ties_worked_by_hand(signs, distances, k, expected, worst, best):
    tied = ties.groups(rankings(signs), np.array([distances]), k)
    assert ties.expected_average_precision(tied)[0] == pytest.approx(expected)
    assert [end[0] for end in ties.band(tied)] == pytest.approx([worst, best])


ranked = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.booleans(), min_size=n, max_size=n),
        st.lists(st.integers(0, 4), min_size=n, max_size=n).map(sorted),
        st.integers(1, n),
    )
)


@given(ranked)
def test_the_order_found_lies_between_worst_and_best(case):
    relevant, distances, k = np.array([case[0]]), np.array([case[1]]), case[2]
    tied = ties.groups(relevant, distances, k)
    worst, best = ties.band(tied)
    assert worst[0] - 1e-12 <= metrics.average_precision(relevant[:, :k])[0] <= best[0] + 1e-12
    assert 0 <= worst[0] <= best[0] + 1e-12 <= 1 + 2e-12


@given(ranked)
def test_expectation_lies_between_the_ends_where_the_denominators_agree(case):
    # Over the whole ranking both definitions divide by R.
    relevant, distances = np.array([case[0]]), np.array([case[1]])
    tied = ties.groups(relevant, distances, len(case[0]))
    worst, best = ties.band(tied)
    assert worst[0] - 1e-12 <= ties.expected_average_precision(tied)[0] <= best[0] + 1e-12


@given(ranked)
def test_without_ties_there_is_one_order(case):
    relevant, k = np.array([case[0]]), case[2]
    tied = ties.groups(relevant, np.arange(len(case[0]))[None], k)
    top, total = relevant[:, :k], relevant.sum(axis=1)
    assert ties.expected_average_precision(tied)[0] == pytest.approx(metrics.average_precision_min(top, total)[0])
    assert [end[0] for end in ties.band(tied)] == pytest.approx([metrics.average_precision(top)[0]] * 2)


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_a_relevant_image_at_the_front_lowers_neither_precision_nor_full_average_precision(signs):
    before, after = np.array([signs]), np.array([[True, *signs[:-1]]])
    assert metrics.precision(after)[0] >= metrics.precision(before)[0]
    longer = np.array([[True, *signs]])
    full = metrics.average_precision_min(before, before.sum(axis=1))[0]
    assert metrics.average_precision_min(longer, longer.sum(axis=1))[0] >= full - 1e-12


def test_balls_by_hand():
    inside = lookup.balls(rankings("+-+"), np.array([[0, 2, 2]]), bits=3)
    assert inside.found.tolist() == [[1, 1, 3, 3]]
    assert lookup.precision_within(inside)[0] == pytest.approx([1, 1, 2 / 3, 2 / 3])
    assert lookup.recall_within(inside)[0] == pytest.approx([1 / 2, 1 / 2, 1, 1])
    assert not lookup.empty(inside).any()
    nothing = lookup.balls(rankings("--"), np.array([[1, 3]]), bits=3)
    assert lookup.empty(nothing).tolist() == [[True, False, False, False]]
    assert lookup.precision_within(nothing).tolist() == [[0, 0, 0, 0]]
    assert lookup.recall_within(nothing).tolist() == [[0, 0, 0, 0]]


def test_balls_against_a_loop():
    random = np.random.default_rng(3)
    for _ in range(200):
        q, n, bits = random.integers(1, 7, 3)
        relevant, distances = random.random((q, n)) < 0.5, random.integers(0, bits + 1, (q, n))
        inside = lookup.balls(relevant, distances, bits)
        for row, radius in itertools.product(range(q), range(bits + 1)):
            ball = [bool(r) for r, d in zip(relevant[row], distances[row], strict=True) if d <= radius]
            assert inside.found[row, radius] == len(ball)
            assert lookup.empty(inside)[row, radius] == (not ball)
            assert lookup.precision_within(inside)[row, radius] == pytest.approx(sum(ball) / max(len(ball), 1))
            possible = max(int(relevant[row].sum()), 1)
            assert lookup.recall_within(inside)[row, radius] == pytest.approx(sum(ball) / possible)


def test_means_of_classes_and_confusion_by_hand():
    means = metrics.mean_per_class(np.array([1, 0, 0.5]), np.array([0, 0, 2]), 3)
    assert means[[0, 2]].tolist() == [0.5, 0.5]
    assert math.isnan(means[1])
    taken = metrics.confusion(np.array([0, 2, 2]), np.array([[0, 1], [2, 0], [0, 0]]), 3)
    assert taken.tolist() == [[0.5, 0.5, 0], [0, 0, 0], [0.75, 0, 0.25]]
    assert metrics.confusion(np.array([0]), np.array([[1]]), 2).tolist() == [[0, 1], [0, 0]]


def test_balance_by_hand():
    bits = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]])
    assert codehealth.bit_balance(bits).tolist() == [0.25, 0.25, 0]


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
def test_correlation_by_hand(columns, expected):
    bits = np.array([[int(bit) for bit in column] for column in columns]).T
    assert codehealth.bit_correlation(bits) == (None if expected is None else pytest.approx(expected))


def test_correlation_is_pearsons():
    bits = np.random.default_rng(4).integers(0, 2, (50, 6))
    pairs = [abs(np.corrcoef(bits[:, a], bits[:, b])[0, 1]) for a, b in itertools.combinations(range(6), 2)]
    assert codehealth.bit_correlation(bits) == pytest.approx(np.mean(pairs))


def test_distinct_codes_are_counted():
    bits = np.random.default_rng(5).integers(0, 2, (300, 11))
    bits[:, 2:9] = 0
    assert codehealth.distinct(hamming.pack(bits)) == len({tuple(row) for row in bits.tolist()})
