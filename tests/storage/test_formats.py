"""What the files of the dump folder hold, and what is refused."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from factories import record, results

from mhcln.console import UserError
from mhcln.storage import formats, layout, runs, source
from mhcln.storage.checkpoints import Checkpoint, Progress
from mhcln.storage.features import read_features, read_image_table, write_features
from mhcln.storage.features_file import Features, ImageTable
from mhcln.storage.files import read_npz, sha256_of, write_npz
from mhcln.storage.formats import Codes, Split
from mhcln.storage.results import read_results
from mhcln.storage.run_record import RunRecord, TrainConfig
from mhcln.storage.text_files import write_json

IMAGES = ImageTable(
    labels=np.array([0, 0, 1], np.int32),
    paths=["a/1.tif", "a/2.tif", "b/ü.tif"],
    class_names=["a", "b"],
    dataset="mine",
    images_dir="/images",
    extractor="test; sha256=00",
    skipped=2,
)
FEATURES = Features(np.arange(12, dtype=np.float32).reshape(3, 4), IMAGES)
ARRAYS = {"features": FEATURES.vectors, **vars(IMAGES), "format": 1}
CODES = Codes(
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
    formats.write_codes(tmp_path, CODES)
    formats.write_split(tmp_path / "split.npz", SPLIT)
    features = read_features(tmp_path)
    np.testing.assert_array_equal(features.vectors, FEATURES.vectors)
    assert same(features.images, IMAGES)
    assert same(formats.read_codes(tmp_path), CODES)
    assert formats.read_split(tmp_path / "split.npz") == SPLIT


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
    np.savez(tmp_path / "mine.npz", **{**whole, "paths": np.array(IMAGES.paths, object)})
    with pytest.raises(UserError, match=r"Python objects, not plain numbers or text such as numpy.array\(names, str\)"):
        read_features(tmp_path / "mine.npz")


def test_vectors_can_stay_in_the_file(tmp_path):
    write_features(tmp_path, FEATURES)
    assert same(read_image_table(tmp_path), IMAGES)


def test_codes_unpack_as_the_contract_says(tmp_path):
    formats.write_codes(tmp_path, CODES)
    arrays = read_npz(tmp_path / "codes.npz", "")
    assert np.unpackbits(arrays["codes"], axis=1)[:, :3].tolist() == [[1, 0, 1], [0, 0, 0], [1, 1, 1]]
    assert set(arrays) == {"codes", "bits", "labels", "paths", "split", "class_names", "format"}


def test_files_without_later_arrays_are_read(tmp_path):
    arrays = dict(ARRAYS)
    del arrays["skipped"]
    write_npz(tmp_path / "features.npz", arrays)
    assert read_features(tmp_path).images.skipped == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros((2, 4), np.float32)}, "rows and paths differ"),
        ({"features": np.zeros((3, 4), np.int8)}, "not float32, but int8"),
        ({"features": np.full((3, 4), 1e39)}, "features are beyond float32"),
        (
            {"features": np.full((3, 4), np.inf, np.float16)},
            "features of 3 images are not finite, first a/1.tif, row 0",
        ),
        ({"features": np.zeros(3, np.float32)}, r"features are \(3,\), not \[n, d\]"),
        ({"features": np.zeros((3, 0), np.float32)}, r"features are \(3, 0\), not \[n, d\]"),
        ({"features": np.zeros((3, 4), ">f4")}, "not float32"),
        ({"features": np.full((3, 4), np.nan, np.float32)}, "features of 3 images are not finite, first a/1.tif"),
        ({"labels": np.array([0, 0, 2])}, "outside the 2 classes"),
        ({"labels": np.array([0, -1, 1])}, "outside the 2 classes"),
        ({"labels": np.array([0, 1])}, "labels and paths differ"),
        ({"labels": np.array([0.0, 1.0, 1.0])}, "labels are not int32, but float64"),
        ({"labels": np.array([0, 1, 1 << 40])}, "labels are beyond int32"),
        ({"labels": np.array([0.0, 1.0, 1.0])}, r"float64; labels.astype\('int32'\) is a number for each image"),
        ({"labels": np.array([0, 0.5, 1])}, "float64, fractions"),
        ({"labels": np.array([True, False, True])}, r"bool; labels.astype\('int32'\) is"),
        ({"labels": np.array([[1, 0], [1, 0], [0, 1]])}, r"\(3, 2\), one-hot; labels.argmax\(1\) is a number for each"),
        ({"labels": np.array([[1.0, 0], [1, 0], [0, 1]])}, r"float64 \(3, 2\), one-hot"),
        ({"labels": np.eye(3, dtype=bool)}, r"bool \(3, 3\), one-hot"),
        ({"labels": np.array([[1, 1], [1, 0], [0, 0]])}, "multi-hot of up to 2 classes an image; choose one for each"),
        ({"labels": np.array([[0], [0], [1]])}, r"\(3, 1\), a column; labels\[:, 0\] is"),
        ({"labels": np.array([[0.9, 0.1], [0.4, 0.6], [0, 1]])}, r"argmax\(1\) of scores"),
        ({"labels": np.array(["a", "a", "b"])}, "class_names, labels = numpy.unique"),
        ({"labels": np.int64(1)}, r"\(\); give one number for each image"),
        ({"paths": ["a", "a", "b"]}, "stands twice"),
        ({"paths": np.arange(3)}, "paths is not"),
        ({"dataset": 3}, "dataset is not"),
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
        ({"split": ["train", "test", "val"]}, "more than"),
    ],
)
def test_codes_that_cannot_be_are_refused(tmp_path, change, message):
    formats.write_codes(tmp_path, dataclasses.replace(CODES, **change))
    with pytest.raises(UserError, match=rf"codes\.npz.*{message}.*trainer\.py"):
        formats.read_codes(tmp_path)


def test_another_format_and_a_missing_array_are_reported(tmp_path):
    write_npz(tmp_path / "features.npz", {**ARRAYS, "format": 2})
    with pytest.raises(UserError, match="of another format than 1"):
        read_features(tmp_path)
    write_npz(tmp_path / "features.npz", {"features": FEATURES.vectors, "format": 1})
    with pytest.raises(UserError, match="has no array 'labels'"):
        read_features(tmp_path)


def test_records_of_runs_come_back_as_they_were(tmp_path):
    config = TrainConfig(bits=12, loss="orthohash", validate=0.25, patience=3)
    for done in (False, True):
        written = record(config, done, {"codes.npz": "00"}, images_dir="/images", split_ratio=0.6)
        runs.write_record(tmp_path, written)
        assert runs.read_record(tmp_path) == written
        assert source.read_json_content(tmp_path / layout.RUN, "")["done"] is done
    with pytest.raises(UserError, match=r"run\.json is missing; make it with trainer\.py"):
        runs.read_record(tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": "32"}, "bits is 32"),
        ({"alpha": True}, "alpha is True"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"files": {"codes.npz": 1}}, "files is"),
        ({"dataset": 3}, "dataset is 3"),
        ({"loss": None}, "loss is None"),
    ],
)
def test_records_with_other_values_are_refused(tmp_path, change, message):
    content = {**record(TrainConfig()).to_json(), **change, "format": 1}
    write_json(tmp_path / layout.RUN, content)
    with pytest.raises(UserError, match=rf"run\.json: {message}.*trainer\.py"):
        runs.read_record(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": 3}, "dataset is 3"),
        ({"k": "20"}, "k is 20"),
        ({"mAP@20": "0.9"}, "a metric is "),
        ({"precision_by_radius": 0.5}, "precision_by_radius is 0.5"),
        ({"recall_by_radius": [0.5, "x"]}, "recall_by_radius is "),
        ({"per_class": {"a": None}}, "per_class is "),
        ({"confused_pairs": {"query": "a"}}, "confused_pairs is "),
        ({"confused_pairs": [{"query": "a", "found": 1, "share": 0.5}]}, "found is 1"),
        ({"costs": [["codes"]]}, "costs is "),
        ({"costs": [{"what": "codes", "stored": "2 bits", "bytes_per_image": 0.5}]}, "bytes_per_image is 0.5"),
    ],
)
def test_results_with_other_values_name_the_command_that_makes_them(tmp_path, change, message):
    write_json(tmp_path / layout.RESULTS, {**results().to_json(), **change, "format": 1})
    with pytest.raises(UserError, match=rf"results\.json: {message}.*; make it again with eval\.py"):
        read_results(tmp_path)


def test_results_that_lack_something_are_refused(tmp_path):
    for name, message in (("k", "'k'"), ("costs", "'stored'")):
        content = {**results().to_json(), "format": 1}
        if name == "costs":
            content["costs"] = [{"what": "codes", "bytes_per_image": 1}]
        else:
            del content[name]
        write_json(tmp_path / layout.RESULTS, content)
        with pytest.raises(UserError, match=rf"results\.json does not say {message}; make it again with eval\.py"):
            read_results(tmp_path)


def test_a_record_that_lacks_a_setting_is_refused(tmp_path):
    content = record(TrainConfig()).to_json()
    del content["alpha"]
    write_json(tmp_path / layout.RUN, {**content, "format": 1})
    with pytest.raises(UserError, match="does not say 'alpha'"):
        runs.read_record(tmp_path)


def test_identity_depends_on_the_configuration_and_not_on_places():
    one = record(TrainConfig(), images_dir="/a", split_file="split.npz", split_seed=1)
    assert one.identity() == record(TrainConfig(), False, images_dir="/b", split_file="s.npz", split_seed=1).identity()
    assert one.identity() != record(TrainConfig(alpha=0.3), split_seed=1).identity()
    assert one.identity() != record(TrainConfig(), split_seed=2).identity()
    assert isinstance(one, RunRecord)


def test_checkpoints_of_versions_that_drew_other_batches_are_refused(tmp_path, monkeypatch):
    unfinished = record(TrainConfig(), done=False)
    # versions before the draws had a name carried a digest of the configuration alone
    before = hashlib.sha256(json.dumps(unfinished.configuration(), sort_keys=True).encode()).hexdigest()
    Checkpoint(tmp_path, before).save({}, Progress())
    with pytest.raises(UserError, match="belongs to another configuration"):
        Checkpoint(tmp_path, unfinished.identity()).load()
    Checkpoint(tmp_path, unfinished.identity()).save({}, Progress())
    monkeypatch.setattr("mhcln.storage.run_record.DRAWS", "other draws")
    with pytest.raises(UserError, match="belongs to another configuration"):
        Checkpoint(tmp_path, unfinished.identity()).load()
    runs.write_record(tmp_path, record(TrainConfig()))  # what is finished does not continue
    assert runs.find_finished(tmp_path, unfinished)


def test_run_folders_are_those_with_codes(tmp_path):
    for name in ("K32", "K16"):
        (tmp_path / name).mkdir()
        formats.write_codes(tmp_path / name, CODES)
    (tmp_path / "K8").mkdir()
    assert [folder.name for folder in layout.run_folders(tmp_path)] == ["K16", "K32"]


def test_a_seed_finds_its_split(tmp_path):
    formats.write_split(tmp_path / "split.npz", SPLIT)
    assert formats.split_for_seed(tmp_path, 5) == (tmp_path / "split.npz", SPLIT, sha256_of(tmp_path / "split.npz"))
    formats.write_split(layout.split_path(tmp_path, 1), SPLIT)
    assert formats.split_for_seed(tmp_path, 1)[0].name == "split_seed1.npz"
    with pytest.raises(UserError, match=r"splits for other seeds \(split_seed1\), not for 5"):
        formats.split_for_seed(tmp_path, 5)


def test_runs_have_usual_names():
    assert layout.run_name(32, "orthohash", None) == "K32_orthohash"
    assert layout.run_name(16, "orthohash", 3) == "K16_orthohash_seed3"
    assert layout.run_name(16, "mhcln", None) == "K16"
