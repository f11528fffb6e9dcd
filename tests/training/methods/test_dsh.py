"""DSH: the loss of the pairs, by hand and by a plain loop."""

import numpy as np
import pytest

from mhcln.quiet_tensorflow import tf
from mhcln.training.methods.dsh import dsh_terms


def by_hand(outputs, labels):
    pairs, regularisers = [], []
    for i, a in enumerate(outputs.astype(float)):
        for j, b in enumerate(outputs.astype(float)):
            if i != j:
                square = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
                pairs.append(square / 2 if labels[i] == labels[j] else max(2 * len(a) - square, 0) / 2)
                regularisers.append(sum(abs(abs(x) - 1) for x in (*a, *b)))
    return np.mean(pairs), np.mean(regularisers)


@pytest.mark.parametrize("seed", range(5))
def test_terms_match_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    outputs = (1.5 * rng.normal(size=(9, 4))).astype(np.float32)
    labels = rng.integers(0, 3, 9).astype(np.int32)
    terms = dsh_terms(tf.constant(outputs), tf.constant(labels))
    pairs, regulariser = by_hand(outputs, labels)
    assert float(terms["pairs"]) == pytest.approx(pairs, rel=1e-5)
    assert float(terms["regulariser"]) == pytest.approx(regulariser, rel=1e-5)
    assert float(terms["total"]) == pytest.approx(pairs + 0.01 * regulariser, rel=1e-5)


@pytest.mark.parametrize(("labels", "expected"), [([0, 0], 2), ([0, 1], 0)])
def test_the_worked_example_of_the_docstring_holds(labels, expected):
    terms = dsh_terms(tf.constant([[1.0, 1], [1, -1]]), tf.constant(labels))
    assert (float(terms["total"]), float(terms["regulariser"])) == (expected, 0)
