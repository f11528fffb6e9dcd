"""LSH: distances estimate angles, as its paper says, about the mean of the training images."""

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.storage.run_record import TrainConfig
from mhcln.training.methods import METHODS
from mhcln.training.trained import activations


def solve(vectors, bits=8, seed=0):
    return METHODS["lsh"].solve(
        TrainConfig(bits=bits, loss="lsh", seed=seed), vectors, np.zeros(len(vectors), np.int32)
    )


def test_the_share_of_bits_that_differ_is_the_angle_over_pi():
    # around a mean of 5: vectors at 0, 60 and 180 degrees, and one that brings the mean back
    directions = np.array([[1, 0, 0], [0.5, np.sqrt(0.75), 0], [-1, 0, 0], [-0.5, -np.sqrt(0.75), 0]])
    vectors = (5 + directions).astype(np.float32)
    bits = activations(solve(vectors, bits=20_000), vectors) > 0.5
    shares = (bits[0] != bits).mean(axis=1)
    np.testing.assert_allclose(shares, [0, 1 / 3, 1, 2 / 3], atol=0.02)  # 6 standard deviations


def test_the_seed_draws_the_planes():
    vectors = np.random.default_rng(0).random((9, 5)).astype(np.float32)
    kernels = [solve(vectors, seed=seed).get_weights()[0] for seed in (0, 0, 1)]
    assert (kernels[0] == kernels[1]).all()
    assert (kernels[0] != kernels[2]).any()


def test_equal_features_are_refused():
    with pytest.raises(UserError, match="all training images are equal"):
        solve(np.full((9, 5), 0.3, np.float32))
