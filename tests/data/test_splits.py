"""Splits are stratified, repeatable, disjoint and complete."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhcln.console import UserError
from mhcln.data import splits
from mhcln.storage.formats import Split


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
    ("train", "test", "message"),
    [
        (["a", "b"], ["c", "x"], "names 1 images that features.npz lacks, first x"),
        (["a", "b"], ["b", "c"], "1 images on both sides, first b"),
        (["a"], ["b"], "leaves 1 images out, first c"),
        (["a", "b", "c"], [], "3 training and 0 test images"),
        (["a", "a", "b"], ["c"], "names a twice"),
    ],
)
def test_a_bad_split_is_refused(train, test, message):
    with pytest.raises(UserError, match=message):
        splits.check(Split(train, test, 0.5, 0, splits.STRATIFIED), ["a", "b", "c"], Path("split.npz"))


@pytest.mark.parametrize(
    ("count", "share", "held"), [(60, 0.1, 6), (2, 0.5, 0), (1, 0.9, 0), (3, 0.1, 1), (15, 0.1, 2), (4, 0.9, 2)]
)
def test_a_share_of_each_class_is_held_back(count, share, held):
    labels = np.repeat([0, 7], [count, 10])
    mask = splits.hold_back(labels, share, seed=0)
    assert mask[labels == 0].sum() == held
    assert (mask == splits.hold_back(labels, share, seed=0)).all()


def test_seed_decides_who_is_held_back_and_classes_do_not_depend_on_each_other():
    labels = np.repeat([0, 1], 40)
    first, other = (splits.hold_back(labels, 0.2, seed) for seed in (0, 1))
    assert (first != other).any()
    assert (first[:40] == splits.hold_back(np.repeat([0, 1, 2], [40, 5, 9]), 0.2, 0)[:40]).all()


def test_images_are_held_back_by_another_stream_than_the_split():
    paths, labels = images([40, 40])
    split = splits.stratified_split(paths, labels, 0.5, 0)
    held = splits.hold_back(labels, 0.5, 0)
    assert [path for path, chosen in zip(paths, held, strict=True) if chosen] != split.train_paths


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


def test_without_equal_images_a_split_is_drawn_as_before():
    paths, labels = images([20, 7, 3])
    for seed in range(5):
        alone = splits.stratified_split(paths, labels, 0.5, seed, np.arange(len(paths)))
        assert alone == splits.stratified_split(paths, labels, 0.5, seed)
    first = splits.stratified_split(paths, labels, 0.5, 0)
    assert [path for path in first.train_paths if path.startswith("c02")] == ["c02/c02_1.tif", "c02/c02_2.tif"]


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
    held = splits.hold_back(labels, ratio, seed, groups)
    for group in set(groups.tolist()):
        assert len(set(held[groups == group].tolist())) == 1
    for label in range(len(counts)):
        assert not held[labels == label].all()


def test_the_folder_val_is_held_back_or_tested_if_there_is_no_test():
    paths = [f"{part}/a/{n}.jpg" for part in ("train", "val", "test") for n in range(2)]
    split = splits.split_from_folders(paths)
    assert (split.train_paths, split.validation_paths, split.test_paths) == (paths[:2], paths[2:4], paths[4:])
    split = splits.split_from_folders(paths[:4])
    assert (split.test_paths, split.validation_paths) == (paths[2:4], [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_paths": ["b"]}, "1 images on both sides, first b"),
        ({"database_paths": ["b"]}, "1 images on both sides, first b"),
        ({"validation_paths": ["x"]}, "names 1 images that features.npz lacks, first x"),
        ({"rule": "folders"}, "leaves 1 images out, first c; .* dataset_generator.py --rule=folders"),
    ],
)
def test_a_bad_split_with_other_parts_is_refused(changes, message):
    split = Split(**{**vars(Split(["a"], ["b"], 0.5, 0, splits.LISTS)), **changes})
    with pytest.raises(UserError, match=message):
        splits.check(split, ["a", "b", "c"], Path("split.npz"))
