"""What a query is searched in: additions, what is refused among them, and a million of them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from factories import write_old_addition

from mhcln.console import UserError
from mhcln.hamming import codes as hamming
from mhcln.hamming.ordered import OrderedIndex, Point, lay_out
from mhcln.storage import formats, layout
from mhcln.storage.archive import addition_name, load_archive
from mhcln.storage.files import PART
from mhcln.storage.formats import Addition, Codes
from mhcln.storage.run_record import Outcome, RunInputs, TrainConfig
from mhcln.storage.runs import Run

CODES = Codes(
    codes=np.array([[1 << 4], [2 << 4], [3 << 4]], np.uint8),
    bits=4,
    labels=np.array([0, 1, 1]),
    paths=["a/1.tif", "b/1.tif", "b/2.tif"],
    split=["train", "test", "train"],
    class_names=["a", "b"],
)
ADDITION = Addition(
    codes=np.array([[4 << 4], [5 << 4]], np.uint8),
    bits=4,
    labels=np.array([1, 0]),
    paths=["a/1.tif", "c/ü.tif"],
    class_names=["c", "b"],
    images_dir="/added",
    extractor="backbone",
    model_sha256="00",
)


def run_in(folder: Path, codes: Codes = CODES) -> Run:
    (folder / layout.ARCHIVES).mkdir()
    inputs = RunInputs(images_dir="/images", extractor="backbone")
    return Run(folder, codes, "", inputs, TrainConfig(bits=4), Outcome(1.0, "CPU", "2.21", files={"model.keras": "00"}))


def load(run: Run, which: str, images_dir: Path | None = None):
    return load_archive(run, which, run.codes.class_names, images_dir)


def add(run: Run, name: str, **change: object) -> Path:
    path = run.folder / layout.ARCHIVES / name
    write_old_addition(path, dataclasses.replace(ADDITION, **change))
    return path


def test_images_of_several_parts_keep_their_class_and_place(tmp_path):
    run = run_in(tmp_path)
    add(run, "x.npz")
    add(run, "w.npz", codes=ADDITION.codes[:0], labels=np.array([], int), paths=np.array([], "U1"))
    unlabelled, none = np.array([-1]), np.array([], "U1")
    add(
        run,
        "y.npz",
        codes=ADDITION.codes[:1],
        labels=unlabelled,
        paths=np.array(["d.tif"]),
        class_names=none,
    )
    found = load(run, "all")
    assert [found.file_of(row).as_posix() for row in range(len(found))] == [
        *("/images/a/1.tif", "/images/b/1.tif", "/images/b/2.tif"),
        *("/added/a/1.tif", "/added/c/ü.tif"),
        "/added/d.tif",
    ]
    assert [found.class_of(row) for row in range(len(found))] == ["a", "b", "b", "b", "c", ""]
    assert [code >> 4 for part in found.parts for code in part.codes.ravel()] == [1, 2, 3, 4, 5, 4]
    labels, names = found.classes()
    assert (labels.tolist(), names) == ([0, 1, 1, 1, 2, -1], ["a", "b", "c"])
    assert (found.rows_of("a/1.tif"), found.rows_of("d.tif"), found.rows_of("d")) == ([0, 3], [5], [])
    moved = load(run, "test", Path("/elsewhere"))
    assert [moved.file_of(row).as_posix() for row in range(len(moved))] == ["/elsewhere/b/1.tif"]


def test_an_addition_replaces_only_one_of_the_same_images():
    assert addition_name("new", {}, "/added") == "new"
    assert addition_name("new", {"new": "/added"}, "/added") == "new"
    assert addition_name("new", {"new": "/added"}, "/february") == "new_2"
    assert addition_name("new", {"new": "/added", "new_2": "/february"}, "/february") == "new_2"
    assert addition_name("new", {"new": "/added", "new_2": "/february"}, "/march") == "new_3"
    # a damaged one, which every query refuses, and advises to add again
    assert addition_name("new", {"new": "/added", "new_2": None}, "/march") == "new_2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 8}, "holds codes of 8 bits, those of .* have 4; .* add its images again with eval.py --add"),
        ({"extractor": "other"}, "holds codes of features of 'other', .* was trained on 'backbone'; remove it"),
        ({"model_sha256": "01"}, "holds codes of another model than that of .*; remove it"),
        ({"paths": np.array(["a/1.tif", "a/1.tif"])}, "a path stands twice.*eval.py --add"),
        ({"paths": np.array([0x110000, 65], np.uint32).view("U1")}, "paths is not text.*eval.py --add"),
        ({"paths": np.array("a")}, "paths is not"),
        ({"activations": np.zeros((2, 5), np.float32)}, "activations are .2, 5., not .2, 4."),
        ({"activations": np.full((2, 4), np.nan, np.float32)}, "activations lie outside 0 to 1"),
        ({"activations": np.zeros((2, 4), np.int32)}, "activations are not float32"),
    ],
)
def test_additions_that_do_not_belong_are_refused(tmp_path, change, message):
    run = run_in(tmp_path)
    path = add(run, "x.npz", **change)
    with pytest.raises(UserError, match=f"{path}.*{message}"):
        load(run, "all")
    assert len(load(run, "train")) == 2  # in which no addition is searched


def test_a_damaged_addition_is_reported_and_a_added_written_one_is_ignored(tmp_path):
    run = run_in(tmp_path)
    path = add(run, "x.npz")
    path.rename(path.with_name(PART + "x.npz")).write_bytes(b"PK")
    assert len(load(run, "all")) == 3
    path.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"x\.npz is damaged .*eval\.py --add"):
        load(run, "all")


def test_an_empty_archive_is_refused(tmp_path):
    run = run_in(tmp_path, dataclasses.replace(CODES, split=["train"] * 3))
    with pytest.raises(UserError, match=f"{tmp_path} has no images in --archive=test; choose another --archive"):
        load(run, "test")
    none = {"codes": CODES.codes[:0], "labels": CODES.labels[:0], "paths": [], "split": []}
    run = dataclasses.replace(run, codes=dataclasses.replace(CODES, **none))
    with pytest.raises(UserError, match=r"has no images in --archive=all; add images with eval\.py --add"):
        load(run, "all")
    add(run, "x.npz")
    assert len(load(run, "all")) == 2


def test_a_million_codes_are_read_and_searched(tmp_path):
    run, n = run_in(tmp_path), 1_000_000
    rng = np.random.default_rng(0)
    bits = rng.random((300, 32)) < 0.5
    codes = hamming.pack(bits[rng.integers(300, size=n)] ^ (rng.random((n, 32), np.float32) < 0.01))
    paths = [f"tile_{row // 1000:04}/scene_{row:06}.jpg" for row in range(n)]
    few = dataclasses.replace(CODES, bits=32, codes=codes[:3])
    addition = {"codes": codes, "bits": 32, "labels": np.full(n, -1), "class_names": np.array([], "U1")}
    add(run, "x.npz", **addition, paths=paths)
    found = load(dataclasses.replace(run, codes=few), "all")
    index = OrderedIndex([lay_out(part.codes, None) for part in found.parts])
    nearest = index.search(Point(codes[-1], None), 5)
    assert (nearest.distances[0], found.path_of(n + 2), found.rows_of(paths[-1])) == (0, paths[-1], [n + 2])
    add(run, "x.npz", **addition, paths=[*paths[:-1], paths[5]])
    with pytest.raises(UserError, match="a path stands twice"):
        load(dataclasses.replace(run, codes=few), "all")


def test_activations_are_those_of_the_run_and_of_the_additions_that_have_them(tmp_path):
    run = run_in(tmp_path)
    assert [part.activations for part in load(run, "all").parts] == [None]
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    formats.write_activations(tmp_path, formats.Activations(values, CODES.paths[::-1]))
    added = values[:2].astype(np.float32)
    add(run, "old.npz")
    add(run, "new.npz", activations=added)
    own, new, old = (part.activations for part in load(run, "all").parts)
    np.testing.assert_array_equal(own, values[::-1])
    np.testing.assert_array_equal(new, added)
    assert old is None
    np.testing.assert_array_equal(load(run, "test").parts[0].activations, values[1:2])
