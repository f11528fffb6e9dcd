"""Greedy Hash: classifier of signs and penalty, by hand and by a plain loop, and its straight gradient."""

import math

import numpy as np
import pytest

from mhcln.quiet_tensorflow import tf
from mhcln.training.methods.greedyhash import greedyhash_terms


@pytest.mark.parametrize("seed", range(5))
def test_terms_match_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    outputs = (1.5 * rng.normal(size=(9, 4))).astype(np.float32)
    labels = rng.integers(0, 3, 9).astype(np.int32)
    classifier = rng.normal(size=(4, 3)).astype(np.float32)
    terms = greedyhash_terms(tf.constant(outputs), tf.constant(labels), tf.constant(classifier))
    losses = []
    for row, label in zip(outputs, labels, strict=True):
        logits = [sum(math.copysign(1, x) * w for x, w in zip(row, column, strict=True)) for column in classifier.T]
        losses.append(math.log(sum(math.exp(z) for z in logits)) - logits[label])
    penalty = np.mean([abs(abs(x) - 1) ** 3 for x in outputs.astype(float).ravel()])
    assert float(terms["penalty"]) == pytest.approx(penalty, rel=1e-5)
    assert float(terms["total"]) == pytest.approx(np.mean(losses) + 0.1 * penalty, rel=1e-5)


def test_the_worked_example_of_the_docstring_holds():
    terms = greedyhash_terms(tf.constant([[2.0, -0.5]]), tf.constant([0]), tf.ones((2, 2)))
    assert float(terms["total"]) == pytest.approx(math.log(2) + 0.1 * 1.125 / 2)


def test_the_gradient_passes_the_sign_as_if_it_were_not_there():
    outputs, classifier = tf.Variable([[1.0, -1]]), tf.constant([[1.0, 0], [0, 1]])  # no penalty, nor its gradient
    with tf.GradientTape() as tape:
        total = greedyhash_terms(outputs, tf.constant([0]), classifier)["total"]
    wrong = 1 / (1 + math.exp(2))  # logits 1 and -1
    np.testing.assert_allclose(tape.gradient(total, outputs), [[-wrong, wrong]], rtol=1e-5)
