"""Average precision over ties against an oracle that tries every order, and cases worked by hand."""

import numpy as np
import pytest
from ranking_oracles import orders, precision_sum, published, relevance

from mhcln.evaluation import tie_aware


def tied_case(random) -> tuple[np.ndarray, np.ndarray, int]:
    n = int(random.integers(1, 8))
    distances = np.sort(random.integers(0, random.integers(1, 5), n))
    return random.random(n) < random.random(), distances, int(random.integers(1, n + 1))


def test_the_formulas_equal_a_trial_of_every_order():
    random = np.random.default_rng(1)
    for _ in range(500):
        relevant, distances, k = tied_case(random)
        every = [order[:k] for order in orders(relevant, distances)]
        scores = [published(top) for top in every]
        found = min(k, int(relevant.sum()))
        mean = sum(precision_sum(top) for top in every) / len(every) / max(found, 1)
        ties = tie_aware.tie_groups(relevant[None], distances[None], k)
        worst, best = tie_aware.worst_and_best(ties)
        tied = tie_aware.tied_at_cutoff(distances[None], k)
        case = (relevant, distances, k)
        assert tie_aware.expected_average_precision(ties)[0] == pytest.approx(float(mean), abs=1e-12), case
        assert worst[0] == pytest.approx(float(min(scores)), abs=1e-12), case
        assert best[0] == pytest.approx(float(max(scores)), abs=1e-12), case
        assert tied[0] == (k < len(distances) and distances[k - 1] == distances[k])


def test_queries_do_not_touch_each_other():
    random = np.random.default_rng(2)
    relevant = random.random((40, 9)) < 0.4
    distances = np.sort(random.integers(0, 4, (40, 9)), axis=1)
    for k in (1, 4, 9):
        together = tie_aware.tie_groups(relevant, distances, k)
        apart = [tie_aware.tie_groups(relevant[[row]], distances[[row]], k) for row in range(40)]
        expected = [tie_aware.expected_average_precision(one)[0] for one in apart]
        assert tie_aware.expected_average_precision(together) == pytest.approx(expected)
        ends = np.array([tie_aware.worst_and_best(one) for one in apart])[:, :, 0]
        assert pytest.approx(ends) == np.array(tie_aware.worst_and_best(together)).T


@pytest.mark.parametrize(
    ("signs", "distances", "k", "expected", "worst", "best"),
    [
        ("+-", [3, 3], 2, 3 / 4, 1 / 2, 1),
        ("++-", [0, 1, 1], 2, 3 / 4, 1, 1),  # [+ +] is 1 and [+ -] 1/2 if divided by 2; as published both are 1
        ("-+-", [0, 1, 1], 2, 1 / 4, 0, 1 / 2),
        ("+-+", [0, 0, 0], 1, 2 / 3, 0, 1),
        ("--", [0, 0], 2, 0, 0, 0),
    ],
)
def test_ties_give_what_was_worked_by_hand(signs, distances, k, expected, worst, best):
    ties = tie_aware.tie_groups(relevance(signs), np.array([distances]), k)
    assert tie_aware.expected_average_precision(ties)[0] == pytest.approx(expected)
    assert [end[0] for end in tie_aware.worst_and_best(ties)] == pytest.approx([worst, best])
