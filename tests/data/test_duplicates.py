"""Equal images are found by their features and names; leaks between two sides are counted."""

import numpy as np

from mhcln.data.duplicates import equal_across, equal_images, groups_of_several
from mhcln.storage.features import read_features


def test_equal_features_and_equal_names_are_groups():
    vectors = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    vectors[[3, 6]] = vectors[1]
    vectors[7] = np.nextafter(vectors[1], 9)  # nearly equal is not equal
    paths = ["a/0.tif", "a/1.tif", "a/2.tif", "b/3.tif", "a/2.jpg", "b/1.tif", "b/6.v2.tif", "b/6.v1.tif"]
    groups = equal_images(vectors, paths)
    assert groups.tolist() == [0, 1, 2, 1, 2, 5, 1, 7]
    assert [rows.tolist() for rows in groups_of_several(groups)] == [[1, 3, 6], [2, 4]]


def test_a_chain_of_features_and_names_is_one_group():
    vectors = np.array([[1], [2], [2], [3]], np.float32)
    assert equal_images(vectors, ["a/1.tif", "a/1.jpg", "a/2.tif", "a/3.tif"]).tolist() == [0, 0, 0, 3]


def test_features_that_are_all_the_same_tell_nothing():
    assert equal_images(np.zeros((3, 2), np.float32), ["a/1.tif", "a/2.tif", "a/2.jpg"]).tolist() == [0, 1, 1]


def test_leaks_are_counted_beside_images_on_both_sides():
    groups = np.array([0, 0, 2, 2, 4, 4])
    train, test = np.array([0, 2, 3]), np.array([1, 3, 4, 5])
    assert equal_across(groups, train, test) == [(1, 0)]


def test_each_of_the_real_data_sets_has_one_pair(shared):
    pairs = {}
    for name in ("ucmd", "aid"):
        features = read_features(shared / "data" / "features" / f"{name}.npz")
        groups = groups_of_several(equal_images(features.vectors, features.images.paths))
        pairs[name] = [[features.images.paths[row].split("/")[1] for row in rows] for rows in groups]
    assert pairs == {
        "ucmd": [["airplane01.jpg", "airplane02.jpg"]],
        "aid": [["industrial_203.jpg", "industrial_205.jpg"]],
    }
