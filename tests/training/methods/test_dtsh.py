"""DTSH: the likelihood of the triplets, by hand and by a plain loop."""

import math

import numpy as np
import pytest

from mhcln.quiet_tensorflow import tf
from mhcln.training.methods.dtsh import dtsh_terms


def by_hand(outputs, labels):
    rows, losses = range(len(outputs)), []
    half = outputs.astype(float) @ outputs.astype(float).T / 2
    for a in rows:
        for p in rows:
            for n in rows:
                if a != p and labels[a] == labels[p] != labels[n]:
                    margin = half[a, p] - half[a, n] - outputs.shape[1] / 2
                    losses.append(-math.log(1 / (1 + math.exp(-margin))))
    return np.mean(losses), np.mean([(x - math.copysign(1, x)) ** 2 for x in outputs.astype(float).ravel()])


@pytest.mark.parametrize("seed", range(5))
def test_terms_match_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    outputs = (1.5 * rng.normal(size=(9, 4))).astype(np.float32)
    labels = rng.integers(0, 3, 9).astype(np.int32)
    terms = dtsh_terms(tf.constant(outputs), tf.constant(labels))
    likelihood, quantisation = by_hand(outputs, labels)
    assert float(terms["likelihood"]) == pytest.approx(likelihood, rel=1e-5)
    assert float(terms["total"]) == pytest.approx(likelihood + quantisation, rel=1e-5)


def test_the_worked_example_of_the_docstring_holds():
    terms = dtsh_terms(tf.constant([[1.0, 1], [1, 1], [-1, -1]]), tf.constant([0, 0, 1]))
    assert float(terms["total"]) == pytest.approx(0.3132617)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_without_triplets_nothing_is_pulled(labels):
    terms = dtsh_terms(tf.constant([[1.0, 1], [1, 1], [-1, -1]]), tf.constant(labels))
    assert float(terms["total"]) == 0
