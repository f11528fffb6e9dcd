"""dataset_generator.py as a user runs it, and the results of the splits that it makes."""

import pickle

import numpy as np
import pytest
from conftest import RecordingConsole, run_here
from factories import image_table, separable_features

from mhcln.console import UserError
from mhcln.data import splits
from mhcln.storage import layout, runs
from mhcln.storage.coded_images import read_codes
from mhcln.storage.features import Features, read_features, read_image_table, write_features
from mhcln.storage.results import read_results
from mhcln.storage.split import Split, read_split, write_split

TRAIN = ("--HASH_BITS=4", "--BATCH_SIZE=6", "--ITERS=5")


def generate(dump_dir, *flags) -> tuple[Split, RecordingConsole]:
    """Run dataset_generator.py; return the split and what the script reported."""
    console = run_here("dataset_generator.py", f"--dump_dir={dump_dir}", *flags)
    return read_split(dump_dir / layout.SPLIT), console


def write_images(dump_dir, paths, labels, class_names, **changes) -> None:
    """Write features that are different for each image."""
    vectors = np.random.default_rng(0).normal(size=(len(paths), 4)).astype(np.float32)
    write_features(dump_dir, Features(vectors, image_table(list(paths), labels, class_names, **changes)))


def write_lists(folder, **lists):
    folder.mkdir(exist_ok=True)
    for name, paths in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(paths), encoding="utf-8")
    return f"--split_dir={folder}"


@pytest.fixture
def dump_dir(tmp_path):
    paths = [f"{name}/{i}.tif" for name in ("a", "b", "c") for i in range(10)]
    write_images(tmp_path, paths, np.repeat(np.arange(3), 10), ["a", "b", "c"], skipped=1)
    return tmp_path


@pytest.fixture
def dump(tmp_path):
    """Features of 40 images, of which two are equal: those that the split of seed 0 has on different sides."""
    features = separable_features()
    drawn = splits.stratified_split(features.images.paths, features.images.labels, 0.6, 0)
    trained, tested = (features.images.paths.index(side[0]) for side in (drawn.train_paths, drawn.test_paths))
    features.vectors[trained] = features.vectors[tested]
    write_features(tmp_path, features)
    return tmp_path


def test_the_published_command_makes_a_split(dump_dir, run_in_process, users_mistake):
    result = run_in_process("dataset_generator.py", "--train_test_split=0.6", f"--dump_dir={dump_dir}")
    assert result.returncode == 0, result.stderr
    assert "18 training and 12 test images of 3 classes" in result.stdout
    assert "lacks 1 images that could not be read" in result.stderr
    split = read_split(dump_dir / "split.npz")
    assert (split.train_test_split, split.seed, split.rule) == (0.6, 0, "stratified")
    result = run_in_process("dataset_generator.py", "--train_test_split=0.6", cwd=dump_dir)  # which has no dump_dir/
    users_mistake(result, "features.npz is missing", "extract_features.py")


def test_several_seeds_make_several_splits_and_one_seed_removes_them(dump_dir):
    split, _ = generate(dump_dir, "--seed=3,4")
    names = {path.name for path in dump_dir.glob("split*")}
    assert names == {"split.npz", "split_seed3.npz", "split_seed4.npz"}
    assert split == read_split(dump_dir / "split_seed3.npz")
    split, console = generate(dump_dir)
    assert f"{dump_dir / 'split_seed3.npz'} belongs to an earlier set of splits and is removed" in console.warned
    assert {path.name for path in dump_dir.glob("split*")} == {"split.npz"}
    assert split == generate(dump_dir, "--seed=0", "--rule=stratified")[0]


def test_the_published_aid_rule_warns(dump_dir):
    split, console = generate(dump_dir, "--rule=published-aid")
    shared = len(set(split.train_paths) & set(split.test_paths))
    assert f"{shared} of 12 test images are trained on" in console.warned[-1]
    assert split.rule == "published-aid"


def test_a_published_pickle_becomes_features_if_they_can_be_read_again(dump_dir):
    rows = [[np.full(4, i, np.float32), i % 2, f"/x/{'ab'[i % 2]}/{i}.jpg"] for i in range(8)]
    pickled, new = dump_dir / "features.pkl", dump_dir / "new"
    pickled.write_bytes(pickle.dumps([*rows, rows[5]], 2))
    with pytest.raises(UserError, match=r"features\.pkl has several rows of b/5\.jpg; make it again"):
        generate(new, f"--features={pickled}")
    assert not (new / layout.FEATURES).exists()
    pickled.write_bytes(pickle.dumps(rows, 2))
    with pytest.raises(UserError, match="has other features already"):
        generate(dump_dir, f"--features={pickled}")
    for _ in range(2):
        assert generate(new, f"--features={pickled}")[0].train_test_split == 0.6
    assert read_features(new).vectors[:, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_the_folders_train_val_and_test_are_a_split_with_validation(tmp_path):
    paths = [f"{part}/{name}/{n}.jpg" for name in ("a", "b") for part in ("Train", "test", "val") for n in range(4)]
    write_images(tmp_path, paths, np.repeat([0, 1], 12), ["a", "b"])
    split, _ = generate(tmp_path, "--rule=folders")
    for part, side in (("Train", split.train_paths), ("test", split.test_paths), ("val", split.validation_paths)):
        assert side == [path for path in paths if path.startswith(part)]
    assert (split.rule, split.train_test_split) == ("folders", 0.5)
    run_here("trainer.py", *TRAIN, f"--dump_dir={tmp_path}", "--validate=0.5")
    run_here("eval.py", f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    results = read_results(tmp_path / "K4")
    assert (results["split_rule"], results["queries"], results["contaminated"]) == ("folders", 8, 0)


def test_images_without_classes_are_split_at_random_or_by_lists(tmp_path):
    write_images(tmp_path, "abcdefghij", np.full(10, -1), [])
    split, console = generate(tmp_path)
    assert "6 training and 4 test images of no classes, random, seed 0" in console.said[0]
    assert split.rule == "random"
    assert sorted(split.train_paths + split.test_paths) == list("abcdefghij")
    lists = write_lists(tmp_path / "lists", train=["a 0", "b 1"], test=["c 0", "d 1"])
    assert generate(tmp_path, lists)[0].test_paths == ["c", "d"]
    with pytest.raises(UserError, match=r"--rule=published-aid draws by class, and the images in .* have none"):
        generate(tmp_path, "--rule=published-aid")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--split_dir=none"], "train.txt is missing"),
        (["--rule=folders"], "do not lie in folders train/ and test/; leave --rule=folders out"),
        (["--split_dir=x", "--seed=0"], "take a split that is there; give one of them, without .*--seed"),
        (["--split_dir=x", "--train_test_split=0.6"], "give one of them, without --train_test_split"),
        (["--split_dir=x", "--rule=folders"], "--split_dir and --rule=folders .* give one of them"),
        (["--split_dir=x", "--rule=stratified"], "without .* another --rule"),
        (["--rule=folders", "--seed=1"], "give one of them, without .*--seed"),
    ],
)
def test_flags_that_do_not_fit_each_other_or_the_images_are_refused(dump_dir, flags, message):
    with pytest.raises(UserError, match=message):
        generate(dump_dir, *flags)
    assert not list(dump_dir.glob("split*"))


def test_equal_images_are_kept_on_one_side_of_a_drawn_split(dump):
    images = read_image_table(dump)
    plain = splits.stratified_split(images.paths, images.labels, 0.6, 0)
    split, console = generate(dump)
    pair = {plain.train_paths[0], plain.test_paths[0]}
    assert pair <= set(split.train_paths) or pair <= set(split.test_paths)
    assert len(split.train_paths) == len(plain.train_paths)
    assert "1 images are equal to others, first class0/" in " ".join(console.said)
    assert console.warned == []
    run_here("trainer.py", *TRAIN, f"--dump_dir={dump}")
    assert runs.read_record(dump / "K4").inputs.train_test_duplicates == 0


def test_a_split_that_is_given_is_warned_about_and_every_result_says_so(dump, tmp_path):
    images = read_image_table(dump)
    plain = splits.stratified_split(images.paths, images.labels, 0.6, 0)
    lists = write_lists(tmp_path / "lists", train=plain.train_paths, test=plain.test_paths)
    _, console = generate(dump, lists)
    first = f"first {plain.test_paths[0]} to {plain.train_paths[0]}"
    assert [
        line for line in console.warned if "1 of 16 test images are equal to training images" in line and first in line
    ]
    run_here("trainer.py", *TRAIN, f"--dump_dir={dump}")
    said = run_here("eval.py", f"--dump_dir={dump}", "--k=5", "--interval=0").said
    assert "1 of 16 test images are equal to training images" in said
    results = read_results(dump / "K4")
    assert results["train_test_duplicates"] == 1
    assert "train_test_duplicates" in results["definitions"]
    assert "equal to training images" in (dump / "K4" / layout.REPORT).read_text(encoding="utf-8")
    run_here("eval.py", f"--dump_dir={dump}", "--k=5", "--table")
    assert "some test images are equal to training images" in (dump / layout.TABLE).read_text(encoding="utf-8")


def test_classes_of_one_image_each_leave_none_to_test(tmp_path):
    write_images(tmp_path, ["a/1.tif", "a/1.jpg", "b/1.tif"], [0, 0, 1], ["a", "b"])
    with pytest.raises(UserError, match=r"3 training and 0 test images: .*add images"):
        generate(tmp_path)
    assert not (tmp_path / layout.SPLIT).exists()


def test_lists_with_validation_and_images_that_they_leave_out(dump, tmp_path):
    paths = read_image_table(dump).paths
    train, val, test = (
        [path for n, path in enumerate(paths) if n % 10 in part] for part in (range(5), [5], range(7, 10))
    )
    _, console = generate(dump, write_lists(tmp_path / "lists", train=train, test=test, val=val))
    assert "4 images are named by no list and left out, first class0/006.png" in console.warned
    assert "20 training, 4 validation and 12 test images" in console.said[0]
    assert "trainer.py --validate=0.1" in " ".join(console.said)
    plain = run_here("trainer.py", *TRAIN, f"--dump_dir={dump}")
    assert any("leaves out 4 images, first class0/006.png" in line for line in plain.warned)
    assert "4 validation images of the split have no use without --validate=0.1" in plain.said
    watched = run_here("trainer.py", *TRAIN, f"--dump_dir={dump}", "--validate=0.1", "--run_name=watched")
    assert "validation on the 4 validation images of the split" in watched.said
    for name in ("K4", "watched"):
        codes = read_codes(dump / name)
        assert codes.paths == sorted(train + test)
        assert runs.read_record(dump / name).inputs.train_images == 20
    run_here("eval.py", f"--dump_dir={dump}", "--run_name=watched", "--k=5", "--interval=0")
    assert read_results(dump / "watched")["searched"] == 11
    run_here("eval.py", f"--dump_dir={dump}", "--k=5", "--table")


def test_lists_of_queries_and_a_database_are_searched_as_they_say(dump, tmp_path):
    paths = read_image_table(dump).paths
    train, database, query = (
        [path for n, path in enumerate(paths) if n % 10 in part] for part in (range(5), range(2, 8), range(8, 10))
    )
    lists = write_lists(tmp_path / "lists", train=train, query=query, database=database)
    _, console = generate(dump, lists)
    assert "24 images are the database, which eval.py --archive=database searches" in console.said
    run_here("trainer.py", *TRAIN, f"--dump_dir={dump}")
    codes = read_codes(dump / "K4")
    assert codes.paths == paths
    sides = dict(zip(codes.paths, codes.split, strict=True))
    assert (sides[train[0]], sides[query[0]], sides[database[-1]]) == ("train", "test", "database")
    for archive, searched in (("database", 24), ("train", 20), ("test", 7), ("all", 39)):
        run_here("eval.py", f"--dump_dir={dump}", "--k=5", "--interval=0", f"--archive={archive}")
        assert read_results(dump / "K4")["searched"] == searched
    generate(dump)
    run_here("trainer.py", *TRAIN, f"--dump_dir={dump}", "--run_name=drawn")
    with pytest.raises(UserError, match="names no database; choose another --archive"):
        run_here("eval.py", f"--dump_dir={dump}", "--run_name=drawn", "--archive=database")


@pytest.mark.parametrize("rule", [splits.STRATIFIED, splits.PUBLISHED_AID, splits.FOLDERS, splits.LISTS])
@pytest.mark.parametrize("damage", ["unknown", "empty", "shared", "missing"])
def test_the_command_that_a_bad_split_advises_gets_further(tmp_path, rule, damage):
    names = [f"{part}/{name}/{n}.png" for name in ("a", "b") for part in ("test", "train") for n in range(6)]
    write_images(tmp_path, names, np.repeat([0, 1], 12), ["a", "b"])
    train, test = ([path for path in names if path.startswith(part)] for part in ("train", "test"))
    sides = {
        "unknown": ([*train, "train/a/9.png"], test),
        "empty": (names, []),
        "shared": (train, [*test, train[0]]),
        "missing": (train[1:], test),
    }[damage]
    write_split(tmp_path / layout.SPLIT, Split(*sides, 0.5, 0, rule))
    allowed = (damage == "shared" and rule == splits.PUBLISHED_AID) or (
        damage == "missing" and rule in (splits.PUBLISHED_AID, splits.LISTS)
    )
    if not allowed:
        with pytest.raises(UserError, match=r"make the split again with dataset_generator\.py") as refused:
            run_here("trainer.py", *TRAIN, f"--dump_dir={tmp_path}")
        lists = write_lists(tmp_path / "lists", train=train, test=test)
        advised = str(refused.value).partition("dataset_generator.py")[2].replace("--split_dir=...", lists).split()
        assert generate(tmp_path, *advised)[0].rule == rule
    run_here("trainer.py", *TRAIN, f"--dump_dir={tmp_path}")


def test_other_advice_gets_further_too(dump):
    generate(dump)
    with pytest.raises(UserError, match=r"dataset_generator\.py --train_test_split=0\.5") as refused:
        run_here("trainer.py", *TRAIN, f"--dump_dir={dump}", "--train_test_split=0.5")
    generate(dump, str(refused.value).split()[-1])
    run_here("trainer.py", *TRAIN, f"--dump_dir={dump}", "--train_test_split=0.5")
    generate(dump, "--seed=1,2")
    with pytest.raises(UserError, match=r"dataset_generator\.py --seed=\.\.\.,3"):
        run_here("trainer.py", *TRAIN, f"--dump_dir={dump}", "--seed=3")
    generate(dump, "--seed=1,2,3")
    run_here("trainer.py", *TRAIN, f"--dump_dir={dump}", "--seed=3", "--run_name=third")
