"""ITQ: the rotation against a polar decomposition and by hand, the principal axes, and what cannot be solved."""

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.storage.run_record import TrainConfig
from mhcln.training.methods import METHODS, projections
from mhcln.training.methods.itq import ROTATIONS, fit_rotation
from mhcln.training.methods.projections import principal_axes
from mhcln.training.trained import activations


def features(n: int = 40, width: int = 12, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (3 + random.normal(size=(n, width)) * np.linspace(2, 0.5, width)).astype(np.float32)


def solve(vectors, bits=6, seed=0):
    config = TrainConfig(bits=bits, loss="itq", seed=seed)
    return METHODS["itq"].solve(config, vectors, np.zeros(len(vectors), np.int32))


def nearest_orthogonal(matrix: np.ndarray) -> np.ndarray:
    """The orthogonal factor of the polar decomposition, M (Mᵀ M)^(-1/2)."""
    values, axes = np.linalg.eigh(matrix.T @ matrix)
    return matrix @ (axes / np.sqrt(values)) @ axes.T


def test_the_rotation_is_that_of_an_independent_procrustes_solution():
    projected = np.random.default_rng(1).normal(size=(50, 5)) * [3, 2, 1, 1, 0.5]
    rotation = np.linalg.svd(np.random.default_rng(7).standard_normal((5, 5)))[0]
    losses = []
    for _ in range(ROTATIONS):
        codes = np.sign(projected @ rotation)
        losses.append(((codes - projected @ rotation) ** 2).sum())
        rotation = nearest_orthogonal(projected.T @ codes)
    np.testing.assert_allclose(fit_rotation(projected, 7), rotation, atol=1e-9)
    assert (np.diff(losses) < 1e-9).all()


@pytest.mark.parametrize("block", [4096, 7])
def test_the_axes_are_those_of_a_singular_value_decomposition(monkeypatch, block):
    monkeypatch.setattr(projections, "ROW_BLOCK", block)
    vectors = features().astype(np.float32)
    mean = vectors.mean(axis=0, dtype=np.float64)
    axes = principal_axes(vectors, mean, 4)
    expected = np.linalg.svd(vectors - mean, full_matrices=False)[2][:4].T
    np.testing.assert_allclose(np.abs((axes * expected).sum(axis=0)), 1, atol=1e-9)


def test_bits_are_signs_of_the_rotated_components():
    vectors = features()
    network = solve(vectors, bits=4, seed=5)
    mean = vectors.mean(axis=0, dtype=np.float64)
    components = (vectors - mean) @ principal_axes(vectors, mean, 4)
    expected = components @ fit_rotation(components, 5)
    found = activations(network, vectors)
    assert ((found > 0.5) == (expected > 0)).all()
    logits = np.log(found / (1 - found))
    np.testing.assert_allclose(logits, expected / np.sqrt((expected**2).mean()), atol=1e-4)


def test_the_seed_decides_the_rotation():
    first, again, other = (solve(features(), seed=seed).get_weights()[0] for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(
    ("vectors", "bits", "directions"),
    [
        (features(), 13, 12),
        (features(6), 6, 5),
        (np.repeat(features(3), 10, axis=0), 4, 2),
        (np.ones((40, 12), np.float32), 4, 0),
    ],
    ids=["more bits than features", "more bits than images", "images that repeat", "constant features"],
)
def test_more_bits_than_directions_are_refused(vectors, bits, directions):
    with pytest.raises(UserError, match=f"vary in {directions} directions.*not {bits}; take fewer bits"):
        solve(vectors, bits)
    if directions:
        solve(vectors, directions)
