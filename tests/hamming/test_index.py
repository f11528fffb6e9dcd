"""The exact k nearest codes of an archive, in order, against brute force."""

import tracemalloc

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.hamming import index
from mhcln.hamming.codes import lay_out, pack, points_of
from mhcln.hamming.index import Index


def around_centres(rng, n, bits, flips, count):
    """Bits of codes around so many centres, as a trained network makes them."""
    centres = np.random.default_rng(bits).random((count, bits)) < 0.5
    return centres[rng.integers(count, size=n)] ^ (rng.random((n, bits)) < flips)


def brute_force(query, query_levels, archive, levels, known, k, left_out):
    """Rows, distances and how many are tied, by comparing bit by bit and sorting all rows."""
    distances = (query != archive).sum(axis=1)
    apart = np.where(known, np.abs(levels.astype(int) - query_levels).sum(axis=1), 10**9)
    rows = np.lexsort((apart, distances))  # stable: else in storage order
    rows = rows[rows != left_out]
    tied = int(np.count_nonzero(distances[rows] == distances[rows[k - 1]]))
    return rows[:k].tolist(), distances[rows[:k]].tolist(), tied


def in_parts(rng, archive, levels):
    """An index of several parts, some empty, some without levels; and whose levels are known."""
    cuts = np.sort(rng.integers(len(archive) + 1, size=rng.integers(4)))
    parts, known = [], []
    for rows in np.split(np.arange(len(archive)), cuts):
        has_levels = rng.random() < 0.7
        codes = pack(archive[rows])
        parts.append(lay_out(codes, levels[rows]) if has_levels else codes)
        known += [has_levels] * len(rows)
    return Index(*parts), np.array(known)


def check(rng, n, q, bits, flips, centres):
    archive, queries = (around_centres(rng, size, bits, flips, centres) for size in (n, q))
    levels, query_levels = rng.integers(0, 4, (n, bits), np.uint8), rng.integers(0, 4, (q, bits), np.uint8)
    searched, known = in_parts(rng, archive, levels)
    by_levels, exclude = rng.random() < 0.6, rng.integers(-1, n, size=q) if rng.random() < 0.5 else None
    left_out = np.full(q, -1) if exclude is None else exclude
    most = n - bool((left_out >= 0).any())
    k = int(rng.integers(1, min(most, 99) + 1))
    found = searched.search(pack(queries), k, query_levels if by_levels else None, exclude)
    assert [*zip(*(each.tolist() for each in found), strict=True)] == [
        brute_force(queries[i], query_levels[i], archive, levels, known & by_levels, k, left_out[i]) for i in range(q)
    ]
    everything = searched.search(pack(queries[:1]), n + 5, exclude=left_out[:1])
    assert everything.rows.shape == everything.distances.shape == (1, n - (left_out[0] >= 0))


@pytest.mark.parametrize("size", ["whole", "tiny"])
def test_search_is_the_brute_force_order(monkeypatch, size):
    rng = np.random.default_rng(5)
    for _ in range(500):
        if size == "tiny":
            for name, most in (("CELLS", 500), ("LEVEL_BLOCK", 500), ("PART_CODES", 20), ("SAMPLE", 8)):
                monkeypatch.setattr(index, name, int(rng.integers(1, most)))
        bits = int(rng.choice([1, 3, 8, 9, 20, 32, 64, 65, 300]))
        check(rng, int(rng.integers(2, 50)), int(rng.integers(1, 9)), bits, rng.choice([0, 0.02, 0.2, 0.5]), 6)


@pytest.mark.parametrize("bits", [12, 20, 32, 64, 130, 256])
def test_large_archives_are_searched_exactly(bits):
    for flips in (0.01, 0.05, 0.1, 0.5):
        check(np.random.default_rng(bits), 20_000, 8, bits, flips, 60)


def test_equal_codes_come_by_levels_then_by_row_and_unknown_levels_last():
    codes, levels = np.zeros((3, 1), np.uint8), np.array([[90], [10], [10]], np.uint8)
    searched = Index(codes, lay_out(codes, levels), np.array([[1]], np.uint8))
    query = np.zeros((1, 1), np.uint8)
    found = searched.search(query, 6, np.array([[9]], np.uint8))
    assert (found.rows.tolist(), found.distances.tolist(), found.tied.tolist()) == (
        [[4, 5, 3, 0, 1, 2]],
        [[0] * 6],
        [6],
    )
    assert searched.search(query, 6).rows.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert searched.search(query, 7).distances[0, -1] == searched.search(query, 7).tied[0] == 1
    assert searched.search(query, 2, exclude=np.array([1])).rows.tolist() == [[0, 2]]


def test_an_image_of_the_archive_is_compared_by_its_own_code_and_levels():
    rng = np.random.default_rng(1)
    queries = points_of(rng.choice(np.array([0.02, 0.4, 0.9], np.float32), (60, 3)))
    parts = [slice(0, 25), slice(25, 25), slice(25, 60)]
    searched = Index(*(lay_out(queries.codes[rows], queries.levels[rows]) for rows in parts), queries.codes)
    for row in range(60):
        codes, levels = searched.stored(row)
        assert (codes.tolist(), levels.tolist()) == ([queries.codes[row].tolist()], [queries.levels[row].tolist()])
        codes, levels = searched.stored(60 + row)
        assert (codes.tolist(), levels) == ([queries.codes[row].tolist()], None)


def test_only_levels_within_the_last_distance_are_read():
    class Touched(np.ndarray):
        def __getitem__(self, places):
            read.update(np.asarray(places).tolist())
            return np.asarray(self)[places]

    read: set[int] = set()
    bits = (np.arange(8) < np.arange(9)[:, None])[np.arange(900) % 9]  # at distances 0 to 8, 100 at each
    part = lay_out(pack(bits), np.zeros((900, 8), np.uint8))
    searched = Index(part._replace(levels=part.levels.view(Touched)))
    found = searched.search(np.zeros((1, 1), np.uint8), 150, np.zeros((1, 8), np.uint8))
    assert (len(read), found.tied.tolist(), found.rows[0, 0]) == (200, [100], 0)


def peak_of_search(searched, *arguments):
    tracemalloc.start()
    searched.search(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_of_a_search_is_bounded():
    rng = np.random.default_rng(0)
    threads = index.os.cpu_count()
    different = rng.integers(0, 256, (300_000, 8), np.uint8)
    assert peak_of_search(Index(different), different[:600], 20) < threads * 16 * index.CELLS  # 180,000,000 distances
    equal = lay_out(np.zeros((1_000_000, 4), np.uint8), rng.integers(0, 128, (1_000_000, 32), np.uint8))
    assert peak_of_search(Index(equal), equal.codes[:1], 20, equal.levels[:1]) < 2 * index.CELLS


def test_more_queries_than_a_key_can_number_are_searched():
    codes = np.arange(1 << 17, dtype=np.uint32).view(np.uint8).reshape(-1, 4)
    found = Index(codes[:2]).search(codes, 1)
    np.testing.assert_array_equal(found.rows[:, 0], np.arange(len(codes)) % 2)
    np.testing.assert_array_equal(found.distances[:, 0], np.bitwise_count(np.arange(len(codes)) >> 1))


def test_codes_of_another_width_are_refused_and_nothing_is_found_in_or_with_nothing():
    codes = np.zeros((3, 4), np.uint8)
    with pytest.raises(UserError, match="codes of 8 and of 4 bytes cannot be compared: hash both with one model"):
        Index(codes, codes).search(np.zeros((1, 8), np.uint8), 1)
    assert Index(codes).search(codes[:0], 2).rows.shape == (0, 2)
    assert Index(codes[:0]).search(codes, 2).rows.shape == (3, 0)
    assert Index(codes[:1]).search(codes, 2, exclude=np.zeros(3, int)).rows.shape == (3, 0)
