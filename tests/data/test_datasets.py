"""Data sets are recognised by their class folders, and their descriptions are read or refused."""

import json
from pathlib import Path

import pytest

from mhcln.console import UserError
from mhcln.data import datasets

UCMD, AID = (datasets.known()[name] for name in ("UCMD", "AID"))
COUNTS = dict(zip(UCMD.folders, UCMD.images, strict=True))  # images of each class folder


@pytest.mark.parametrize(("known", "images", "classes"), [(UCMD, 2100, 21), (AID, 10_000, 30)])
def test_known_sets_are_recognised_by_their_folders(known, images, classes):
    counts = dict(zip(known.folders, known.images, strict=True))
    assert (sum(counts.values()), len(counts)) == (images, classes)
    assert datasets.recognise(Path("any"), counts) == (known, [])


def test_fewer_images_than_the_known_set_has_are_reported():
    found = datasets.recognise(Path("any"), {**COUNTS, "beach": 99, "forest": 0})
    assert found == (UCMD, ["2 classes have other image counts than UCMD: beach 99 of 100, forest 0 of 100"])


def test_a_known_set_with_another_folder_is_not_taken_for_it():
    dataset, notes = datasets.recognise(Path("any"), {**COUNTS, "glacier": 1})
    assert (dataset.name, len(dataset.class_names)) == ("any", 22)
    assert "--dataset=UCMD insists" in notes[0]
    with pytest.raises(UserError, match=r"UCMD does not have: glacier; move them away or leave --dataset out"):
        datasets.recognise(Path("any"), {**COUNTS, "glacier": 1}, "UCMD")


def test_the_users_own_classes_can_be_given_a_name():
    assert datasets.recognise(Path("UCMD"), COUNTS, "mine")[0].name == "mine"


@pytest.mark.parametrize("name", [None, "UCMD"], ids=["by its folder", "insisted on"])
def test_a_part_of_a_known_set_says_that_it_is_one(name):
    dataset, _ = datasets.recognise(Path("UCMD"), {"forest": 1, "harbor": 2}, name)
    assert dataset.name == "UCMD: 2 of 21 classes"
    assert (dataset.class_names, dataset.published) == (("forest", "harbor"), ())


def test_other_classes_in_a_folder_of_that_name_do_not_join_its_results():
    dataset, notes = datasets.recognise(Path("UCMD"), {"forest": 1, "glacier": 1, "empty": 0})
    assert (dataset.name, dataset.class_names) == ("UCMD: other classes", ("forest", "glacier"))
    assert notes == ["1 folders without images are not classes: empty"]


def test_load_gives_own_sets_their_classes():
    own = datasets.load("mine", ["a", "SeaIce", "b_c"])
    assert (own.class_names, own.iterations, own.published) == (("a", "SeaIce", "b_c"), 10_000, ())
    assert own.display_names == ("a", "Sea Ice", "b c")
    assert datasets.load("AID", AID.class_names).iterations == 25_000


def test_a_name_alone_makes_no_known_data_set():
    assert datasets.load("UCMD", ["forest", "harbor"]).published == ()
    assert datasets.display_names("UCMD", ["storagetanks", "other"]) == ["storagetanks", "other"]
    assert datasets.display_names("UCMD", UCMD.class_names) == list(UCMD.display_names)


def test_published_results_have_a_source():
    for result in (*UCMD.published, *AID.published):
        assert result.source
        assert 0 < result.value < 1
    ours = {(result.bits, result.value) for result in UCMD.published if result.method == "MHCLN"}
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
