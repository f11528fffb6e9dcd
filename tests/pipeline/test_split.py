"""dataset_generator.py as a user runs it."""

import dataclasses
import pickle

import numpy as np
import pytest
from conftest import RecordingConsole
from factories import image_table, separable_features

import dataset_generator
import eval as evaluation_script
import trainer
from mhcln.console import UserError
from mhcln.data import splits
from mhcln.storage import formats, layout, runs
from mhcln.storage.features import read_features, read_image_table, write_features
from mhcln.storage.features_file import Features
from mhcln.storage.formats import Split
from mhcln.storage.results import read_results

SCRIPT = "dataset_generator.py"


@pytest.fixture
def dump_dir(tmp_path):
    paths = [f"{name}/{i}.tif" for name in ("a", "b", "c") for i in range(10)]
    labels = np.repeat(np.arange(3), 10).astype(np.int32)
    table = image_table(paths, labels, ["a", "b", "c"], skipped=1)
    write_features(tmp_path, Features(np.zeros((30, 4), np.float32), table))
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
    features = read_features(dump_dir / "new")
    assert features.vectors[:, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert formats.read_split(dump_dir / "new" / "split.npz").train_test_split == 0.6


def test_the_folders_train_and_test_are_a_split(tmp_path, run_script, users_mistake):
    paths = [f"{part}/{name}/{n}.jpg" for name in ("a", "b") for part in ("Train", "test") for n in range(2)]
    labels = np.repeat([0, 1], 4)
    write_features(tmp_path, Features(np.zeros((8, 4), np.float32), image_table(paths, labels, ["a", "b"])))
    done = run_script(SCRIPT, "--dump_dir", tmp_path, "--rule=folders")
    assert done.returncode == 0, done.stderr
    split = formats.read_split(tmp_path / "split.npz")
    assert split.train_paths == [path for path in paths if path.startswith("Train/")]
    assert split.test_paths == [path for path in paths if path.startswith("test/")]
    assert (split.rule, split.train_test_split) == ("folders", 0.5)
    users_mistake(run_script(SCRIPT, "--dump_dir", tmp_path, "--rule=folders", "--seed=1"), "--seed out")


def test_a_split_of_folders_needs_the_folders(dump_dir, run_script, users_mistake):
    users_mistake(run_script(SCRIPT, "--dump_dir", dump_dir, "--rule=folders"), "train/ and test/")


def test_images_without_classes_are_split_at_random(tmp_path, run_script):
    paths = list("abcdefghij")
    write_features(tmp_path, Features(np.zeros((10, 4), np.float32), image_table(paths, np.full(10, -1), [])))
    result = run_script(SCRIPT, "--dump_dir", tmp_path)
    assert "6 training and 4 test images of no classes, random, seed 0" in result.stdout
    split = formats.read_split(tmp_path / "split.npz")
    assert split.rule == "random"
    assert sorted(split.train_paths + split.test_paths) == paths


def test_lists_split_images_without_classes_whatever_labels_they_name(tmp_path, run_script):
    table = image_table(list("abcd"), np.full(4, -1), [])
    write_features(tmp_path, Features(np.zeros((4, 4), np.float32), table))
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


def here(script, *flags) -> RecordingConsole:
    """Run the main of a script in this process; return what it reported."""
    console = RecordingConsole()
    script.main(script.parser().parse_args([str(flag) for flag in flags]), console)
    return console


TRAIN = ("--HASH_BITS=4", "--BATCH_SIZE=6", "--ITERS=5")


@pytest.fixture
def dump(tmp_path):
    """Features of 40 images, of which two are equal: those that the split of seed 0 has on different sides."""
    features = separable_features()
    drawn = splits.stratified_split(features.images.paths, features.images.labels, 0.6, 0)
    trained, tested = (features.images.paths.index(side[0]) for side in (drawn.train_paths, drawn.test_paths))
    features.vectors[trained] = features.vectors[tested]
    write_features(tmp_path, features)
    return tmp_path


def write_lists(folder, **lists):
    folder.mkdir(exist_ok=True)
    for name, paths in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(paths), encoding="utf-8")
    return f"--split_dir={folder}"


def test_equal_images_are_kept_on_one_side_of_a_drawn_split(dump):
    images = read_image_table(dump)
    plain = splits.stratified_split(images.paths, images.labels, 0.6, 0)
    console = here(dataset_generator, f"--dump_dir={dump}")
    split = formats.read_split(dump / layout.SPLIT)
    pair = {plain.train_paths[0], plain.test_paths[0]}
    assert pair <= set(split.train_paths) or pair <= set(split.test_paths)
    assert len(split.train_paths) == len(plain.train_paths)
    assert "1 images are equal to others, first class0/" in " ".join(console.said)
    assert console.warned == []
    here(trainer, *TRAIN, f"--dump_dir={dump}")
    assert runs.read_record(dump / "K4").inputs.train_test_duplicates == 0


def test_a_split_that_is_given_is_warned_about_and_every_result_says_so(dump, tmp_path):
    images = read_image_table(dump)
    plain = splits.stratified_split(images.paths, images.labels, 0.6, 0)
    lists = write_lists(tmp_path / "lists", train=plain.train_paths, test=plain.test_paths)
    console = here(dataset_generator, f"--dump_dir={dump}", lists)
    first = f"first {plain.test_paths[0]} to {plain.train_paths[0]}"
    assert [
        line for line in console.warned if "1 of 16 test images are equal to training images" in line and first in line
    ]
    here(trainer, *TRAIN, f"--dump_dir={dump}")
    said = here(evaluation_script, f"--dump_dir={dump}", "--k=5", "--interval=0").said
    assert "1 of 16 test images are equal to training images" in said
    results = read_results(dump / "K4")
    assert results.inputs.train_test_duplicates == results.to_json()["train_test_duplicates"] == 1
    assert "train_test_duplicates" in results.definitions
    assert "equal to training images" in (dump / "K4" / layout.REPORT).read_text(encoding="utf-8")
    here(evaluation_script, f"--dump_dir={dump}", "--k=5", "--table")
    assert "some test images are equal to training images" in (dump / layout.TABLE).read_text(encoding="utf-8")


def test_classes_of_one_image_each_leave_none_to_test(tmp_path, run_script, users_mistake):
    images = image_table(["a/1.tif", "a/1.jpg", "b/1.tif"], [0, 0, 1], ["a", "b"])
    write_features(tmp_path, Features(np.arange(6, dtype=np.float32).reshape(3, 2), images))
    users_mistake(run_script(SCRIPT, f"--dump_dir={tmp_path}"), "3 training and 0 test images", "add images")
    assert not (tmp_path / layout.SPLIT).exists()


def test_lists_with_validation_and_images_that_they_leave_out(dump, tmp_path):
    paths = read_image_table(dump).paths
    train, test = (
        [path for n, path in enumerate(paths) if n % 10 < 5],
        [path for n, path in enumerate(paths) if n % 10 > 6],
    )
    val = [path for n, path in enumerate(paths) if n % 10 == 5]
    console = here(
        dataset_generator, f"--dump_dir={dump}", write_lists(tmp_path / "lists", train=train, test=test, val=val)
    )
    assert "4 images are named by no list and left out, first class0/006.png" in console.warned
    assert "20 training, 4 validation and 12 test images" in console.said[0]
    assert "trainer.py --validate=0.1" in " ".join(console.said)
    plain = here(trainer, *TRAIN, f"--dump_dir={dump}")
    assert any("leaves out 4 images, first class0/006.png" in line for line in plain.warned)
    assert "4 validation images of the split have no use without --validate=0.1" in plain.said
    watched = here(trainer, *TRAIN, f"--dump_dir={dump}", "--validate=0.1", "--run_name=watched")
    assert "validation on the 4 images that the split holds back for it" in watched.said
    for name in ("K4", "watched"):
        codes = formats.read_codes(dump / name)
        assert codes.paths == sorted(train + test)
        assert runs.read_record(dump / name).inputs.train_images == 20
    here(evaluation_script, f"--dump_dir={dump}", "--run_name=watched", "--k=5", "--interval=0")
    assert read_results(dump / "watched").searched == 11
    here(evaluation_script, f"--dump_dir={dump}", "--k=5", "--table")


def test_lists_of_queries_and_a_database_are_searched_as_they_say(dump, tmp_path):
    paths = read_image_table(dump).paths
    train, query = (
        [path for n, path in enumerate(paths) if n % 10 < 5],
        [path for n, path in enumerate(paths) if n % 10 > 7],
    )
    database = [path for n, path in enumerate(paths) if 2 <= n % 10 < 8]
    lists = write_lists(tmp_path / "lists", train=train, query=query, database=database)
    console = here(dataset_generator, f"--dump_dir={dump}", lists)
    assert "24 images are the database, which eval.py --archive=database searches" in console.said
    here(trainer, *TRAIN, f"--dump_dir={dump}")
    codes = formats.read_codes(dump / "K4")
    assert codes.paths == paths
    sides = dict(zip(codes.paths, codes.split, strict=True))
    assert (sides[train[0]], sides[query[0]], sides[database[-1]]) == ("train", "test", "database")
    for archive, searched in (("database", 24), ("train", 20), ("test", 7), ("all", 39)):
        here(evaluation_script, f"--dump_dir={dump}", "--k=5", "--interval=0", f"--archive={archive}")
        assert read_results(dump / "K4").searched == searched
    here(dataset_generator, f"--dump_dir={dump}")
    here(trainer, *TRAIN, f"--dump_dir={dump}", "--run_name=drawn")
    with pytest.raises(UserError, match="names no database; choose another --archive"):
        here(evaluation_script, f"--dump_dir={dump}", "--run_name=drawn", "--archive=database")


def test_three_parts_in_folders_are_a_split_with_validation(tmp_path):
    paths = [f"{part}/{name}/{n}.jpg" for name in ("a", "b") for part in ("test", "train", "val") for n in range(4)]
    vectors = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
    write_features(tmp_path, Features(vectors, image_table(paths, np.repeat([0, 1], 12), ["a", "b"])))
    here(dataset_generator, f"--dump_dir={tmp_path}", "--rule=folders")
    split = formats.read_split(tmp_path / layout.SPLIT)
    assert {path.split("/")[0] for path in split.validation_paths} == {"val"}
    assert (len(split.train_paths), len(split.test_paths), len(split.validation_paths)) == (8, 8, 8)
    here(trainer, *TRAIN, f"--dump_dir={tmp_path}", "--validate=0.5")


@pytest.mark.parametrize("rule", [splits.STRATIFIED, splits.PUBLISHED_AID, splits.FOLDERS, splits.LISTS])
@pytest.mark.parametrize("damage", ["unknown", "empty", "shared", "missing"])
def test_the_command_that_a_bad_split_advises_gets_further(tmp_path, rule, damage):
    names = [f"{part}/{name}/{n}.png" for name in ("a", "b") for part in ("test", "train") for n in range(6)]
    vectors = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
    write_features(tmp_path, Features(vectors, image_table(names, np.repeat([0, 1], 12), ["a", "b"])))
    train, test = ([path for path in names if path.startswith(part)] for part in ("train", "test"))
    sides = {
        "unknown": ([*train, "train/a/9.png"], test),
        "empty": (names, []),
        "shared": (train, [*test, train[0]]),
        "missing": (train[1:], test),
    }[damage]
    formats.write_split(tmp_path / layout.SPLIT, Split(*sides, 0.5, 0, rule))
    allowed = (damage == "shared" and rule == splits.PUBLISHED_AID) or (
        damage == "missing" and rule in (splits.PUBLISHED_AID, splits.LISTS)
    )
    if not allowed:
        with pytest.raises(UserError, match=r"make the split again with dataset_generator\.py") as refused:
            here(trainer, *TRAIN, f"--dump_dir={tmp_path}")
        lists = write_lists(tmp_path / "lists", train=train, test=test)
        advised = str(refused.value).partition("dataset_generator.py")[2].replace("--split_dir=...", lists).split()
        here(dataset_generator, *advised, f"--dump_dir={tmp_path}")
        assert formats.read_split(tmp_path / layout.SPLIT).rule == rule
    here(trainer, *TRAIN, f"--dump_dir={tmp_path}")


def test_other_advice_gets_further_too(dump):
    with pytest.raises(UserError, match="leave --rule=folders out"):
        here(dataset_generator, f"--dump_dir={dump}", "--rule=folders")
    here(dataset_generator, f"--dump_dir={dump}")
    with pytest.raises(UserError, match=r"dataset_generator\.py --train_test_split=0\.5") as refused:
        here(trainer, *TRAIN, f"--dump_dir={dump}", "--train_test_split=0.5")
    here(dataset_generator, str(refused.value).split()[-1], f"--dump_dir={dump}")
    here(trainer, *TRAIN, f"--dump_dir={dump}", "--train_test_split=0.5")
    here(dataset_generator, f"--dump_dir={dump}", "--seed=1,2")
    with pytest.raises(UserError, match=r"dataset_generator\.py --seed=\.\.\.,3"):
        here(trainer, *TRAIN, f"--dump_dir={dump}", "--seed=3")
    here(dataset_generator, f"--dump_dir={dump}", "--seed=1,2,3")
    here(trainer, *TRAIN, f"--dump_dir={dump}", "--seed=3", "--run_name=third")


def test_an_unfinished_run_of_an_earlier_version_is_the_same_run(dump):
    here(dataset_generator, f"--dump_dir={dump}")
    here(trainer, *TRAIN, f"--dump_dir={dump}")
    record = runs.read_record(dump / "K4")
    before = dataclasses.replace(record, inputs=dataclasses.replace(record.inputs, train_test_duplicates=None))
    assert before.identity() == record.identity()
    runs.write_record(dump / "K4", before)
    assert "is done already" in here(trainer, *TRAIN, f"--dump_dir={dump}").said[-1]
