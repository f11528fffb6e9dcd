"""Class targets: distinct, far apart, seeded."""

import numpy as np
import pytest

from mhcln.errors import UserError
from mhcln.targets import class_targets, distances


def smallest(targets: np.ndarray) -> int:
    return int(distances(targets)[np.triu_indices(len(targets), 1)].min())


# As far as the search measured; random codes of 21 classes and 32 bits are 8 apart.
@pytest.mark.parametrize(
    ("classes", "bits", "apart"),
    [(21, 16, 6), (21, 32, 14), (30, 32, 13), (21, 64, 28), (4, 3, 2), (2, 5, 5), (8, 3, 1)],
)
def test_targets_are_far_apart(classes, bits, apart):
    targets = class_targets(classes, bits, seed=0)
    assert targets.shape == (classes, bits)
    assert set(np.unique(targets)) <= {-1, 1}
    assert smallest(targets) >= apart


def test_distance_counts_differing_bits():
    assert distances(np.array([[1, -1, 1], [1, 1, -1]], np.int8)).tolist() == [[0, 2], [2, 0]]


def test_seed_decides_the_targets():
    assert (class_targets(5, 12, 1) == class_targets(5, 12, 1)).all()
    assert (class_targets(5, 12, 1) != class_targets(5, 12, 2)).any()


def test_too_few_bits_are_refused():
    with pytest.raises(UserError, match="4 codes, too few for 5 classes"):
        class_targets(5, 2, 0)
