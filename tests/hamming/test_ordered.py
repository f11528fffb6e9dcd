"""The k nearest in the order (distance, distance of activations, row), against brute force."""

import math
import tracemalloc

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.hamming import ordered
from mhcln.hamming.codes import binarise, pack
from mhcln.hamming.index import Index
from mhcln.hamming.ordered import OrderedIndex, Point, lay_out, point_of, quantise


def drawn(rng, n, bits):
    """Activations of few values, so that equal codes and equal activations are frequent."""
    return rng.choice(np.array([0.02, 0.4, 0.45, 0.6, 0.9], np.float32), (n, bits))


def made(activations, known=None):
    """An index of one part for each run of rows whose activations are known, or are not."""
    known = np.ones(len(activations), bool) if known is None else known
    parts = np.split(np.arange(len(known)), np.flatnonzero(np.diff(known)) + 1)
    codes, levels = pack(binarise(activations)), quantise(activations)
    return OrderedIndex([lay_out(codes[rows], levels[rows] if known[rows[0]] else None) for rows in parts])


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
    monkeypatch.setattr(ordered, "CODES", block)
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
    assert index.search(Point(index.point(1).code, None), 2).rows.tolist() == [0, 1]
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
    assert peak < 2 * index.parts[0].levels.nbytes


def test_an_image_is_compared_by_its_own_code_and_levels():
    rng = np.random.default_rng(1)
    activations, known = drawn(rng, 60, 70), np.arange(60) % 20 < 13
    index, codes, levels = made(activations, known), pack(binarise(activations)), quantise(activations)
    for row in range(60):
        point = index.point(row)
        assert (point.code == codes[row]).all()
        assert (point.levels == levels[row]).all() if known[row] else point.levels is None
    rows = iter(range(60))
    for part in index.parts:
        here = [next(rows) for _ in part.rows]
        by_row = part.levels_by_row()
        assert by_row is None if not known[here[0]] else (by_row == levels[here]).all()


def test_only_levels_within_the_last_distance_are_read():
    class Touched(np.ndarray):
        def __getitem__(self, places):
            read.update(np.asarray(places).tolist())
            return np.asarray(self)[places]

    read: set[int] = set()
    activations = np.where(np.arange(8) < np.arange(9)[:, None], 0.9, 0.1)[np.arange(900) % 9]  # at distances 0 to 8
    part = made(activations).parts[0]
    index = OrderedIndex([part._replace(levels=part.levels.view(Touched))])
    found = index.search(Point(pack(np.zeros((1, 8), bool))[0], np.zeros(8, np.uint8)), 150)
    assert (len(read), found.tied, found.rows[0]) == (200, 100, 0)
