"""Splits are stratified, repeatable, disjoint and complete; published lists are matched without guessing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhcln.console import UserError
from mhcln.data import splits
from mhcln.storage import formats
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


def write_lists(folder: Path, train: list[str], test: list[str]) -> Path:
    (folder / "train.txt").write_text("\n".join(train) + "\n", encoding="utf-8")
    (folder / "test.txt").write_text("\n".join(test), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "form", ["{path}", "{name}", "{stem}", "{name} {label}", "{folder}/{stem}", "x/y/{stem}.jpg {label}"]
)
def test_lists_match_with_and_without_folder_ending_and_label(tmp_path, form):
    paths, labels = images([4, 4])
    lines = [
        form.format(path=p, name=Path(p).name, stem=Path(p).stem, folder=Path(p).parent, label=label + 7)
        for p, label in zip(paths, labels, strict=True)
    ]
    split = splits.split_from_lists(write_lists(tmp_path, lines[::2][::-1], lines[1::2]), paths, labels)
    assert (split.train_paths, split.test_paths) == (paths[::2], paths[1::2])
    assert (split.rule, split.train_test_split) == ("lists", 0.5)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (["a/1", "a/2"], ["b/1"], "leaves 1 images out, first b/2.jpg"),
        (["a/1", "a/2"], ["b/1", "b/2", "a/1"], "1 images on both sides, first a/1.jpg"),
        (["a/1", "a/3"], ["b/1", "b/2"], r"train.txt names a/3, which fits no image"),
        (["1", "a/2"], ["b/1", "b/2"], "names 1, which fits 2 images; name its folder"),
        (["a/1 0", "a/2 0"], ["b/1 0", "b/2 1"], "labels in the lists do not fit"),
        (["a/1", "a/1", "a/2"], ["b/1", "b/2"], "names a/1.jpg twice"),
    ],
)
def test_bad_lists_are_refused(tmp_path, train, test, message):
    paths, labels = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"], np.array([0, 0, 1, 1])
    with pytest.raises(UserError, match=message):
        splits.split_from_lists(write_lists(tmp_path, train, test), paths, labels)


def test_file_names_in_lists_may_have_blanks(tmp_path):
    paths, labels = ["a b/x 1.jpg", "a b/x 2.jpg"], np.array([0, 0])
    split = splits.split_from_lists(write_lists(tmp_path, ["x 1.jpg 0"], ["x 2.jpg"]), paths, labels)
    assert split.train_paths == ["a b/x 1.jpg"]


def test_missing_and_binary_lists_are_reported(tmp_path):
    with pytest.raises(UserError, match=r"train.txt is missing"):
        splits.split_from_lists(tmp_path, ["a"], np.array([0]))
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not a text file"):
        splits.split_from_lists(tmp_path, ["a"], np.array([0]))


@pytest.mark.parametrize(("name", "train", "test"), [("UC_Merced", 1680, 420), ("AID", 6000, 4000)])
def test_published_lists_fit_the_real_data(shared, tmp_path, name, train, test):
    source = "ucmd" if name == "UC_Merced" else "aid"
    (tmp_path / "features.npz").symlink_to((shared / "data" / "features" / f"{source}.npz").resolve())
    images = formats.read_image_table(tmp_path)
    split = splits.split_from_lists(shared / "data" / "splits" / name, images.paths, images.labels)
    assert (len(split.train_paths), len(split.test_paths)) == (train, test)


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
