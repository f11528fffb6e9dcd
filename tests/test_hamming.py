import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhcln import hamming
from mhcln.errors import UserError


def brute_force(queries, archive, k, exclude):
    """Bit lists compared one pair at a time and sorted by (distance, row): what the published evaluator does."""
    rows, distances = [], []
    for number, query in enumerate(queries):
        ranked = sorted(
            (int(np.sum(query != code)), row) for row, code in enumerate(archive) if row != exclude[number]
        )[:k]
        rows.append([row for _, row in ranked])
        distances.append([distance for distance, _ in ranked])
    return rows, distances


@st.composite
def cases(draw):
    bits, n, q = draw(st.integers(1, 70)), draw(st.integers(1, 40)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    centres = rng.random((draw(st.integers(1, 8)), bits)) < 0.5
    flips = draw(st.sampled_from([0, 0.02, 0.2, 0.5]))
    archive, queries = (
        centres[rng.integers(len(centres), size=size)] ^ (rng.random((size, bits)) < flips) for size in (n, q)
    )
    exclude = rng.integers(-1, n, size=q) if n > 1 and draw(st.booleans()) else np.full(q, -1)
    return queries, archive, draw(st.integers(1, n - int((exclude >= 0).any()))), exclude


@given(cases())
def test_search_is_the_brute_force_order(case):
    queries, archive, k, exclude = case
    rows, distances = hamming.Index(hamming.pack(archive)).search(hamming.pack(queries), k, exclude)
    assert (rows.tolist(), distances.tolist()) == brute_force(queries, archive, k, exclude)


@given(st.integers(1, 130), st.integers(0, 20))
def test_pack_and_unpack_are_inverse(bits, n):
    original = np.random.default_rng(bits).random((n, bits)) < 0.5
    codes = hamming.pack(original)
    assert codes.shape == (n, -(-bits // 8))
    np.testing.assert_array_equal(hamming.unpack(codes, bits), original)


def test_more_neighbours_than_codes_is_a_users_mistake():
    index = hamming.Index(np.zeros((3, 4), np.uint8))
    with pytest.raises(UserError, match="choose k from 1 to 3"):
        index.search(index.codes, 4)
    with pytest.raises(UserError, match="choose k from 1 to 2"):
        index.search(index.codes, 3, exclude=np.arange(3))
