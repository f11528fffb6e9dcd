"""What the files of the dump folder hold, and what is refused."""

import dataclasses

import numpy as np
import pytest

from mhcln import artifacts
from mhcln.artifacts import Codes, Features, Split
from mhcln.errors import UserError
from mhcln.files import read_npz, write_npz

FEATURES = Features(
    features=np.arange(12, dtype=np.float32).reshape(3, 4),
    labels=np.array([0, 0, 1], np.int32),
    paths=["a/1.tif", "a/2.tif", "b/ü.tif"],
    class_names=["a", "b"],
    dataset="mine",
    images_dir="/images",
    extractor="test; sha256=00",
    skipped=2,
)
CODES = Codes(
    codes=np.packbits([[1, 0, 1], [0, 0, 0], [1, 1, 1]], axis=1),
    bits=3,
    labels=np.array([0, 0, 1], np.int32),
    paths=["a/1.tif", "a/2.tif", "b/1.tif"],
    split=["train", "test", "test"],
    class_names=["a", "b"],
)
SPLIT = Split(["a/1.tif"], ["a/2.tif"], 0.5, 3, "stratified")


def same(first: object, second: object) -> bool:
    one, two = vars(first), vars(second)
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_files_come_back_as_they_were(tmp_path):
    artifacts.write_features(tmp_path, FEATURES)
    artifacts.write_codes(tmp_path, CODES)
    artifacts.write_split(tmp_path / "split.npz", SPLIT)
    assert same(artifacts.read_features(tmp_path), FEATURES)
    assert same(artifacts.read_codes(tmp_path), CODES)
    assert artifacts.read_split(tmp_path / "split.npz") == SPLIT


def test_vectors_can_stay_in_the_file(tmp_path):
    artifacts.write_features(tmp_path, FEATURES)
    content = artifacts.read_features(tmp_path, vectors=False)
    assert content.features is None
    assert content.paths == FEATURES.paths


def test_codes_unpack_as_the_contract_says(tmp_path):
    artifacts.write_codes(tmp_path, CODES)
    arrays = read_npz(tmp_path / "codes.npz", "")
    assert np.unpackbits(arrays["codes"], axis=1)[:, :3].tolist() == [[1, 0, 1], [0, 0, 0], [1, 1, 1]]
    assert set(arrays) == {"codes", "bits", "labels", "paths", "split", "class_names", "format"}


def test_files_without_later_arrays_are_read(tmp_path):
    arrays = {**vars(FEATURES), "format": 1}
    del arrays["skipped"]
    write_npz(tmp_path / "features.npz", arrays)
    assert artifacts.read_features(tmp_path).skipped == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros((2, 4), np.float32)}, "rows and paths differ"),
        ({"features": np.zeros((3, 4))}, "not float32"),
        ({"features": np.full((3, 4), np.nan, np.float32)}, "features of 3 images are not finite, first a/1.tif"),
        ({"labels": np.array([0, 0, 2])}, "outside the 2 classes"),
        ({"labels": np.array([0, -1, 1])}, "outside the 2 classes"),
        ({"labels": np.array([0, 1])}, "labels and paths differ"),
        ({"labels": np.array([0.0, 1.0, 1.0])}, "labels and paths differ"),
        ({"paths": ["a", "a", "b"]}, "stands twice"),
        ({"paths": np.arange(3)}, "paths is not"),
        ({"dataset": 3}, "dataset is not"),
    ],
)
def test_features_that_cannot_be_are_refused(tmp_path, change, message):
    write_npz(tmp_path / "features.npz", {**vars(FEATURES), "format": 1, **change})
    with pytest.raises(UserError, match=rf"features\.npz.*{message}.*extract_features\.py"):
        artifacts.read_features(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 9}, r"codes are \(3, 1\), not \(3, 2\)"),
        ({"bits": 2}, "bits beyond the 2"),
        ({"bits": 0}, "bits is 0"),
        ({"codes": CODES.codes.astype(np.int64)}, "not uint8"),
        ({"split": ["train", "test"]}, "split and paths differ"),
        ({"split": ["train", "test", "val"]}, "more than"),
    ],
)
def test_codes_that_cannot_be_are_refused(tmp_path, change, message):
    artifacts.write_codes(tmp_path, dataclasses.replace(CODES, **change))
    with pytest.raises(UserError, match=rf"codes\.npz.*{message}.*trainer\.py"):
        artifacts.read_codes(tmp_path)


def test_another_format_and_a_missing_array_are_told(tmp_path):
    write_npz(tmp_path / "features.npz", {**vars(FEATURES), "format": 2})
    with pytest.raises(UserError, match="of another format than 1"):
        artifacts.read_features(tmp_path)
    write_npz(tmp_path / "features.npz", {"features": FEATURES.features, "format": 1})
    with pytest.raises(UserError, match="has no array 'labels'"):
        artifacts.read_features(tmp_path)


def test_json_files_carry_their_format(tmp_path):
    artifacts.write_results(tmp_path, {"mAP@20": 0.5})
    assert artifacts.read_results(tmp_path) == {"mAP@20": 0.5}
    artifacts.write_run(tmp_path, {"bits": 32})
    assert artifacts.read_run(tmp_path) == {"bits": 32}
    with pytest.raises(UserError, match=r"run\.json is missing; make it with trainer\.py"):
        artifacts.read_run(tmp_path / "other")


def test_run_folders_are_those_with_codes(tmp_path):
    for name in ("K32", "K16"):
        (tmp_path / name).mkdir()
        artifacts.write_codes(tmp_path / name, CODES)
    (tmp_path / "K8").mkdir()
    assert [folder.name for folder in artifacts.run_folders(tmp_path)] == ["K16", "K32"]
