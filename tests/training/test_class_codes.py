"""Class codes: distinct, far apart, seeded."""

import numpy as np
import pytest

from mhcln.training.class_codes import class_codes, distances


def smallest(codes: np.ndarray) -> int:
    return int(distances(codes)[np.triu_indices(len(codes), 1)].min())


# As far as the search measured; random codes of 21 classes and 32 bits are 8 apart.
@pytest.mark.parametrize(
    ("classes", "bits", "apart"),
    [(21, 16, 6), (21, 32, 14), (30, 32, 13), (21, 64, 28), (4, 3, 2), (2, 5, 5), (8, 3, 1)],
)
def test_codes_are_far_apart(classes, bits, apart):
    codes = class_codes(classes, bits, seed=0)
    assert codes.shape == (classes, bits)
    assert set(np.unique(codes)) <= {-1, 1}
    assert smallest(codes) >= apart


def test_distance_counts_differing_bits():
    assert distances(np.array([[1, -1, 1], [1, 1, -1]], np.int8)).tolist() == [[0, 2], [2, 0]]


def test_seed_decides_the_codes():
    assert (class_codes(5, 12, 1) == class_codes(5, 12, 1)).all()
    assert (class_codes(5, 12, 1) != class_codes(5, 12, 2)).any()
