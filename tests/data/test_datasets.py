"""Data sets are recognised by their class folders, and nothing is left out in silence."""

import json
from pathlib import Path

import pytest

from mhcln.console import UserError
from mhcln.data import datasets, folders


def make(root: Path, tree: dict[str, list[str]]) -> Path:
    for folder, names in tree.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / folder / name).write_bytes(b"x")
    return root


def known_tree(name: str) -> dict[str, list[str]]:
    dataset = datasets.known()[name]
    return {
        folder: [f"{folder}{i}.tif" for i in range(images)]
        for folder, images in zip(dataset.folders, dataset.images, strict=True)
    }


def test_own_folders_are_classes_in_sorted_order(tmp_path):
    scan = folders.scan(make(tmp_path / "my set", {"b": ["2.jpg", "10.png"], "a_c": ["1.TIF"], "SeaIce": ["x.webp"]}))
    assert scan.dataset.name == "my set"
    assert scan.dataset.class_names == ("SeaIce", "a_c", "b")
    assert scan.dataset.display_names == ("Sea Ice", "a c", "b")
    assert scan.paths == ["SeaIce/x.webp", "a_c/1.TIF", "b/10.png", "b/2.jpg"]
    assert scan.labels.tolist() == [0, 1, 2, 2]
    assert scan.notes == []


@pytest.mark.parametrize(("name", "images", "classes"), [("UCMD", 2100, 21), ("AID", 10_000, 30)])
def test_known_sets_are_recognised_by_their_folders(tmp_path, name, images, classes):
    scan = folders.scan(make(tmp_path, known_tree(name)))
    assert scan.dataset.name == name
    assert len(scan.dataset.class_names) == classes
    assert (len(scan.paths), scan.notes) == (images, [])
    assert scan.labels.max() == classes - 1


def test_fewer_images_than_the_known_set_has_are_reported(tmp_path):
    tree = known_tree("UCMD")
    tree["beach"].pop()
    tree["forest"] = []
    assert folders.scan(make(tmp_path, tree)).notes == [
        "2 classes have other image counts than UCMD: beach 99 of 100, forest 0 of 100"
    ]


def test_a_known_set_with_another_folder_is_not_taken_for_it(tmp_path):
    root = make(tmp_path, {**known_tree("UCMD"), "glacier": ["1.tif"]})
    scan = folders.scan(root)
    assert len(scan.dataset.class_names) == 22
    assert "--dataset=UCMD insists" in scan.notes[0]
    with pytest.raises(UserError, match="UCMD does not have: glacier"):
        folders.scan(root, "UCMD")


def test_the_users_own_classes_can_be_given_a_name(tmp_path):
    root = make(tmp_path, known_tree("UCMD"))
    assert folders.scan(root, "mine").dataset.name == "mine"


def test_what_is_not_an_image_is_reported(tmp_path):
    root = make(tmp_path, {"a": ["1.jpg", "Thumbs.db", "._1.jpg", "notes.txt"], "b": ["1.jpg"], "empty": [], ".x": []})
    (root / "README.md").write_text("x")
    (root / "a" / "folder.jpg").mkdir()
    notes = folders.scan(root).notes
    assert notes == [
        "1 folder without images is not a class: empty",
        "6 entries are not images: .x, README.md, a/._1.jpg, a/Thumbs.db, a/folder.jpg and 1 more",
    ]


def test_links_to_folders_and_images_are_followed(tmp_path):
    make(tmp_path / "real", {"a": ["1.jpg"]})
    root = make(tmp_path / "linked", {"b": []})
    (root / "a").symlink_to(tmp_path / "real" / "a")
    (root / "b" / "2.jpg").symlink_to(tmp_path / "real" / "a" / "1.jpg")
    assert folders.scan(root).paths == ["a/1.jpg", "b/2.jpg"]


def test_names_that_differ_only_in_case_are_different_images(tmp_path):
    root = make(tmp_path, {"Forest": ["A.jpg", "a.jpg"], "forest": ["a.jpg"]})
    if len(list(root.iterdir())) < 2:
        pytest.skip("this file system does not tell case apart")
    assert folders.scan(root).paths == ["Forest/A.jpg", "Forest/a.jpg", "forest/a.jpg"]


@pytest.mark.parametrize(
    ("tree", "where", "message"),
    [
        ({}, "missing", "is not a folder; give --images_dir"),
        ({"a": ["x.txt"]}, "", "no class folders with images"),
        ({"Images/a": ["1.jpg"]}, "", "give --images_dir=.*Images"),
        ({"a": ["new\nline.jpg"]}, "", "cannot be printed"),
    ],
)
def test_a_wrong_folder_is_refused(tmp_path, tree, where, message):
    with pytest.raises(UserError, match=message):
        folders.scan(make(tmp_path, tree) / where)


def test_load_gives_own_sets_their_classes():
    own = datasets.load("mine", ["a", "b"])
    assert (own.class_names, own.iterations, own.published) == (("a", "b"), 10_000, ())
    assert datasets.load("AID", datasets.known()["AID"].class_names).iterations == 25_000


def test_a_name_alone_makes_no_known_data_set():
    assert datasets.load("UCMD", ["forest", "harbor"]).published == ()
    assert datasets.display_names("UCMD", ["storagetanks", "other"]) == ["storagetanks", "other"]
    known = datasets.known()["UCMD"]
    assert datasets.display_names("UCMD", known.class_names) == list(known.display_names)


@pytest.mark.parametrize("name", [None, "UCMD"], ids=["by its folder", "insisted on"])
def test_a_part_of_a_known_set_says_that_it_is_one(tmp_path, name):
    scan = folders.scan(make(tmp_path / "UCMD", {"forest": ["1.tif"], "harbor": ["2.tif", "3.tif"]}), name)
    assert scan.dataset.name == "UCMD: 2 of 21 classes"
    assert scan.dataset.class_names == ("forest", "harbor")
    assert scan.labels.tolist() == [0, 1, 1]
    assert scan.dataset.published == ()


def test_other_classes_in_a_folder_of_that_name_do_not_join_its_results(tmp_path):
    scan = folders.scan(make(tmp_path / "UCMD", {"forest": ["1.tif"], "glacier": ["2.tif"]}))
    assert scan.dataset.name == "UCMD: other classes"


def test_published_results_have_a_source():
    results = [result for dataset in datasets.known().values() for result in dataset.published]
    assert results
    for result in results:
        assert result.source
        assert 0 < result.value < 1
    ours = {(result.bits, result.value) for result in datasets.known()["UCMD"].published if result.method == "MHCLN"}
    assert ours == {(32, 0.904)}  # the one number of the paper's table that could be verified


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.pop("classes"),
        lambda content: content.update(classes=3),
        lambda content: content.update(iterations="many"),
        lambda content: content["classes"].append(content["classes"][0]),
        lambda content: content.update(published=[{}]),
        lambda content: content.update(name=5),
    ],
)
def test_a_damaged_description_is_refused(tmp_path, damage):
    content = json.loads((datasets.REPO_ROOT / "UCMD" / "dataset.json").read_text(encoding="utf-8"))
    damage(content)
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"dataset\.json"):
        datasets.read_dataset(tmp_path / "dataset.json")


def test_images_without_classes_are_found_anywhere(tmp_path):
    root = make(tmp_path, {".": ["z.png", "notes.txt"], "2020/june": ["b.tif", "a.tif"], ".hidden": ["x.tif"]})
    scan = folders.scan_unlabelled(root)
    assert scan.paths == ["z.png", "2020/june/a.tif", "2020/june/b.tif"]
    assert scan.labels.tolist() == [-1, -1, -1]
    assert scan.dataset.class_names == ()
    assert scan.notes == ["2 entries are not images: .hidden, notes.txt"]
    with pytest.raises(UserError, match="holds no images"):
        folders.scan_unlabelled(make(tmp_path / "empty", {"folder": []}))
