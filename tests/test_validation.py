"""Holding back: how many of each class, by seed; and the score of held-back codes."""

import numpy as np
import pytest

from mhcln.validation import held_back, mean_average_precision


@pytest.mark.parametrize(
    ("count", "share", "held"), [(60, 0.1, 6), (2, 0.5, 0), (1, 0.9, 0), (3, 0.1, 1), (15, 0.1, 2), (4, 0.9, 2)]
)
def test_a_share_of_each_class_is_held_back(count, share, held):
    labels = np.repeat([0, 7], [count, 10])
    mask = held_back(labels, share, seed=0)
    assert mask[labels == 0].sum() == held
    assert (mask == held_back(labels, share, seed=0)).all()


def test_seed_decides_who_is_held_back_and_classes_do_not_depend_on_each_other():
    labels = np.repeat([0, 1], 40)
    assert (held_back(labels, 0.2, seed=0) != held_back(labels, 0.2, seed=1)).any()
    assert (held_back(labels, 0.2, 0)[:40] == held_back(np.repeat([0, 1, 2], [40, 5, 9]), 0.2, 0)[:40]).all()


def test_score_is_the_published_map():
    codes, labels = np.array([[0], [0b1], [0b11]], np.uint8), np.array([0, 0, 1])
    # query 0 finds its like first: 1; query 1 meets rows 0 and 2 at distance 1, storage order: 1; query 2: nothing
    assert mean_average_precision(codes, labels) == pytest.approx(2 / 3)
    assert mean_average_precision(codes[:1], labels[:1]) == 0.0
