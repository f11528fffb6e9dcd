"""Signs of features: cut at the median, exactly."""

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.storage.run_record import TrainConfig
from mhcln.training.methods import METHODS
from mhcln.training.methods.sign import medians
from mhcln.training.trained import activations


def solve(vectors, bits):
    return METHODS["sign"].solve(TrainConfig(bits=bits, loss="sign"), vectors, np.zeros(len(vectors), np.int32))


def test_a_bit_is_a_feature_above_its_median():
    # medians 2 (of 1, 2, 9), 0 (of 0, 0, 5) and 0.5 (of 0.3, 0.5, 0.7)
    vectors = np.array([[1, 0, 0.5], [9, 5, 0.3], [2, 0, 0.7]], np.float32)
    assert medians(vectors).tolist() == [2, 0, 0.5]
    bits = activations(solve(vectors, 3), vectors) > 0.5
    assert bits.tolist() == [[False, False, False], [True, True, False], [False, False, True]]


@pytest.mark.parametrize("size", [1e-4, 1, 1e4])
def test_no_bit_is_lost_to_rounding(size):
    random = np.random.default_rng(0)
    vectors = (size * random.random((31, 50))).astype(np.float32)
    found = activations(solve(vectors, 50), vectors)
    assert ((found > 0.5) == (vectors > medians(vectors))).all()
    assert 0.1 < found.std() < 0.4


def test_another_number_of_bits_and_equal_features_are_refused():
    with pytest.raises(UserError, match="each of the 5 features, not 4; take 5 bits"):
        solve(np.random.default_rng(0).random((9, 5)).astype(np.float32), 4)
    with pytest.raises(UserError, match="are equal"):
        solve(np.ones((9, 5), np.float32), 5)
