"""Bits, packed codes, their distances, levels of activations, and codes laid out for search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mhcln.hamming.codes import binarise, count_distinct, differing_bits, lay_out, pack, quantise, unpack, words


@given(st.integers(1, 130), st.integers(0, 20))
def test_pack_and_unpack_are_inverse(bits, n):
    original = np.random.default_rng(bits).random((n, bits)) < 0.5
    codes = pack(original)
    assert codes.shape == (n, -(-bits // 8))
    np.testing.assert_array_equal(unpack(codes, bits), original)


def test_a_bit_is_set_above_one_half():
    assert binarise(np.float32([[0.5, 0.50001, 0.0, 1.0]])).tolist() == [[False, True, False, True]]


def test_a_level_says_the_bit():
    activations = np.array([0, 1e-12, 1e-6, 0.5, np.nextafter(np.float32(0.5), 1), 0.6, 1 - 1e-6, 1], np.float32)
    assert quantise(activations).tolist() == [0, 0, 39, 127, 128, 130, 216, 255]
    drawn = np.random.default_rng(0).random(100_000, np.float32)
    np.testing.assert_array_equal(quantise(drawn) > 127, binarise(drawn))


@settings(max_examples=50)
@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 9))
def test_differing_bits_are_counted(bits, q, n):
    rng = np.random.default_rng(bits)
    left, right = rng.random((q, bits)) < 0.5, rng.random((n, bits)) < 0.5
    found = differing_bits(words(pack(left))[:, :, None], words(pack(right))[:, None])
    np.testing.assert_array_equal(found, (left[:, None] != right[None]).sum(axis=2))


@pytest.mark.parametrize("bits", [64, 72, 65_528, 65_536])
def test_the_most_bits_that_can_differ_are_counted(bits):
    ones = np.full((1, bits // 8), 255, np.uint8)
    assert differing_bits(words(ones), words(~ones)).tolist() == [bits]


def test_distinct_codes_are_counted():
    bits = np.random.default_rng(5).integers(0, 2, (300, 11))
    bits[:, 2:9] = 0
    assert count_distinct(pack(bits)) == len({tuple(row) for row in bits.tolist()})
    assert count_distinct(pack(bits[:0])) == 0


def test_each_different_code_is_laid_out_once():
    levels = np.arange(5, dtype=np.uint8)[:, None]
    codes = lay_out(np.array([[7], [5], [7], [9], [5]], np.uint8), levels)
    assert codes.distinct.tolist() == [[5, 7, 9]]
    assert (codes.first.tolist(), codes.rows.tolist()) == ([0, 2, 4, 5], [1, 4, 0, 2, 3])
    assert codes.levels.ravel().tolist() == [1, 4, 0, 2, 3]
    np.testing.assert_array_equal(codes.levels, levels[codes.rows])
