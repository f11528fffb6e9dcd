"""dataset_generator.py as a user runs it."""

import pickle

import numpy as np
import pytest
from factories import image_table

from mhcln.console import UserError
from mhcln.data.splits import split_from_folders
from mhcln.storage import formats
from mhcln.storage.formats import Features

SCRIPT = "dataset_generator.py"


@pytest.fixture
def dump_dir(tmp_path):
    paths = [f"{name}/{i}.tif" for name in ("a", "b", "c") for i in range(10)]
    labels = np.repeat(np.arange(3), 10).astype(np.int32)
    table = image_table(paths, labels, ["a", "b", "c"], skipped=1)
    formats.write_features(tmp_path, Features(np.zeros((30, 4), np.float32), table))
    return tmp_path


def test_the_published_command_makes_a_split(dump_dir, run_script):
    result = run_script(SCRIPT, "--train_test_split=0.6", cwd=dump_dir.parent)
    assert result.returncode == 2  # dump_dir/ is looked for in the current folder
    result = run_script(SCRIPT, "--train_test_split=0.6", f"--dump_dir={dump_dir}")
    assert result.returncode == 0, result.stderr
    assert "18 training and 12 test images of 3 classes" in result.stdout
    assert "lacks 1 images that could not be read" in result.stderr
    split = formats.read_split(dump_dir / "split.npz")
    assert (split.train_test_split, split.seed, split.rule) == (0.6, 0, "stratified")


def test_several_seeds_make_several_splits_and_one_seed_removes_them(dump_dir, run_script):
    assert run_script(SCRIPT, "--seed=3,4", "--dump_dir", dump_dir).returncode == 0
    names = {path.name for path in dump_dir.glob("split*")}
    assert names == {"split.npz", "split_seed3.npz", "split_seed4.npz"}
    assert formats.read_split(dump_dir / "split.npz") == formats.read_split(dump_dir / "split_seed3.npz")
    result = run_script(SCRIPT, "--dump_dir", dump_dir)
    assert "split_seed3.npz belongs to an earlier set of splits and is removed" in result.stderr
    assert {path.name for path in dump_dir.glob("split*")} == {"split.npz"}


def test_the_published_aid_rule_warns(dump_dir, run_script):
    result = run_script(SCRIPT, "--rule=published-aid", "--dump_dir", dump_dir)
    split = formats.read_split(dump_dir / "split.npz")
    shared = len(set(split.train_paths) & set(split.test_paths))
    assert f"{shared} of 12 test images are trained on" in result.stderr
    assert split.rule == "published-aid"


def test_a_published_pickle_becomes_features(dump_dir, run_script, users_mistake):
    rows = [[np.full(4, i, np.float32), i % 2, f"/x/{'ab'[i % 2]}/{i}.jpg"] for i in range(8)]
    pickled = dump_dir / "features.pkl"
    pickled.write_bytes(pickle.dumps(rows, 2))
    users_mistake(run_script(SCRIPT, "--features", pickled, "--dump_dir", dump_dir), "has other features already")
    for _ in range(2):
        result = run_script(SCRIPT, "--features", pickled, "--dump_dir", dump_dir / "new")
        assert result.returncode == 0, result.stderr
    features = formats.read_features(dump_dir / "new")
    assert features.vectors[:, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert formats.read_split(dump_dir / "new" / "split.npz").train_test_split == 0.6


def test_the_folders_train_and_test_are_a_split(tmp_path, run_script, users_mistake):
    paths = [f"{part}/{name}/{n}.jpg" for name in ("a", "b") for part in ("Train", "test") for n in range(2)]
    labels = np.repeat([0, 1], 4)
    formats.write_features(tmp_path, Features(np.zeros((8, 4), np.float32), image_table(paths, labels, ["a", "b"])))
    done = run_script(SCRIPT, "--dump_dir", tmp_path, "--rule=folders")
    assert done.returncode == 0, done.stderr
    split = formats.read_split(tmp_path / "split.npz")
    assert split.train_paths == [path for path in paths if path.startswith("Train/")]
    assert split.test_paths == [path for path in paths if path.startswith("test/")]
    assert (split.rule, split.train_test_split) == ("folders", 0.5)
    users_mistake(run_script(SCRIPT, "--dump_dir", tmp_path, "--rule=folders", "--seed=1"), "--seed out")
    with pytest.raises(UserError, match="move val/ into one of them"):
        split_from_folders([*paths, "val/a/0.jpg"])


def test_a_split_of_folders_needs_the_folders(dump_dir, run_script, users_mistake):
    users_mistake(run_script(SCRIPT, "--dump_dir", dump_dir, "--rule=folders"), "train/ and test/")


def test_images_without_classes_are_split_at_random(tmp_path, run_script):
    paths = list("abcdefghij")
    formats.write_features(tmp_path, Features(np.zeros((10, 4), np.float32), image_table(paths, np.full(10, -1), [])))
    result = run_script(SCRIPT, "--dump_dir", tmp_path)
    assert "6 training and 4 test images of no classes, random, seed 0" in result.stdout
    split = formats.read_split(tmp_path / "split.npz")
    assert split.rule == "random"
    assert sorted(split.train_paths + split.test_paths) == paths


def test_lists_split_images_without_classes_whatever_labels_they_name(tmp_path, run_script):
    table = image_table(list("abcd"), np.full(4, -1), [])
    formats.write_features(tmp_path, Features(np.zeros((4, 4), np.float32), table))
    for name, lines in (("train", "a 0\nb 1"), ("test", "c 0\nd 1")):
        (tmp_path / f"{name}.txt").write_text(lines)
    result = run_script(SCRIPT, "--split_dir", tmp_path, "--dump_dir", tmp_path)
    assert result.returncode == 0, result.stderr


def test_mistakes_are_one_line(dump_dir, run_script, users_mistake):
    users_mistake(run_script(SCRIPT, "--dump_dir", dump_dir / "none"), "features.npz is missing", "extract_features.py")
    users_mistake(run_script(SCRIPT, "--dump_dir", dump_dir, "--train_test_split=60"), "not a number between 0 and 1")
    users_mistake(run_script(SCRIPT, "--dump_dir", dump_dir, "--seed=1,1"), "twice")
    users_mistake(run_script(SCRIPT, "--dump_dir", dump_dir, "--split_dir", dump_dir), "train.txt is missing")
    users_mistake(run_script(SCRIPT, "--dump_dir", dump_dir, "--split_dir=x", "--seed=1"), "brings its own split")
    assert not list(dump_dir.glob("split*"))
