"""CSQ: the cross-entropy to the centres, by hand and by a plain loop, and the centres."""

import math

import numpy as np
import pytest

from mhcln.quiet_tensorflow import tf
from mhcln.training.methods.csq import csq_terms, hash_centres


@pytest.mark.parametrize("seed", range(5))
def test_terms_match_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    outputs = (1.5 * rng.normal(size=(9, 4))).astype(np.float32)
    labels = rng.integers(0, 3, 9).astype(np.int32)
    centres = rng.choice([-1.0, 1.0], (3, 4)).astype(np.float32)
    terms = csq_terms(tf.constant(outputs), tf.constant(labels), tf.constant(centres))
    pairs = [
        (math.tanh(x), c)
        for row, label in zip(outputs.astype(float), labels, strict=True)
        for x, c in zip(row, centres[label], strict=True)
    ]
    central = np.mean([-math.log((1 + h) / 2 if c > 0 else (1 - h) / 2) for h, c in pairs])
    quantisation = np.mean([(abs(h) - 1) ** 2 for h, _ in pairs])
    assert float(terms["central"]) == pytest.approx(central, rel=1e-4)
    assert float(terms["quantisation"]) == pytest.approx(quantisation, rel=1e-4)
    assert float(terms["total"]) == pytest.approx(central + 1e-4 * quantisation, rel=1e-4)


def test_the_worked_example_of_the_docstring_holds():
    terms = csq_terms(tf.constant([[0.0]]), tf.constant([0]), tf.constant([[1.0]]))
    assert float(terms["central"]) == pytest.approx(math.log(2))
    assert float(terms["quantisation"]) == 1


def test_centres_differ_in_half_of_their_bits_where_they_can():
    centres = hash_centres(11, 8, seed=0).astype(int)
    assert centres[1].tolist() == [1, -1, 1, -1, 1, -1, 1, -1]
    products = centres @ centres.T
    assert (products[:8, :8] == 8 * np.eye(8)).all()
    assert (centres[8:] == -centres[:3]).all()


@pytest.mark.parametrize(("classes", "bits"), [(5, 12), (20, 8)])
def test_other_centres_are_drawn_with_half_of_their_bits_set(classes, bits):
    first, again, other = (hash_centres(classes, bits, seed) for seed in (0, 0, 1))
    assert (first.sum(axis=1) == 0).all()
    assert len(np.unique(first, axis=0)) == classes
    assert (first == again).all()
    assert (first != other).any()
