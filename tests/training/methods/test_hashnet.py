"""HashNet: the weighted likelihood, by hand and by a plain loop, and the scale of its tanh."""

import math

import numpy as np
import pytest

from mhcln.quiet_tensorflow import tf
from mhcln.training.methods.hashnet import hashnet_terms, scale_at


def by_hand(codes, labels):
    losses = {True: [], False: []}
    for i, a in enumerate(codes.astype(float)):
        for j, b in enumerate(codes.astype(float)):
            if i != j:
                chance = 1 / (1 + math.exp(-10 / len(a) * (a @ b)))
                same = bool(labels[i] == labels[j])
                losses[same].append(-math.log(chance if same else 1 - chance))
    count = len(losses[True]) + len(losses[False])
    weighted = [count / len(kind) * loss for kind in losses.values() for loss in kind]
    return sum(weighted) / count


@pytest.mark.parametrize("seed", range(5))
def test_terms_match_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    outputs = (1.5 * rng.normal(size=(9, 4))).astype(np.float32)
    labels = rng.integers(0, 3, 9).astype(np.int32)
    codes = np.tanh(outputs)
    terms = hashnet_terms(tf.constant(codes), tf.constant(labels))
    assert float(terms["total"]) == pytest.approx(by_hand(codes, labels), rel=1e-5)
    signs = np.sign(codes)
    perfect = hashnet_terms(tf.constant(signs[[0, 0]]), tf.constant([1, 1]))
    assert float(perfect["accuracy"]) == 1


def test_the_worked_example_of_the_docstring_holds():
    codes = tf.constant([[1.0, 1], [1, -1], [1, 1], [1, -1]])
    terms = hashnet_terms(codes[:2], tf.constant([0, 1]))
    assert float(terms["total"]) == pytest.approx(math.log(2))  # one kind of pairs
    terms = hashnet_terms(tf.constant([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]), tf.constant([0, 0, 1]))
    assert float(terms["total"]) == pytest.approx(2 * math.log(2))


def test_the_scale_grows_every_200_iterations():
    scales = [float(scale_at(tf.constant(t, tf.int64))) for t in (0, 198, 199, 398, 399, 1999)]
    np.testing.assert_allclose(scales, [1, 1, math.sqrt(2), math.sqrt(2), math.sqrt(3), math.sqrt(11)], rtol=1e-6)
