"""CSQ: the centres of its classes."""

import numpy as np
import pytest

from mhcln.training.methods.csq import hash_centres


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
