"""Class folders within `train/` and `test/` are one data set that comes split."""

import pytest

from mhcln.data import folders
from mhcln.data.parts import are_parts, part_notes, parts_of


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train", "test"], True),
        (["Training", "VALID"], True),
        (["train", "val", "test"], True),
        (["train"], False),
        (["train", "training"], False),  # one part in two folders
        (["train", "test", "extra"], False),
        ([], False),
    ],
)
def test_parts_are_told_by_their_names(names, expected):
    assert are_parts(names) is expected


def test_paths_are_sorted_into_parts():
    paths = ["Train/a/1.jpg", "Train/b/2.jpg", "testing/a/3.jpg"]
    assert parts_of(paths) == {"train": paths[:2], "test": paths[2:]}
    for other in (["a/1.jpg", *paths], ["train/1.jpg", "test/a/1.jpg"], paths[:2], []):
        assert parts_of(other) == {}


def test_what_the_parts_lack_is_said(tmp_path):
    paths = ["train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg"]
    assert part_notes(tmp_path, paths) == [
        f"{tmp_path} comes with a split, which dataset_generator.py takes with --rule=folders: train 2, test 1 images",
        "1 of 2 classes have no images in test: b",
    ]
    assert "takes with --rule=folders: train 2, test 1, val 1" in part_notes(tmp_path, [*paths, "val/a/4.jpg"])[0]
    assert part_notes(tmp_path, ["a/1.jpg"]) == []


def test_a_class_has_one_label_in_all_parts_and_equal_file_names_stay_apart(tmp_path):
    for name in ("train/a", "train/b", "test/b", "test/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.jpg").write_bytes(b"x")
    scan = folders.scan(tmp_path)
    assert scan.dataset.class_names == ("a", "b", "c")
    labels = dict(zip(scan.paths, scan.labels.tolist(), strict=True))
    assert labels == {"train/a/1.jpg": 0, "test/b/1.jpg": 1, "train/b/1.jpg": 1, "test/c/1.jpg": 2}
