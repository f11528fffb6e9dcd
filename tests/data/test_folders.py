"""Folders as people have them: links, parts, what systems leave behind, odd names; and messages whose advice works."""

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


def test_linked_folders_are_walked_once_and_loops_end(tmp_path):
    root = make(tmp_path / "root", {"a/deep": ["1.jpg"], "b": ["2.jpg"]})
    make(tmp_path / "outside", {"more": ["3.jpg"]})
    (root / "b" / "outside").symlink_to(tmp_path / "outside")
    (root / "0 again").symlink_to("a")  # sorted before it, and yet its images keep their own paths
    (root / "a" / "deep" / "up").symlink_to(root)
    (root / "b" / "here").symlink_to(".")
    (root / "b" / "round").symlink_to("round")
    (tmp_path / "outside" / "back").symlink_to(root)
    scan = folders.scan_unlabelled(root)
    assert scan.paths == ["a/deep/1.jpg", "b/2.jpg", "b/outside/more/3.jpg"]
    assert scan.notes == [
        "links that lead nowhere are left out: b/round",
        "links to folders that are read under another path are left out: 0 again, a/deep/up, b/here, b/outside/back",
    ]


def test_a_link_may_be_the_folder_itself(tmp_path):
    make(tmp_path / "real", {"a": ["1.jpg"], "b": ["2.jpg"]})
    (tmp_path / "link").symlink_to("real")
    assert folders.scan(tmp_path / "link").paths == ["a/1.jpg", "b/2.jpg"]
    assert folders.scan_unlabelled(tmp_path / "link").paths == ["a/1.jpg", "b/2.jpg"]


LEFTOVERS = ["__MACOSX", "lost+found", "System Volume Information", "$RECYCLE.BIN", "@eaDir", ".ipynb_checkpoints"]


@pytest.mark.parametrize("prefix", ["", "train/", "data/"])
def test_what_systems_leave_behind_decides_nothing(tmp_path, prefix):
    tree = {f"{prefix}a": ["1.jpg"], f"{prefix}b": ["2.jpg"], "test/a" if prefix == "train/" else f"{prefix}empty": []}
    if prefix == "train/":
        tree["test/a"] = ["3.jpg"]
    plain = make(tmp_path / "plain" / "set", tree)
    leftovers = {place + name: ["._1.jpg", "9.jpg"] for name in LEFTOVERS for place in {"", prefix}}
    littered = make(make(tmp_path / "littered" / "set", tree), leftovers)
    find = folders.scan_unlabelled if prefix == "data/" else folders.scan
    expected, found = find(plain), find(littered)
    assert found.paths == expected.paths
    assert found.dataset == expected.dataset
    assert found.labels.tolist() == expected.labels.tolist()
    entries = [note for note in found.notes if "entries are not images: " in note]
    assert len(entries) == 1
    assert "__MACOSX" in entries[0] or "$RECYCLE.BIN" in entries[0]


def test_folders_of_leftovers_only_are_no_data_set(tmp_path):
    assert "holds no class folders" in refused(make(tmp_path, {name: ["1.jpg"] for name in LEFTOVERS}))


def test_a_leftover_that_only_its_system_may_open_does_not_stop_the_scan(tmp_path, monkeypatch):
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
    (root / "private").rmdir()  # as if moved away
    assert folders.scan(root).paths


def test_any_blank_is_a_blank(tmp_path):
    names = ["Screenshot 9.41\u202fAM.png", "a\u00a0b.png", "東\u3000京.png", "👩\u200d🌾.png"]
    root = make(tmp_path, {"land\u00a0use": names, "x": ["1.png"]})
    assert {Path(path).name for path in folders.scan(root).paths} == {*names, "1.png"}
    assert folders.scan(root).dataset.class_names == ("land\u00a0use", "x")


@pytest.mark.parametrize("bad", ["new\nline", "\x1b[2J", "\x85", os.fsdecode(b"caf\xe9")])
@pytest.mark.parametrize("place", ["a/{}.jpg", "{}/1.jpg", "{}/a.b/1.jpg"])
def test_control_characters_and_bytes_that_are_not_utf_8_are_refused_in_names_of_files_and_folders(
    tmp_path, bad, place
):
    path = tmp_path / place.format(bad)
    root = make(tmp_path, {"b": ["2.jpg"], str(path.parent.relative_to(tmp_path)): [path.name]})
    find = folders.scan_unlabelled if "a.b" in place else folders.scan
    line = refused(root, find)
    assert "holds an image whose path cannot be printed" in line
    assert f"first {str(path.relative_to(tmp_path))!r}; rename what is at fault" in line
    path.rename(tmp_path / "b" / "renamed.jpg")
    assert "b/renamed.jpg" in find(root).paths


def advised(line: str) -> str:
    """The folder that a message advises to give."""
    return re.search(r"--images_dir=(\S+)$", line)[1]


def test_the_advice_of_every_refusal_gets_further(tmp_path):
    inner = make(tmp_path / "inner", {"Images/a": ["1.jpg"], "Images/b": ["2.jpg"], "docs": []})
    assert folders.scan(Path(advised(refused(inner)))).paths == ["a/1.jpg", "b/2.jpg"]
    mixed = make(tmp_path / "mixed", {"loose": ["0.jpg"], "test/a": ["1.jpg"], "test/b": ["2.jpg"]})
    assert folders.scan(Path(advised(refused(mixed)))).paths == ["a/1.jpg", "b/2.jpg"]
    two = make(tmp_path / "two", {"first/a": ["1.jpg"], "second/a": ["2.jpg"]})
    assert "first, second in it do; give one of them with --images_dir, or call them train and test" in refused(two)
    assert folders.scan(two / "second").paths == ["a/2.jpg"]
    for old, new in (("first", "train"), ("second", "test")):
        (two / old).rename(two / new)
    assert folders.scan(two).paths == ["test/a/2.jpg", "train/a/1.jpg"]
    flat, parts = make(tmp_path / "flat", {".": ["1.jpg"]}), make(tmp_path / "parts", {"train": ["1"], "test": ["2"]})
    for name in ("train/1", "test/2"):
        (parts / name).rename(parts / f"{name}.jpg")
    for root in (flat, parts):
        assert refused(root).endswith("or take them without classes by --unlabelled")
        assert folders.scan_unlabelled(root).paths


def test_a_known_name_is_insisted_on_or_left_out_as_advised(tmp_path):
    root = make(tmp_path, {"forest": ["1.tif"], "glacier": ["2.tif"]})
    with pytest.raises(UserError, match="move them away or leave --dataset out"):
        folders.scan(root, "UCMD")
    assert folders.scan(root).dataset.class_names == ("forest", "glacier")
    (root / "glacier").rename(tmp_path.parent / f"{tmp_path.name} glacier")
    assert folders.scan(root, "UCMD").dataset.class_names == ("forest",)
