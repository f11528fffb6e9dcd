"""DPSH: the likelihood of the pairs, by hand and by a plain loop."""

import math

import numpy as np
import pytest

from mhcln.quiet_tensorflow import tf
from mhcln.training.methods.dpsh import dpsh_terms


def by_hand(outputs, labels):
    losses = []
    for i, a in enumerate(outputs.astype(float)):
        for j, b in enumerate(outputs.astype(float)):
            if i != j:
                chance = 1 / (1 + math.exp(-(a @ b) / 2))
                losses.append(-math.log(chance if labels[i] == labels[j] else 1 - chance))
    return np.mean(losses), np.mean([(x - math.copysign(1, x)) ** 2 for x in outputs.astype(float).ravel()])


@pytest.mark.parametrize("seed", range(5))
def test_terms_match_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    outputs = (1.5 * rng.normal(size=(9, 4))).astype(np.float32)
    labels = rng.integers(0, 3, 9).astype(np.int32)
    terms = dpsh_terms(tf.constant(outputs), tf.constant(labels))
    likelihood, quantisation = by_hand(outputs, labels)
    assert float(terms["likelihood"]) == pytest.approx(likelihood, rel=1e-5)
    assert float(terms["quantisation"]) == pytest.approx(quantisation, rel=1e-5)
    assert float(terms["total"]) == pytest.approx(likelihood + 0.1 * quantisation, rel=1e-5)


@pytest.mark.parametrize(("labels", "expected"), [([0, 0], 0.3132617), ([0, 1], 1.3132617)])
def test_the_worked_example_of_the_docstring_holds(labels, expected):
    terms = dpsh_terms(tf.constant([[1.0, 1], [1, 1]]), tf.constant(labels))
    assert float(terms["total"]) == pytest.approx(expected)
