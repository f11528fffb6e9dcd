"""The k nearest in the order (distance, distance of activations, row), against brute force."""

import math
import tracemalloc

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.hamming import ordered
from mhcln.hamming.codes import binarise, pack
from mhcln.hamming.index import Index
from mhcln.hamming.ordered import OrderedIndex, Point, point_of, quantise


def drawn(rng, n, bits):
    """Activations of few values, so that equal codes and equal activations are frequent."""
    return rng.choice(np.array([0.02, 0.4, 0.45, 0.6, 0.9], np.float32), (n, bits))


def made(activations, known=None):
    known = np.ones(len(activations), bool) if known is None else known
    return OrderedIndex(pack(binarise(activations)), quantise(activations), known)


def level(activation):
    before_sigmoid = math.log(activation / (1 - activation))
    return min(255, max(0, math.ceil(before_sigmoid * 128 / 20) + 127))


def brute_force(query, activations, known):
    keys = []
    for row, other in enumerate(activations):
        distance = int(np.count_nonzero((query > 0.5) != (other > 0.5)))
        apart = sum(abs(level(a) - level(b)) for a, b in zip(query, other, strict=True))
        keys.append((distance, apart if known[row] else np.inf, row))
    return sorted(keys)


@pytest.mark.parametrize("block", [3, 1 << 16])
def test_search_is_the_brute_force_order(monkeypatch, block):
    monkeypatch.setattr(ordered, "BLOCK", block)
    rng = np.random.default_rng(0)
    for _ in range(150):
        n, bits = int(rng.integers(1, 40)), int(rng.integers(1, 70))
        activations, known = drawn(rng, n, bits), rng.random(n) < 0.8
        query, k = drawn(rng, 1, bits)[0], int(rng.integers(1, n + 3))
        found = made(activations, known).search(point_of(query), k)
        expected = brute_force(query, activations, known)
        assert [*zip(found.distances.tolist(), found.rows.tolist(), strict=True)] == [
            (distance, row) for distance, _, row in expected[:k]
        ]
        assert found.tied == sum(distance == expected[min(k, n) - 1][0] for distance, _, _ in expected)
        plain = Index(pack(binarise(activations))).search(pack(binarise(query[None])), min(k, n))[1]
        assert (found.distances == plain[0]).all()


def test_the_best_of_all_codes_at_the_last_distance_is_found():
    activations = np.full((200_000, 8), 0.9, np.float32)
    activations[-1] = 0.6
    found = made(activations).search(point_of(activations[-1]), 2)
    assert (found.rows.tolist(), found.distances.tolist(), found.tied) == ([199_999, 0], [0, 0], 200_000)


def test_a_query_without_activations_finds_equals_in_storage_order():
    index = made(np.array([[0.9], [0.6], [0.1]], np.float32), np.array([True, True, False]))
    assert index.point(2).levels is None
    assert index.search(Point(index.codes[1], None), 2).rows.tolist() == [0, 1]
    assert index.search(index.point(1), 2).rows.tolist() == [1, 0]
    with pytest.raises(UserError, match="hash both with one model"):
        index.search(Point(np.zeros(2, np.uint8), None), 1)


def test_a_level_says_the_bit():
    activations = np.array([0, 1e-12, 1e-6, 0.5, np.nextafter(np.float32(0.5), 1), 0.6, 1 - 1e-6, 1], np.float32)
    assert quantise(activations).tolist() == [0, 0, 39, 127, 128, 130, 216, 255]
    drawn = np.random.default_rng(0).random(100_000, np.float32)
    np.testing.assert_array_equal(quantise(drawn) > 127, binarise(drawn))


def test_memory_of_a_search_is_bounded_when_all_codes_are_equal():
    index = made(np.full((1_000_000, 32), 0.9, np.float32))
    tracemalloc.start()
    index.search(index.point(5), 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * index.levels.nbytes
