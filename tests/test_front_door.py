"""`import mhcln`: what a notebook gets, and that it agrees with the scripts."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import REPO_ROOT
from factories import separable_features

import mhcln
from mhcln.storage import runs
from mhcln.storage.split import read_split

CODE = """
import sys
import mhcln
assert "numpy" not in sys.modules
for name in mhcln.__all__:
    getattr(mhcln, name)
assert dir(mhcln) == sorted({*dir(mhcln), *mhcln.__all__})
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
"""


def test_names_are_loaded_when_touched_and_tensorflow_is_not():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=REPO_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'tensorflow'"):
        _ = mhcln.tensorflow


def test_a_notebook_trains_what_the_scripts_train(pipeline):
    """The same features, split and configuration give the same codes in memory as in the run folder."""
    dump = pipeline / "dump"
    features, split = mhcln.read_features(dump), read_split(dump / "split.npz")
    run = runs.read_run(dump / "K12")
    hasher = mhcln.fit(features, split, run.config)
    codes = hasher.encode_split(features, split)
    assert (codes.paths, codes.split, codes.bits) == (run.codes.paths, run.codes.split, hasher.bits)
    np.testing.assert_array_equal(codes.codes, run.codes.codes)
    evaluation = mhcln.evaluate(codes, k=5)
    assert evaluation.metrics["mAP@5"] == mhcln.evaluate(run.codes, k=5).metrics["mAP@5"]


def test_a_hasher_encodes_features_and_images(pipeline):
    dump = pipeline / "dump"
    hasher = mhcln.Hasher.load(dump / "K12")
    features, stored = mhcln.read_features(dump), runs.read_run(dump / "K12").codes
    np.testing.assert_array_equal(hasher.encode(features.vectors), stored.codes)
    files = [pipeline / "images" / path for path in features.images.paths[:5]]
    np.testing.assert_array_equal(hasher.encode_images(files), stored.codes[:5])
    rows, distances, _ = mhcln.Index(stored.codes).search(hasher.encode_images(files[:1]), k=3)
    assert distances[0, 0] == 0
    assert (stored.codes[rows[0, 0]] == stored.codes[0]).all()
    assert mhcln.unpack(stored.codes, 12).shape == (40, 12)
    np.testing.assert_array_equal(mhcln.pack(mhcln.unpack(stored.codes, 12)), stored.codes)


def test_mistakes_of_a_notebook_are_user_errors(pipeline, tmp_path):
    hasher = mhcln.Hasher.load(pipeline / "dump" / "K12")
    with pytest.raises(mhcln.UserError, match="features of width 3, the model takes 12"):
        hasher.encode(np.zeros((1, 3), np.float32))
    (tmp_path / "photo.jpg").write_text("not a photo")
    with pytest.raises(mhcln.UserError, match=r"photo\.jpg: not a readable image"):
        hasher.encode_images([tmp_path / "photo.jpg"])
    features = separable_features()
    split = mhcln.stratified_split(features.images.paths[:-1], features.images.labels[:-1], ratio=0.6, seed=0)
    with pytest.raises(mhcln.UserError, match="leaves 1 images out"):
        mhcln.fit(features, split, mhcln.TrainConfig(iterations=1))
    split = mhcln.stratified_split(features.images.paths, features.images.labels, ratio=0.6, seed=0)
    with pytest.raises(mhcln.UserError, match="loss='softmax' is not one of mhcln, semihard, orthohash"):
        mhcln.fit(features, split, mhcln.TrainConfig(loss="softmax"))
    with pytest.raises(mhcln.UserError, match=r"features\.npz is missing"):
        mhcln.read_features(tmp_path)


def test_validation_in_memory_keeps_the_best_network():
    features = separable_features()
    split = mhcln.stratified_split(features.images.paths, features.images.labels, ratio=0.6, seed=0)
    config = mhcln.TrainConfig(bits=8, loss="orthohash", batch_size=12, iterations=200, validate=0.3)
    first, again = (mhcln.fit(features, split, config).encode(features.vectors) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_no_image_has_no_code_and_an_unknown_archive_is_refused(pipeline):
    hasher = mhcln.Hasher.load(pipeline / "dump" / "K12")
    assert hasher.encode_images([]).shape == (0, 2)
    assert hasher.encode(np.empty((0, 12), np.float32)).shape == (0, 2)
    with pytest.raises(mhcln.UserError, match="archive='tests' is not one of test, train, all"):
        mhcln.evaluate(runs.read_run(pipeline / "dump" / "K12").codes, archive="tests", k=5)
