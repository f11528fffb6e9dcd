"""Folders as people have them: links, parts, files of the system, odd names; and messages whose advice works."""

import os
import re
from pathlib import Path

import pytest

from mhcln.console import UserError
from mhcln.data import folders


def make(root: Path, tree: dict[str, list[str]]) -> Path:
    for folder, names in tree.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / folder / name).write_bytes(b"x")
    return root


def refused(root: Path, find=folders.scan) -> str:
    with pytest.raises(UserError) as caught:
        find(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_own_folders_are_classes_in_sorted_order(tmp_path):
    scan = folders.scan(make(tmp_path / "my set", {"b": ["2.jpg", "10.png"], "a_c": ["1.TIF"], "SeaIce": ["x.webp"]}))
    assert (scan.dataset.name, scan.dataset.class_names) == ("my set", ("SeaIce", "a_c", "b"))
    assert scan.paths == ["SeaIce/x.webp", "a_c/1.TIF", "b/10.png", "b/2.jpg"]
    assert scan.labels.tolist() == [0, 1, 2, 2]
    assert scan.notes == []


def test_entries_that_are_not_images_are_reported(tmp_path):
    tree = {".": ["README.md", "0.jpg"], "a": ["1.jpg", "Thumbs.db", "._1.jpg"], "b": ["1.jpg"], "empty": [], ".x": []}
    root = make(tmp_path, {**tree, "a/folder.jpg": []})
    (root / "b" / "round").symlink_to("round")
    assert folders.scan(root).notes == [
        "1 folders without images are not classes: empty",
        "1 images in no class folder are left out: 0.jpg",
        "6 entries are not images: .x, README.md, a/._1.jpg, a/Thumbs.db, a/folder.jpg and 1 more",
    ]


def test_images_without_classes_are_found_anywhere(tmp_path):
    root = make(tmp_path, {".": ["z.png", "notes.txt"], "2020/june": ["b.tif", "a.tif"], ".hidden": ["x.tif"]})
    scan = folders.scan_unlabelled(root)
    assert scan.paths == ["z.png", "2020/june/a.tif", "2020/june/b.tif"]
    assert (scan.labels.tolist(), scan.dataset.class_names) == ([-1, -1, -1], ())
    assert scan.notes == ["2 entries are not images: .hidden, notes.txt"]
    assert folders.first_image(root) == "z.png"
    empty = make(tmp_path / "empty", {"folder": []})
    assert "holds no images" in refused(empty, folders.scan_unlabelled)
    assert folders.first_image(empty) is None


def test_linked_folders_are_walked_once_and_loops_end(tmp_path):
    root = make(tmp_path / "root", {"a/deep": ["1.jpg"], "b": ["2.jpg"]})
    make(tmp_path / "outside", {"more": ["3.jpg"]})
    (root / "b" / "outside").symlink_to(tmp_path / "outside")
    (root / "0 again").symlink_to("a")  # sorted before it, and yet its images keep their own paths
    (root / "a" / "deep" / "up").symlink_to(root)
    (root / "a" / "other").symlink_to("../b")
    (root / "b" / "here").symlink_to(".")
    (root / "b" / "round").symlink_to("round")
    (tmp_path / "outside" / "back").symlink_to(root)
    scan = folders.scan_unlabelled(root)
    assert scan.paths == ["a/deep/1.jpg", "b/2.jpg", "b/outside/more/3.jpg"]
    assert scan.notes == ["1 entries are not images: b/round"]


def test_links_to_folders_and_images_are_followed(tmp_path):
    make(tmp_path / "real", {"a": ["1.jpg"]})
    root = make(tmp_path / "linked", {"b": []})
    (root / "a").symlink_to(tmp_path / "real" / "a")
    (root / "b" / "2.jpg").symlink_to(tmp_path / "real" / "a" / "1.jpg")
    (tmp_path / "link").symlink_to("linked")
    for find in (folders.scan, folders.scan_unlabelled):
        assert find(tmp_path / "link").paths == ["a/1.jpg", "b/2.jpg"]


def test_names_that_differ_only_in_case_are_different_images(tmp_path):
    root = make(tmp_path, {"Forest": ["A.jpg", "a.jpg"], "forest": ["a.jpg"]})
    if len(list(root.iterdir())) < 2:
        pytest.skip("this file system does not tell case apart")
    assert folders.scan(root).paths == ["Forest/A.jpg", "Forest/a.jpg", "forest/a.jpg"]


LEFTOVERS = ["__MACOSX", "lost+found", "System Volume Information", "$RECYCLE.BIN", "@eaDir", ".ipynb_checkpoints"]


def test_folders_of_the_system_decide_nothing(tmp_path):
    root = make(tmp_path, {"train/a": ["1.jpg"], "train/b": ["2.jpg"], "test/a": ["3.jpg"]})
    plain = [find(root) for find in (folders.scan, folders.scan_unlabelled)]
    make(root, {place + name: ["._1.jpg", "9.jpg"] for name in LEFTOVERS for place in ("", "train/", "train/a/")})
    for scan, find in zip(plain, (folders.scan, folders.scan_unlabelled), strict=True):
        found = find(root)
        assert (found.paths, found.dataset) == (scan.paths, scan.dataset)
        assert "18 entries are not images: " in found.notes[-1]
    assert "holds no class folders" in refused(make(tmp_path / "only", {name: ["1.jpg"] for name in LEFTOVERS}))


def test_a_folder_that_cannot_be_opened_is_named_unless_the_system_made_it(tmp_path, monkeypatch):
    root = make(tmp_path, {"a": ["1.jpg"], "b": ["2.jpg"], "lost+found": []})
    usual = os.scandir

    def scandir(folder):
        if Path(folder).name in ("lost+found", "private"):
            raise PermissionError(13, "Permission denied", str(folder))
        return usual(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert folders.scan(root).paths == folders.scan_unlabelled(root).paths == ["a/1.jpg", "b/2.jpg"]
    (root / "private").mkdir()
    for find in (folders.scan, folders.scan_unlabelled):
        assert "private cannot be opened (Permission denied); make it readable, or move it away" in refused(root, find)


@pytest.mark.parametrize("place", ["a/\x1b[2J.jpg", "new\nline/1.jpg", os.fsdecode(b"caf\xe9/a.b/1.jpg")])
def test_names_that_cannot_be_printed_are_refused(tmp_path, place):
    path = tmp_path / place
    root = make(tmp_path, {"b": ["2.jpg"], str(path.parent.relative_to(tmp_path)): [path.name]})
    find = folders.scan_unlabelled if "a.b" in place else folders.scan
    line = refused(root, find)
    assert "holds 1 images whose paths cannot be printed" in line
    assert f"first {place!r}; rename them" in line
    path.rename(tmp_path / "b" / "renamed.jpg")
    assert "b/renamed.jpg" in find(root).paths


def advised(line: str) -> str:
    """The folder that a message advises to give."""
    return re.search(r"--images_dir=(\S+)$", line)[1]


def test_the_advice_of_every_refusal_gets_further(tmp_path):
    assert "is not a folder; give --images_dir" in refused(tmp_path / "missing")
    assert "holds no class folders with images" in refused(make(tmp_path / "texts", {"a": ["x.txt"]}))
    inner = make(tmp_path / "inner", {"Images/a": ["1.jpg"], "Images/b": ["2.jpg"], "docs": []})
    assert folders.scan(Path(advised(refused(inner)))).paths == ["a/1.jpg", "b/2.jpg"]
    mixed = make(tmp_path / "mixed", {"loose": ["0.jpg"], "test/a": ["1.jpg"], "test/b": ["2.jpg"]})
    assert folders.scan(Path(advised(refused(mixed)))).paths == ["a/1.jpg", "b/2.jpg"]
    two = make(tmp_path / "two", {"first/a": ["1.jpg"], "second/a": ["2.jpg"]})
    assert "only in first, second; call them train and test (and val) if they are one data set, or" in refused(two)
    assert folders.scan(Path(advised(refused(two)))).paths == ["a/1.jpg"]
    for old, new in (("first", "train"), ("second", "test")):
        (two / old).rename(two / new)
    assert folders.scan(two).paths == ["test/a/2.jpg", "train/a/1.jpg"]
    flat = make(tmp_path / "flat", {".": ["1.jpg"]})
    parts = make(tmp_path / "parts", {"train": ["1.jpg"], "test": ["2.jpg"]})
    for root in (flat, parts):
        assert refused(root).endswith("or take them without classes by --unlabelled")
        assert folders.scan_unlabelled(root).paths


@pytest.mark.parametrize(
    ("names", "are_parts"),
    [
        (["train", "test"], True),
        (["Training", "VALID"], True),
        (["train"], False),
        (["train", "training"], False),  # one part in two folders
        (["train", "test", "extra"], False),
    ],
)
def test_parts_are_known_by_their_names(tmp_path, names, are_parts):
    root = make(tmp_path, {f"{name}/a": ["1.jpg"] for name in names})
    if are_parts:
        assert folders.scan(root).dataset.class_names == ("a",)
    else:
        assert "holds class folders only in" in refused(root)


def test_a_class_has_one_label_in_all_parts_and_a_class_that_a_part_lacks_is_named(tmp_path):
    scan = folders.scan(make(tmp_path, {name: ["1.jpg"] for name in ("train/a", "train/b", "test/b", "val/a")}))
    labels = dict(zip(scan.paths, scan.labels.tolist(), strict=True))
    assert labels == {"train/a/1.jpg": 0, "val/a/1.jpg": 0, "test/b/1.jpg": 1, "train/b/1.jpg": 1}
    advice = "which dataset_generator.py takes with --rule=folders"
    assert scan.notes == [
        f"{tmp_path} comes with a split, {advice}: train 2, val 1, test 1 images",
        "1 of 2 classes have no images in val: b",
        "1 of 2 classes have no images in test: a",
    ]
