"""Splits are stratified, repeatable, disjoint and complete."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhcln.console import UserError
from mhcln.data import splits
from mhcln.storage.split import Split


def images(counts: list[int]) -> tuple[list[str], np.ndarray]:
    paths = [f"c{label:02}/c{label:02}_{i}.tif" for label, count in enumerate(counts) for i in range(count)]
    return paths, np.repeat(np.arange(len(counts)), counts).astype(np.int32)


def per_class(paths: list[str], classes: int) -> list[int]:
    return [sum(path.startswith(f"c{label:02}/") for path in paths) for label in range(classes)]


def test_ucmd_has_60_and_40_of_each_class():
    paths, labels = images([100] * 21)
    split = splits.stratified_split(paths, labels, 0.6, 0)
    assert per_class(split.train_paths, 21) == [60] * 21
    assert per_class(split.test_paths, 21) == [40] * 21


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.floats(0.01, 0.99), st.integers(0, 5))
def test_stratified_is_disjoint_complete_and_in_storage_order(counts, ratio, seed):
    paths, labels = images(counts)
    split = splits.stratified_split(paths, labels, ratio, seed)
    assert sorted(split.train_paths + split.test_paths) == sorted(paths)
    for side in (split.train_paths, split.test_paths):
        assert side == [path for path in paths if path in set(side)]
    train = per_class(split.train_paths, len(counts))
    for count, n in zip(train, counts, strict=True):
        assert 1 <= count <= max(n - 1, 1)
        assert abs(count - ratio * n) <= 0.5 or count in (1, n - 1)


def test_seed_decides_and_classes_do_not_disturb_each_other():
    paths, labels = images([20, 20, 20])
    first = splits.stratified_split(paths, labels, 0.5, 1)
    assert first == splits.stratified_split(paths, labels, 0.5, 1)
    assert first != splits.stratified_split(paths, labels, 0.5, 2)
    alone = splits.stratified_split(paths[:20], labels[:20], 0.5, 1)
    assert first.train_paths[:10] == alone.train_paths


def test_published_aid_rule_overlaps_and_says_how_much():
    paths, labels = images([100] * 30)
    split = splits.published_aid_split(paths, labels, 0.6, 0)
    assert (len(split.train_paths), len(split.test_paths)) == (1800, 1200)
    shared = len(set(split.train_paths) & set(split.test_paths))
    assert splits.check(split, paths, Path("split.npz")) == shared
    assert 0.5 < shared / 1200 < 0.7  # 60 % expected


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({"test_paths": ["c", "x"]}, "names 1 images that features.npz lacks, first x"),
        ({"validation_paths": ["x"]}, "names 1 images that features.npz lacks, first x"),
        ({"test_paths": ["b", "c"]}, "1 images on both sides, first b"),
        ({"validation_paths": ["b"]}, "1 images on both sides, first b"),
        ({"database_paths": ["c"]}, "1 images on both sides, first c"),
        ({"train_paths": ["a"]}, "leaves 1 images out, first b"),
        ({"train_paths": ["a"], "rule": "folders"}, r"leaves .* out, .* dataset_generator\.py --rule=folders"),
        ({"test_paths": []}, "2 training and 0 test images"),
        ({"train_paths": ["a", "a", "b"]}, "names a twice"),
    ],
)
def test_a_bad_split_is_refused(sides, message):
    whole = Split(["a", "b"], ["c"], 0.5, 0, splits.STRATIFIED)
    assert splits.check(whole, ["a", "b", "c"], Path("split.npz")) == 0
    with pytest.raises(UserError, match=message):
        splits.check(dataclasses.replace(whole, **sides), ["a", "b", "c"], Path("split.npz"))


@pytest.mark.parametrize(
    ("count", "share", "chosen"), [(60, 0.1, 6), (2, 0.5, 0), (1, 0.9, 0), (3, 0.1, 1), (15, 0.1, 2), (4, 0.9, 2)]
)
def test_a_share_of_each_class_is_for_validation(count, share, chosen):
    labels = np.repeat([0, 7], [count, 10])
    mask = splits.draw_validation(labels, share, seed=0)
    assert mask[labels == 0].sum() == chosen


def test_seed_decides_the_validation_and_classes_do_not_depend_on_each_other():
    paths, labels = images([40, 40])
    first, again, other = (splits.draw_validation(labels, 0.2, seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    assert (first[:40] == splits.draw_validation(np.repeat([0, 1, 2], [40, 5, 9]), 0.2, 0)[:40]).all()
    train = splits.stratified_split(paths, labels, 0.5, 0).train_paths  # by another stream
    assert np.flatnonzero(splits.draw_validation(labels, 0.5, 0)).tolist() != [paths.index(path) for path in train]


def test_equal_images_are_drawn_to_one_side_and_the_numbers_per_class_stay():
    paths, labels = images([100] * 21)
    groups = np.arange(len(paths))
    groups[[101, 102]], groups[[500, 510, 530]], groups[[7, 207]] = 101, 500, 7  # the last lies in two classes
    for seed in range(10):
        plain, kept = (splits.stratified_split(paths, labels, 0.6, seed, chosen) for chosen in (None, groups))
        train = set(kept.train_paths)
        for group in (101, 500, 7):
            assert len({paths[row] in train for row in np.flatnonzero(groups == group)}) == 1
        assert per_class(kept.train_paths, 21) == [60] * 21
        assert sorted(kept.train_paths + kept.test_paths) == sorted(paths)
        changed = {path[:3] for path in train ^ set(plain.train_paths)}
        assert changed <= {"c00", "c01", "c02", "c05"}


def test_draws_stay_the_same_from_version_to_version():
    paths, labels = images([9, 5, 3])
    groups = np.array([0, 1, 2, 1, 4, 5, 5, 5, 8, 9, 9, 2, 12, 13, 14, 15, 16])
    for seed, equal, train, validation in (
        (0, None, [2, 3, 4, 5, 6, 10, 12, 13, 15, 16], [1, 5, 6, 9, 13, 14]),
        (0, np.arange(17), [2, 3, 4, 5, 6, 10, 12, 13, 15, 16], [1, 5, 6, 9, 13, 14]),
        (1, None, [0, 1, 2, 4, 7, 9, 10, 13, 14, 15], [2, 5, 6, 10, 12, 16]),
        (1, groups, [0, 1, 2, 3, 4, 9, 10, 11, 14, 15], [5, 6, 7, 12, 13, 16]),
    ):
        split = splits.stratified_split(paths, labels, 0.5, seed, equal)
        assert [paths.index(path) for path in split.train_paths] == train
        assert np.flatnonzero(splits.draw_validation(labels, 0.3, seed, equal)).tolist() == validation


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.floats(0.05, 0.95), st.integers(0, 3), st.data())
def test_any_groups_are_whole_and_no_class_loses_a_side_that_its_groups_allow(counts, ratio, seed, data):
    paths, labels = images(counts)
    groups = labels * 100 + data.draw(st.lists(st.integers(0, 5), min_size=len(paths), max_size=len(paths)))
    split = splits.stratified_split(paths, labels, ratio, seed, groups)
    train = np.isin(paths, split.train_paths)
    for group in set(groups.tolist()):
        assert len(set(train[groups == group].tolist())) == 1
    for label in range(len(counts)):
        several = len(set(groups[labels == label].tolist())) > 1
        assert train[labels == label].any()
        assert not several or not train[labels == label].all()
    validation = splits.draw_validation(labels, ratio, seed, groups)
    for group in set(groups.tolist()):
        assert len(set(validation[groups == group].tolist())) == 1
    for label in range(len(counts)):
        assert not validation[labels == label].all()


def test_paths_are_sorted_into_the_parts_of_their_folders():
    paths = ["Train/a/1.jpg", "Train/b/2.jpg", "testing/a/3.jpg"]
    assert splits.parts_of(paths) == {"train": paths[:2], "test": paths[2:]}
    for other in (["a/1.jpg", *paths], ["train/1.jpg", "test/a/1.jpg"], paths[:2], []):
        assert splits.parts_of(other) == {}


def test_the_folder_val_is_for_validation_or_tested_if_there_is_no_test():
    paths = [f"{part}/a/{n}.jpg" for part in ("train", "val", "test") for n in range(2)]
    split = splits.split_from_folders(paths)
    assert (split.train_paths, split.validation_paths, split.test_paths) == (paths[:2], paths[2:4], paths[4:])
    split = splits.split_from_folders(paths[:4])
    assert (split.test_paths, split.validation_paths) == (paths[2:4], [])
    with pytest.raises(UserError, match=r"do not lie in folders train/ and test/; leave --rule=folders out"):
        splits.split_from_folders(["a/1.jpg", "b/2.jpg"])
