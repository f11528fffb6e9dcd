"""Bits, packed codes, their distances, and how many differ."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mhcln.hamming.codes import binarise, count_distinct, distances, pack, unpack


@given(st.integers(1, 130), st.integers(0, 20))
def test_pack_and_unpack_are_inverse(bits, n):
    original = np.random.default_rng(bits).random((n, bits)) < 0.5
    codes = pack(original)
    assert codes.shape == (n, -(-bits // 8))
    np.testing.assert_array_equal(unpack(codes, bits), original)


def test_a_bit_is_set_above_one_half():
    assert binarise(np.float32([[0.5, 0.50001, 0.0, 1.0]])).tolist() == [[False, True, False, True]]


@settings(max_examples=50)
@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 9))
def test_distances_count_differing_bits(bits, q, n):
    rng = np.random.default_rng(bits)
    queries, archive = rng.random((q, bits)) < 0.5, rng.random((n, bits)) < 0.5
    found = distances(pack(queries), pack(archive))
    np.testing.assert_array_equal(found, (queries[:, None] != archive[None]).sum(axis=2))
    assert found.dtype == np.uint16


def test_distinct_codes_are_counted():
    bits = np.random.default_rng(5).integers(0, 2, (300, 11))
    bits[:, 2:9] = 0
    assert count_distinct(pack(bits)) == len({tuple(row) for row in bits.tolist()})
