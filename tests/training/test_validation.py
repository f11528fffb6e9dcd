"""Validation: the score of codes, and the weights that are kept."""

import numpy as np
import pytest
from learners import make_images, make_learner

from mhcln.training.validation import Validation, mean_average_precision


def test_score_is_the_published_map():
    codes, labels = np.array([[0], [0b1], [0b11]], np.uint8), np.array([0, 0, 1])
    # query 0 finds its like first: 1; query 1 meets rows 0 and 2 at distance 1, storage order: 1; query 2: nothing
    assert mean_average_precision(codes, labels) == pytest.approx(2 / 3)
    assert mean_average_precision(codes[:1], labels[:1]) == 0.0


def test_weights_that_are_kept_are_those_of_the_best_evaluation():
    vectors, labels = make_images()
    learner, seen = make_learner(), Validation(vectors, labels)
    seen.evaluate(learner.method.network, 0)
    kept = [weight.copy() for weight in seen.weights]
    seen.best = 2.0  # nothing can be better
    learner.advance(5)
    seen.evaluate(learner.method.network, 5)
    assert seen.without_better == 1
    assert all((a == b).all() for a, b in zip(seen.weights, kept, strict=True))
    assert any((a != b).any() for a, b in zip(kept, learner.method.network.get_weights(), strict=True))
