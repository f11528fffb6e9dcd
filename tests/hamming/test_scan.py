"""The scan alone, with bounds that do and do not tighten as it goes on."""

import numpy as np
import pytest

from mhcln.hamming import scan
from mhcln.hamming.codes import distances, pack, words
from mhcln.hamming.top_k import FAR

K = 3


@pytest.fixture(params=[None, 4])
def case(request, monkeypatch):
    """Queries and an archive of random codes, and their distances; scanned in one block, and in many."""
    if request.param:
        monkeypatch.setattr(scan, "SAMPLE", request.param)
        monkeypatch.setattr(scan, "TILE", request.param)
    rng = np.random.default_rng(1)
    queries, archive = pack(rng.random((5, 20)) < 0.5), pack(rng.random((300, 20)) < 0.5)
    return words(queries), words(archive), distances(queries, archive).astype(int)


def test_without_a_bound_every_code_as_near_as_the_kth_is_found(case):
    queries, archive, expected = case
    parts = list(scan.scan(queries, archive, K, lambda _start: np.full(5, FAR)))
    found = {(query, code) for part in parts for query, code in zip(part.query, part.code, strict=True)}
    kth = np.sort(expected, axis=1)[:, [K - 1]]
    assert found >= set(zip(*np.nonzero(expected <= kth), strict=True))
    for query, code, distance in parts:
        np.testing.assert_array_equal(distance, expected[query, code])


def test_exactly_the_codes_below_a_bound_are_found_and_none_from_where_nothing_can_be(case):
    queries, archive, expected = case
    bound = np.array([7, 0, 20, 8, 6])
    parts = list(scan.scan(queries, archive, K, lambda start: bound * (start == 0)))
    size = archive.shape[1] if scan.TILE > 4 else 4
    found = sorted((query, code) for part in parts for query, code in zip(part.query, part.code, strict=True))
    assert found == sorted(zip(*np.nonzero(expected[:, :size] < bound[:, None]), strict=True))


def test_no_queries_find_nothing(case):
    queries, archive, _ = case
    assert list(scan.scan(queries[:, :0], archive, K, lambda _start: np.empty(0, int))) == []
