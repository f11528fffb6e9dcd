"""The exact k nearest codes against brute force, however the archive is laid out."""

import tracemalloc

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.hamming import index, layouts, scan, top_k
from mhcln.hamming.codes import pack
from mhcln.hamming.index import Index


def brute_force(queries, archive, k, exclude):
    """Bits compared one by one, then sorted by (distance, row): the published evaluator's order."""
    distances = (queries[:, None] != archive[None]).sum(axis=2)
    distances[np.arange(len(queries))[exclude >= 0], exclude[exclude >= 0]] = 10_000
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(distances, rows, axis=1)


def check(queries, archive, k, exclude):
    rows, distances = Index(pack(archive)).search(pack(queries), k, exclude)
    expected_rows, expected_distances = brute_force(queries, archive, k, exclude)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(distances, expected_distances)
    assert (rows.dtype, distances.dtype) == (np.int64, np.uint16)


def random_case(rng, max_bits=70, max_rows=60):
    """Codes around a few centres, as a trained network makes them: from all equal to uniformly random."""
    bits, n, q = rng.integers(1, max_bits + 1), rng.integers(1, max_rows + 1), rng.integers(1, 9)
    centres = rng.random((rng.integers(1, 9), bits)) < 0.5
    flips = rng.choice([0, 0.02, 0.2, 0.5])
    archive, queries = (
        centres[rng.integers(len(centres), size=size)] ^ (rng.random((size, bits)) < flips) for size in (n, q)
    )
    exclude = rng.integers(-1, n, size=q) if n > 1 and rng.random() < 0.5 else np.full(q, -1)
    return queries, archive, rng.integers(1, n + 1 - (exclude >= 0).any()), exclude


@pytest.fixture(params=["as measured", "always look up", "tiny blocks"])
def costs(request, monkeypatch):
    """Small cases would only ever be scanned in one block: make every way of searching take its turn."""
    if request.param == "always look up":
        monkeypatch.setattr(layouts, "LOOKUP", 0)
        monkeypatch.setattr(layouts, "STEP", 0)
        monkeypatch.setattr(layouts, "CANDIDATE", 1e-9)
        monkeypatch.setattr(layouts, "MANY", 1)
    if request.param == "tiny blocks":
        monkeypatch.setattr(layouts, "LOOKUP", 0.1)
        monkeypatch.setattr(layouts, "STEP", 0)
        monkeypatch.setattr(layouts, "CANDIDATE", 0.05)
        monkeypatch.setattr(layouts, "MANY", 1)
        monkeypatch.setattr(scan, "SAMPLE", 2)
        monkeypatch.setattr(layouts, "TILE", 4)
        monkeypatch.setattr(scan, "TILE", 4)
        monkeypatch.setattr(top_k, "TILE", 4)
        monkeypatch.setattr(index, "BLOCK_NEIGHBOURS", 3)


@pytest.mark.usefixtures("costs")
def test_search_is_the_brute_force_order():
    rng = np.random.default_rng(5)
    bits = 12 if layouts.LOOKUP == 0 else 70
    for _ in range(800 if scan.TILE == 4 else 1500):
        check(*random_case(rng, bits, 30))


@pytest.mark.usefixtures("costs")
def test_codes_of_many_words_are_searched_exactly():
    rng = np.random.default_rng(6)
    for _ in range(50):
        queries, archive, k, exclude = random_case(rng, 12)
        check(np.repeat(queries, 70, axis=1), np.repeat(archive, 70, axis=1), k, exclude)


@pytest.mark.parametrize("bits", [1, 8, 20, 32, 64, 65, 300])
@pytest.mark.parametrize("n", [1, 2, 50])
def test_codes_all_equal_come_in_storage_order(bits, n):
    archive = np.ones((n, bits), bool)
    for k in range(1, n + 1):
        check(archive[:3], archive, k, np.full(min(n, 3), -1))
    for k in range(1, n):
        check(archive, archive, k, np.arange(n))


def large(bits, n, flips, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.random((50, bits)) < 0.5
    return centres[rng.integers(50, size=n)] ^ (rng.random((n, bits)) < flips)


@pytest.mark.parametrize("bits", [20, 32, 64])
@pytest.mark.parametrize("flips", [0.01, 0.1, 0.5])
def test_large_archives_are_searched_exactly(bits, flips):
    queries, archive = large(bits, 8, flips, seed=1), large(bits, 90_000, flips)
    check(queries, archive, 20, np.full(8, -1))
    far = ~archive[:8]
    check(far, archive, 20, np.full(8, -1))


@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize("repeating", [False, True])
def test_memory_stays_within_three_times_the_codes(width, repeating):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, size=(1_000_000, width), dtype=np.uint8)
    if repeating:
        codes = codes[rng.integers(100_000, size=len(codes))]
    queries = rng.integers(0, 256, size=(600, width), dtype=np.uint8)
    tracemalloc.start()
    built = Index(codes)
    tracemalloc.reset_peak()
    rows, distances = built.search(queries, 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 3 * codes.nbytes + rows.nbytes + distances.nbytes


def test_more_neighbours_than_codes_and_other_widths_are_refused():
    three = Index(np.zeros((3, 4), np.uint8))
    with pytest.raises(UserError, match="choose k from 1 to 3"):
        three.search(three.codes, 4)
    with pytest.raises(UserError, match="choose k from 1 to 2"):
        three.search(three.codes, 3, exclude=np.arange(3))
    with pytest.raises(UserError, match="hash both with one model"):
        three.search(np.zeros((1, 8), np.uint8), 1)


def test_an_empty_archive_is_refused_and_no_queries_find_nothing():
    with pytest.raises(UserError, match="0 codes can be found"):
        Index(np.zeros((0, 4), np.uint8)).search(np.zeros((1, 4), np.uint8), 1)
    rows, distances = Index(np.zeros((3, 4), np.uint8)).search(np.zeros((0, 4), np.uint8), 2)
    assert rows.shape == distances.shape == (0, 2)


def test_more_queries_than_one_block_can_number_are_searched():
    codes = np.arange(1 << 17, dtype=np.uint32).view(np.uint8).reshape(-1, 4)
    rows, distances = Index(codes[:2]).search(codes, 1)
    np.testing.assert_array_equal(rows[:, 0], np.arange(len(codes)) % 2)
    np.testing.assert_array_equal(distances[:, 0], np.bitwise_count(np.arange(len(codes)) >> 1))


def test_faiss_reads_and_writes_the_same_codes(tmp_path):
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    codes = pack(large(64, 500, 0.1))
    exported = faiss.IndexBinaryFlat(8 * codes.shape[1])
    exported.add(codes)
    faiss.write_index_binary(exported, str(tmp_path / "codes.faiss"))

    imported = faiss.read_index_binary(str(tmp_path / "codes.faiss"))
    archive = faiss.vector_to_array(imported.xb).reshape(imported.ntotal, imported.code_size)
    np.testing.assert_array_equal(archive, codes)
    distances, _ = imported.search(codes[:20], 10)
    np.testing.assert_array_equal(Index(archive).search(codes[:20], 10)[1], distances)
