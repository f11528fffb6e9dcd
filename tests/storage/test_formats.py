"""What the files of the dump folder hold, and what is refused."""

import dataclasses

import numpy as np
import pytest
from factories import coded, record, results

from mhcln.console import UserError
from mhcln.storage import layout, runs
from mhcln.storage.checkpoints import Checkpoint, Progress
from mhcln.storage.coded_images import read_codes, write_codes
from mhcln.storage.features import Features, read_features, write_features
from mhcln.storage.files import read_npz, write_npz
from mhcln.storage.image_table import ImageTable
from mhcln.storage.results import read_results, write_results
from mhcln.storage.run_record import TrainConfig
from mhcln.storage.split import Split, read_split, write_split
from mhcln.storage.text_files import read_json, write_json

IMAGES = ImageTable(
    labels=np.array([0, 0, 1], np.int32),
    paths=["a/1.tif", "a/2.tif", "b/ü.tif"],
    class_names=["a", "b"],
    dataset="mine",
    images_dir="/images",
    extractor="test; sha256=00",
    skipped=1,
    skipped_paths=["b/1.tif"],
    skipped_reasons=["empty file"],
)
FEATURES = Features(np.arange(12, dtype=np.float32).reshape(3, 4), IMAGES)
ARRAYS = {"features": FEATURES.vectors, **vars(IMAGES), "format": 1}
CODES = coded(
    codes=np.packbits([[1, 0, 1], [0, 0, 0], [1, 1, 1]], axis=1),
    bits=3,
    labels=np.array([0, 0, 1], np.int32),
    paths=["a/1.tif", "a/2.tif", "b/1.tif"],
    split=["train", "test", "test"],
    class_names=["a", "b"],
)
README_NAMES = ("labels", "paths", "class_names", "dataset", "images_dir", "extractor")  # of a file by hand
SPLIT = Split(["a/1.tif"], ["a/2.tif"], 0.5, 3, "stratified")


def same(first: object, second: object) -> bool:
    one, two = vars(first), vars(second)
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_files_come_back_as_they_were(tmp_path):
    write_features(tmp_path, FEATURES)
    write_codes(tmp_path, CODES)
    write_split(tmp_path / "split.npz", SPLIT)
    features = read_features(tmp_path)
    np.testing.assert_array_equal(features.vectors, FEATURES.vectors)
    assert same(features.images, IMAGES)
    assert same(read_codes(tmp_path), CODES)
    assert read_split(tmp_path / "split.npz") == SPLIT


@pytest.mark.parametrize("kind", ["u1", "i2", "i8", "u8"])
def test_labels_of_any_width_become_int32(tmp_path, kind):
    write_npz(tmp_path / "features.npz", {**ARRAYS, "labels": IMAGES.labels.astype(kind)})
    labels = read_features(tmp_path).images.labels
    assert (labels.dtype, labels.tolist()) == (np.int32, [0, 0, 1])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_what_numpy_wrote_by_hand_is_read(tmp_path, kind, save):
    vectors = np.random.default_rng(0).normal(size=(3, 768)).astype(kind)
    by_hand = {name: value for name, value in vars(IMAGES).items() if name in README_NAMES}
    save(tmp_path / "mine.npz", features=vectors, **{**by_hand, "labels": [0, 0, 1]}, format=1)
    features = read_features(tmp_path / "mine.npz")
    assert features.vectors.dtype == np.float32
    np.testing.assert_array_equal(features.vectors, vectors.astype(np.float32))
    assert (features.images.paths, features.images.labels.tolist()) == (IMAGES.paths, [0, 0, 1])
    save(tmp_path / "mine.npz", features=vectors, **{**by_hand, "labels": [-1, -1, -1], "class_names": []}, format=1)
    assert read_features(tmp_path / "mine.npz").images.class_names == []


def test_what_is_missing_of_a_file_by_hand_is_named(tmp_path):
    by_hand = {name: value for name, value in vars(IMAGES).items() if name in README_NAMES}
    whole = {"features": FEATURES.vectors, **by_hand, "format": 1}
    for name in whole:
        np.savez(tmp_path / "mine.npz", **{key: value for key, value in whole.items() if key != name})
        with pytest.raises(UserError, match=f"mine.npz has no array '{name}'; .* as mhcln/README.md says of features"):
            read_features(tmp_path / "mine.npz")


def test_codes_unpack_as_the_contract_says(tmp_path):
    write_codes(tmp_path, CODES)
    arrays = read_npz(tmp_path / "codes.npz", "")
    assert np.unpackbits(arrays["codes"], axis=1)[:, :3].tolist() == [[1, 0, 1], [0, 0, 0], [1, 1, 1]]
    assert set(arrays) == {"codes", "bits", "labels", "paths", "split", "class_names", "skipped", "format"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros((2, 4), np.float32)}, "rows and paths differ"),
        ({"features": np.zeros((3, 4), np.int8)}, "features are not float32, but int8"),
        ({"features": np.zeros((3, 4), ">f4")}, "features are not float32, but >f4"),
        ({"features": np.full((3, 4), 1e39)}, "features are beyond float32"),
        ({"features": np.full((3, 4), np.nan)}, "features of 3 images are not finite, first a/1.tif, row 0"),
        ({"features": np.zeros((3, 0), np.float32)}, r"features are \(3, 0\), not \[n, d\]"),
        ({"labels": np.array([0, -1, 1])}, "labels lie outside the 2 classes"),
        ({"labels": np.eye(3, 2, dtype=int)}, r"labels are \(3, 2\), not a class number for each of 3 images"),
        ({"labels": np.array([0.0, 1.0, 1.0])}, "labels are not int32, but float64"),
        ({"labels": np.array([0, 1, 1 << 40])}, "labels are beyond int32"),
        ({"paths": ["a", "a", "b"]}, "a path occurs twice"),
        ({"paths": np.arange(3)}, r"paths is not what it should be, but int64 \(3,\)"),
        ({"lonlat": np.zeros((2, 5, 2))}, r"lonlat is \(2, 5, 2\), not \(3, 5, 2\)"),
        ({"stamps": np.zeros((3, 2), np.int64)}, r"stamps are \(3, 2\), not \(3, 3\)"),
        ({"checksums": np.zeros(2, np.int64)}, r"checksums are \(2,\), not \(3,\)"),
        ({"skipped_paths": ["x", "y"]}, "skipped_paths and skipped_reasons differ in length"),
    ],
)
def test_features_that_cannot_be_are_refused(tmp_path, change, message):
    write_npz(tmp_path / "features.npz", {**ARRAYS, **change})
    with pytest.raises(UserError, match=rf"features\.npz.*{message}.*extract_features\.py"):
        read_features(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 9}, r"codes are \(3, 1\), not \(3, 2\)"),
        ({"bits": 2}, "bits beyond the 2"),
        ({"bits": 0}, "bits is 0"),
        ({"codes": CODES.codes.astype(np.int64)}, "not uint8"),
        ({"split": ["train", "test"]}, "split and paths differ"),
        ({"split": ["train", "test", "val"]}, r"more than test and train\)"),
        ({"split": ["train", "test", "val"], "database_paths": ["c"]}, r"more than database and test and train\)"),
    ],
)
def test_codes_that_cannot_be_are_refused(tmp_path, change, message):
    write_codes(tmp_path, dataclasses.replace(CODES, **change))
    with pytest.raises(UserError, match=rf"codes\.npz.*{message}.*trainer\.py"):
        read_codes(tmp_path)


def test_records_of_runs_and_results_come_back_as_they_were(tmp_path):
    config = TrainConfig(bits=12, loss="orthohash", validate=0.25, patience=3)
    for done in (False, True):
        written = record(config, done, {"codes.npz": "00"}, images_dir="/images", split_ratio=0.6)
        runs.write_record(tmp_path, written)
        assert runs.read_record(tmp_path) == written
        outcome = dataclasses.asdict(written.outcome) if done else None
        content = {"inputs": vars(written.inputs), "config": vars(config), "outcome": outcome, "format": 2}
        assert read_json(tmp_path / layout.RUN, "") == content
    with pytest.raises(UserError, match=r"run\.json is missing; make it with trainer\.py"):
        runs.read_record(tmp_path / "other")
    write_results(tmp_path, results())
    assert read_results(tmp_path) == results().to_json()


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("config", {"bits": "32"}, "bits is 32"),
        ("config", {"alpha": True}, "alpha is True"),
        ("config", {"seed": 1.5}, "seed is 1.5"),
        ("config", {"loss": None}, "loss is None"),
        ("inputs", {"dataset": 3}, "dataset is 3"),
        ("outcome", {"files": {"codes.npz": 1}}, "files is"),
        ("outcome", [], r"outcome is \[\]"),
        ("format", 1, "is of another format than 2"),
    ],
)
def test_records_with_other_values_are_refused(tmp_path, part, change, message):
    content = {**dataclasses.asdict(record(TrainConfig())), "format": 2}
    content[part] = {**content[part], **change} if isinstance(change, dict) else change
    write_json(tmp_path / layout.RUN, content)
    with pytest.raises(UserError, match=rf"run\.json:? {message}.* with trainer\.py once .* is deleted"):
        runs.read_record(tmp_path)


def test_a_record_may_lack_what_has_a_default_and_nothing_else(tmp_path):
    content = {**dataclasses.asdict(record(TrainConfig())), "format": 2}
    del content["config"]["patience"]
    write_json(tmp_path / layout.RUN, content)
    assert runs.read_record(tmp_path) == record(TrainConfig())
    del content["outcome"]["device"]
    write_json(tmp_path / layout.RUN, content)
    with pytest.raises(UserError, match=r"run\.json does not say 'device'"):
        runs.read_record(tmp_path)


def test_identity_depends_on_the_configuration_and_not_on_places():
    one = record(TrainConfig(), images_dir="/a", split_file="split.npz", split_seed=1)
    assert one.identity() == record(TrainConfig(), False, images_dir="/b", split_file="s.npz", split_seed=1).identity()
    assert one.identity() != record(TrainConfig(alpha=0.3), split_seed=1).identity()
    assert one.identity() != record(TrainConfig(), split_seed=2).identity()


def test_checkpoints_of_versions_that_drew_other_batches_are_refused(tmp_path, monkeypatch):
    unfinished = record(TrainConfig(), done=False)
    Checkpoint(tmp_path, unfinished.identity()).save({}, Progress())
    monkeypatch.setattr("mhcln.storage.run_record.DRAWS", "other draws")
    with pytest.raises(UserError, match="belongs to another configuration"):
        Checkpoint(tmp_path, unfinished.identity()).load()
    runs.write_record(tmp_path, record(TrainConfig()))  # what is finished does not continue
    assert runs.find_finished(tmp_path, unfinished)
