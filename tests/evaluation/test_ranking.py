"""The order of equal vectors, and of vectors of zeros."""

import numpy as np

from mhcln.evaluation import ranking


def test_equal_vectors_keep_the_storage_order_and_zeros_are_far():
    vectors = np.array([[1, 0], [0, 0], [2, 0], [0, 3], [1, 0]], np.float32)
    (block,) = ranking.by_cosine(vectors[[0]], vectors, np.array([0]))
    assert block.order[0].tolist() == [2, 4, 1, 3]
    assert (block.distances[0] / ranking.STEPS).tolist() == [0, 0, 1, 1]
