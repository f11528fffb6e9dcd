"""Semi-hard triplets, against a plain loop."""

import numpy as np
import pytest
from test_mhcln import by_hand

from mhcln.quiet_tensorflow import tf
from mhcln.training.methods.semihard import semihard_terms


def semihard_by_hand(s, labels, alpha):
    s = s.astype(np.float64)
    unit = s / np.linalg.norm(s, axis=1, keepdims=True)
    hinges = []
    for a in range(len(s)):
        away = [((unit[a] - unit[i]) ** 2).sum() for i in range(len(s))]
        negatives = [d for d, label in zip(away, labels, strict=True) if label != labels[a]]
        for p in range(len(s)):
            if p != a and labels[p] == labels[a] and negatives:
                further = [d for d in negatives if d > away[p]]
                hinges.append(max(away[p] - (min(further) if further else max(negatives)) + alpha, 0))
    return np.mean(hinges) if hinges else 0.0, np.mean([h > 0 for h in hinges]) if hinges else 0.0


def test_semihard_matches_a_plain_loop():
    rng = np.random.default_rng(0)
    activations = rng.random((11, 6)).astype(np.float32)
    labels = rng.integers(0, 4, 11).astype(np.int32)
    terms = semihard_terms(tf.constant(activations), tf.constant(labels), alpha=0.1)
    triplet, active = semihard_by_hand(activations, labels, 0.1)
    assert float(terms["triplet"]) == pytest.approx(triplet, abs=1e-6)
    assert float(terms["active"]) == pytest.approx(active)
    rest = by_hand(activations[:9], 0.1)  # the other terms are those of mhcln, here of nine images
    same = semihard_terms(tf.constant(activations[:9]), tf.constant(labels[:9]), alpha=0.1)
    for name in ("push", "balance"):
        assert float(same[name]) == pytest.approx(rest[name], abs=1e-6)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_semihard_without_triplets_pulls_nothing(labels):
    activations = tf.constant(np.random.default_rng(0).random((3, 4)).astype(np.float32))
    terms = semihard_terms(activations, tf.constant(labels), alpha=0.1)
    assert (float(terms["triplet"]), float(terms["active"])) == (0, 0)


def test_semihard_has_finite_gradients_where_images_coincide():
    activations = tf.Variable(np.repeat([[0.2, 0.7], [0.2, 0.7]], 3, axis=0).astype(np.float32))
    with tf.GradientTape() as tape:
        total = semihard_terms(activations, tf.constant([0, 0, 1, 1, 2, 2]), alpha=0.1)["total"]
    assert np.isfinite(tape.gradient(total, activations).numpy()).all()
