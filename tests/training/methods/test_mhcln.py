"""The terms of the paper, against golden values and a plain loop."""

import numpy as np
import pytest

from mhcln.training.methods.mhcln import mhcln_terms


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


def test_terms_match_a_plain_loop():
    rng = np.random.default_rng(0)
    activations = rng.random((15, 7)).astype(np.float32)
    terms = mhcln_terms(activations, 0.3)
    for name, value in by_hand(activations, 0.3).items():
        assert float(terms[name]) == pytest.approx(value, abs=1e-6), name


def test_all_zero_activations_give_a_finite_loss():
    assert float(mhcln_terms(np.zeros((3, 4), np.float32), 0.2)["total"]) == pytest.approx(0.2 - 0.00025 + 0.25)
