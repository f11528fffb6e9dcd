"""The terms of each loss, against golden values and plain loops."""

import numpy as np
import pytest

from mhcln.quiet_tensorflow import tf
from mhcln.training.losses import mhcln_terms, orthohash_terms, semihard_terms


def by_hand(s: np.ndarray, alpha: float) -> dict[str, float]:
    s = s.astype(np.float64)
    third = len(s) // 3
    unit = [row / np.sqrt(max((row**2).sum(), 1e-10)) for row in s]
    hinges = [
        max(((unit[i] - unit[third + i]) ** 2).sum() - ((unit[i] - unit[2 * third + i]) ** 2).sum() + alpha, 0)
        for i in range(third)
    ]
    triplet, push = np.mean(hinges), np.mean([np.mean((row - 0.5) ** 2) for row in s])
    balance = np.mean([(np.mean(row) - 0.5) ** 2 for row in s])
    return {
        "total": triplet - 0.001 * push + balance,
        "triplet": triplet,
        "push": push,
        "balance": balance,
        "active": np.mean([hinge > 0 for hinge in hinges]),
    }


def test_terms_are_those_of_the_published_code(shared):
    golden = np.load(shared / "golden/loss_terms.npz")
    terms = mhcln_terms(golden["activations"], float(golden["alpha"]))
    for name in ("triplet", "push", "balance", "total"):
        assert float(terms[name]) == pytest.approx(float(golden[name]), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_terms_match_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    activations = rng.random((3 * rng.integers(1, 8), rng.integers(1, 40))).astype(np.float32)
    terms = mhcln_terms(activations, 0.3)
    for name, value in by_hand(activations, 0.3).items():
        assert float(terms[name]) == pytest.approx(value, abs=1e-6), name


def test_the_worked_example_of_the_docstring_holds():
    # anchor = positive, negative orthogonal to both: distances 0 and 2, so the margin is kept
    kept = mhcln_terms(np.array([[1, 0], [1, 0], [0, 1]], np.float32), 0.2)
    assert (float(kept["triplet"]), float(kept["active"])) == (0, 0)
    # positive and negative exchanged: 2 - 0 + 0.2
    broken = mhcln_terms(np.array([[1, 0], [0, 1], [1, 0]], np.float32), 0.2)
    assert float(broken["triplet"]) == pytest.approx(2.2)
    assert float(broken["active"]) == 1
    # saturated and balanced: the push term is at its largest, 0.25, the balance term 0
    assert (float(kept["push"]), float(kept["balance"])) == (0.25, 0)


def test_all_zero_activations_give_a_finite_loss():
    assert float(mhcln_terms(np.zeros((3, 4), np.float32), 0.2)["total"]) == pytest.approx(0.2 - 0.00025 + 0.25)


def orthohash_by_hand(outputs, labels, class_codes, margin, scale):
    losses, right = [], []
    for z, label in zip(outputs.astype(np.float64), labels, strict=True):
        cosines = [z @ t / np.linalg.norm(z) / np.linalg.norm(t) for t in class_codes.astype(np.float64)]
        right.append(int(np.argmax(cosines)) == label)
        logits = [scale * (c - margin * (i == label)) for i, c in enumerate(cosines)]
        losses.append(np.log(np.sum(np.exp(logits))) - logits[label])
    return np.mean(losses), np.mean(right)


@pytest.mark.parametrize("seed", range(5))
def test_orthohash_matches_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(9, 6)).astype(np.float32)
    labels, class_codes = rng.integers(0, 4, 9).astype(np.int32), rng.choice([-1.0, 1.0], (4, 6)).astype(np.float32)
    terms = orthohash_terms(outputs, tf.constant(labels), tf.constant(class_codes), margin=0.3, scale=5.0)
    total, accuracy = orthohash_by_hand(outputs, labels, class_codes, 0.3, 5.0)
    assert float(terms["total"]) == pytest.approx(total, abs=1e-5)
    assert float(terms["accuracy"]) == pytest.approx(accuracy)


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


@pytest.mark.parametrize("seed", range(8))
def test_semihard_matches_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
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
