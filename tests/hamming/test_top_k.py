"""The keeper of the k best rows."""

import numpy as np

from mhcln.hamming.top_k import FAR, TopK


def test_the_best_rows_are_kept_once_each_in_the_order_of_distance_then_row():
    best = TopK(2, k=2)
    best.offer(np.array([0, 0, 1, 1]), np.array([9, 4, 7, 7]), np.array([3, 3, 5, 5]))
    best.offer(np.array([0, 1, 0]), np.array([8, 2, 4]), np.array([1, 6, 3]))
    rows, distances = best.result()
    assert rows.tolist() == [[8, 4], [7, 2]]
    assert distances.tolist() == [[1, 3], [5, 6]]
    assert (rows.dtype, distances.dtype) == (np.int64, np.uint16)


def test_at_the_kth_distance_only_rows_before_the_kth_still_count():
    best = TopK(2, k=1)
    assert best.limits().tolist() == [FAR, FAR]
    best.offer(np.array([0]), np.array([7]), np.array([3]))
    assert best.limits().tolist() == best.limits(first_row=6).tolist() == [4, FAR]
    assert best.limits(first_row=7).tolist() == [3, FAR]
