"""trainer.py as a user runs it: what it writes, what it refuses, and that nothing is lost when it is killed."""

import csv
import functools
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import REPO_ROOT, run_here
from factories import separable_features, write_training_inputs

from mhcln.console import UserError
from mhcln.data import datasets, splits
from mhcln.hamming.codes import pack
from mhcln.pipeline.training_setup import usual_iterations
from mhcln.quiet_tensorflow import keras
from mhcln.storage import files, layout, runs
from mhcln.storage.coded_images import read_codes
from mhcln.storage.features import Features, read_features, read_image_table, write_features
from mhcln.storage.image_table import ImageTable
from mhcln.storage.split import Split, read_split, write_split
from mhcln.training import loop
from mhcln.training.learner import Learner
from mhcln.training.methods import METHODS

CLASSES, PER_CLASS, WIDTH = 4, 10, 12


def write_inputs(folder, seeds=(0,), rule=splits.stratified_split, skipped=0) -> Features:
    features = separable_features(CLASSES, PER_CLASS, WIDTH, skipped)
    write_training_inputs(folder, features, seeds, rule)
    return features


train_here = functools.partial(run_here, "trainer.py")
FLAGS = ("--HASH_BITS=12", "--BATCH_SIZE=9", "--ITERS=150")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A dump folder with one finished run, K12, made with another flag form than the equals sign."""
    folder = tmp_path_factory.mktemp("trained dump é")
    write_inputs(folder)
    said = train_here(*FLAGS, "--dump_dir", folder, "--train_test_split", "0.6").said
    assert any("150 iterations" in line for line in said)
    return folder


def arrays(path):
    with np.load(path) as content:
        return {name: content[name] for name in content.files}


def weights(path):
    return keras.models.load_model(path, safe_mode=True, compile=False).get_weights()


def assert_same_run(first, second):
    for name in ("codes.npz", "activations.npz"):
        one, other = arrays(first / name), arrays(second / name)
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].tobytes() == other[key].tobytes(), (name, key)
    assert (first / "history.csv").read_bytes() == (second / "history.csv").read_bytes()
    for one, other in zip(weights(first / "model.keras"), weights(second / "model.keras"), strict=True):
        assert one.tobytes() == other.tobytes()


def test_a_run_leaves_files_that_agree(trained):
    run_dir = trained / "K12"
    table, split = read_image_table(trained), read_split(trained / "split.npz")
    codes, run = read_codes(run_dir), runs.read_record(run_dir)
    left = {file.name for file in run_dir.iterdir() if file.name != ".mhcln.lock"}
    assert left == {"run.json", "model.keras", "history.csv", "codes.npz", "activations.npz", "checkpoints"}
    assert (codes.paths, codes.bits) == (table.paths, 12)
    assert (codes.labels == table.labels).all()
    assert {p for p, side in zip(codes.paths, codes.split, strict=True) if side == "test"} == set(split.test_paths)
    stored = arrays(run_dir / "activations.npz")
    assert stored["paths"].tolist() == codes.paths
    assert (pack(stored["activations"] > 0.5) == codes.codes).all()
    config, inputs = run.config, run.inputs
    assert (config.bits, config.batch_size, config.iterations, config.alpha) == (12, 9, 150, 0.2)
    assert (inputs.train_images, inputs.test_images, inputs.contaminated, inputs.feature_width) == (24, 16, 0, WIDTH)
    assert run.outcome.files == {name: files.sha256_of(run_dir / name) for name in layout.TRAINED}
    with (run_dir / "history.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["iteration"] for row in rows] == ["100", "150"]
    assert list(rows[0]) == ["iteration", "total", "triplet", "push", "balance", "active", "distinct_codes"]


def test_a_finished_run_is_left_alone(trained):
    before = {file.name: file.stat().st_mtime_ns for file in (trained / "K12").iterdir()}
    said = train_here(*FLAGS, "--dump_dir", trained).said
    assert said[-1] == f"{trained / 'K12'} is done already: 150 iterations, nothing to do"
    assert {file.name: file.stat().st_mtime_ns for file in (trained / "K12").iterdir()} == before


def test_the_same_seed_gives_the_same_codes_and_another_seed_others(trained):
    for name, seed in (("again", 0), ("other", 1)):
        train_here(*FLAGS, f"--seed={seed}", f"--run_name={name}", "--dump_dir", trained)
    assert_same_run(trained / "again", trained / "K12")
    codes = [arrays(trained / name / "codes.npz")["codes"] for name in ("K12", "other")]
    assert (codes[0] != codes[1]).any()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--BATCH_SIZE=1026", "--run_name=b"], "1026 is more than the 24 training images; give at most 1024"),
        (["--ITERS=149"], "another run (iterations 150 there, 149 now); choose another --run_name"),
        (["--BATCH_SIZE=12"], "batch_size 9 there, 12 now"),
        (["--ALPHA=0.3"], "alpha 0.2 there, 0.3 now"),
        (["--seed=4"], "seed 0 there, 4 now"),
        (["--train_test_split=0.5"], "split.npz was made with 0.6; leave the flag out"),
        (["--BATCH_SIZE=91", "--run_name=b"], "not a multiple of 3 (anchors, positives, negatives); take 90 or 93"),
        (["--HASH_BITS=8,16", "--run_name=one"], "--run_name names one folder, but these flags ask for 2 runs"),
        (["--loss=dpn", "--ALPHA=0.2"], "--loss=dpn has no use for --ALPHA; leave that out"),
        (["--patience=3"], "add --validate=0.1"),
        (["--HASH_BITS=1", "--loss=orthohash"], "1 bits make 2 codes, too few for 4 classes; take more bits"),
    ],
)
def test_mistakes_are_one_line(trained, flags, words):
    with pytest.raises(UserError, match=re.escape(words)):
        train_here(*FLAGS, "--dump_dir", trained, *flags)


def test_changed_features_and_a_changed_split_are_noticed(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    table = read_image_table(folder)
    write_split(folder / "split.npz", splits.stratified_split(table.paths, table.labels, 0.6, 5))
    with pytest.raises(UserError, match="split_seed 0 there, 5 now"):
        train_here(*FLAGS, "--dump_dir", folder)
    features = read_features(folder)
    features.vectors[0] += 1
    write_features(folder, features)
    with pytest.raises(UserError, match=r"features_sha256 .*; choose another --run_name"):
        train_here(*FLAGS, "--dump_dir", folder)


@pytest.mark.parametrize("name", layout.TRAINED)
def test_a_changed_or_missing_file_of_a_finished_run_is_noticed(trained, tmp_path, name):
    folder = shutil.copytree(trained, tmp_path / "copy")
    path = folder / "K12" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    message = rf"{path.name} is missing or does not match its SHA-256 in run.json; make it again with trainer.py once"
    with pytest.raises(UserError, match=message):
        train_here(*FLAGS, "--dump_dir", folder)
    path.unlink()
    with pytest.raises(UserError, match=message):
        train_here(*FLAGS, "--dump_dir", folder)


def test_each_run_of_a_sweep_names_the_features_that_it_was_trained_on(tmp_path, monkeypatch):
    features, loop_train = write_inputs(tmp_path), loop.train
    before = files.sha256_of(tmp_path / "features.npz")

    def train_and_replace(*arguments, **options):
        loop_train(*arguments, **options)
        write_features(tmp_path, Features(features.vectors + 1, features.images))

    monkeypatch.setattr(loop, "train", train_and_replace)
    train_here("--HASH_BITS=4,5", "--BATCH_SIZE=6", "--ITERS=2", "--dump_dir", tmp_path)
    assert files.sha256_of(tmp_path / "features.npz") != before
    assert {runs.read_record(tmp_path / name).inputs.features_sha256 for name in ("K4", "K5")} == {before}


def test_several_lengths_and_seeds_train_each_length_on_each_split_and_skips_what_is_done(tmp_path):
    write_inputs(tmp_path, seeds=(3, 4))
    flags = ("--BATCH_SIZE=6", "--ITERS=5", "--dump_dir", tmp_path)
    train_here("--HASH_BITS=4,9", "--seed=3,4", *flags)
    names = ["K4_seed3", "K4_seed4", "K9_seed3", "K9_seed4"]
    assert [folder.name for folder in layout.run_folders(tmp_path)] == names
    for name in names:
        run = runs.read_record(tmp_path / name)
        assert run.inputs.split_seed == run.config.seed == int(name[-1])
    shutil.rmtree(tmp_path / "K9_seed3")
    again = train_here("--HASH_BITS=4,9", "--seed=3,4", *flags)
    assert sum("done already" in line for line in again.said) == 3
    assert (tmp_path / "K9_seed3/codes.npz").exists()
    with pytest.raises(UserError, match=r"split_seed3.*not for 5"):
        train_here("--HASH_BITS=4", "--seed=5", *flags)


def test_a_run_with_validation_says_which_network_it_kept_and_gives_the_same_again(trained):
    flags = ("--loss=orthohash", "--HASH_BITS=12", "--BATCH_SIZE=10", "--ITERS=120", "--validate=0.2")
    for more in ((), ("--run_name=once_more",)):
        train_here(*flags, *more, "--dump_dir", trained)
    run_dir = trained / "K12_orthohash"
    assert runs.read_record(run_dir).outcome.best_iteration in (100, 120)
    header = (run_dir / "history.csv").read_text().splitlines()[0]
    assert header == "iteration,total,accuracy,distinct_codes,validation_mAP@20"
    assert_same_run(run_dir, trained / "once_more")


def test_bfloat16_saves_a_network_that_computes_in_float32(trained):
    train_here(*FLAGS, "--precision=bfloat16", "--run_name=rough", "--dump_dir", trained)
    assert runs.read_record(trained / "rough").config.precision == "bfloat16"
    model = keras.models.load_model(trained / "rough/model.keras", safe_mode=True, compile=False)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    found, exact = (arrays(trained / name / "activations.npz")["activations"] for name in ("rough", "K12"))
    assert 0 < np.abs(found - exact).max() < 0.2


def test_images_on_both_sides_count_as_test_images(tmp_path):
    write_inputs(tmp_path, rule=splits.published_aid_split)
    train_here("--HASH_BITS=4", "--BATCH_SIZE=6", "--ITERS=5", "--dump_dir", tmp_path)
    split, codes = read_split(tmp_path / "split.npz"), read_codes(tmp_path / "K4")
    shared = set(split.train_paths) & set(split.test_paths)
    assert runs.read_record(tmp_path / "K4").inputs.contaminated == len(shared) > 0
    sides = dict(zip(codes.paths, codes.split, strict=True))
    assert sides == {p: "test" if p in set(split.test_paths) else "train" for p in sides}
    assert set(sides) == set(split.train_paths) | set(split.test_paths)
    assert codes.paths == sorted(codes.paths)


@pytest.mark.parametrize(("loss", "warned"), [("mhcln", True), ("semihard", True), ("orthohash", False)])
def test_a_class_with_one_training_image_is_reported_if_it_can_only_be_a_negative(tmp_path, loss, warned):
    table = write_inputs(tmp_path, skipped=2).images
    split = splits.stratified_split(table.paths, table.labels, 0.6, 0)
    alone = [path for path in split.train_paths if path.startswith("class0")]
    train = [path for path in split.train_paths if path not in alone[1:]]
    test = [path for path in table.paths if path not in train]
    write_split(tmp_path / "split.npz", Split(train, test, 0.5, 0, "lists"))
    console = train_here("--HASH_BITS=4", "--BATCH_SIZE=6", "--ITERS=5", f"--loss={loss}", "--dump_dir", tmp_path)
    assert any("only be a negative: class0" in line for line in console.warned) == warned
    assert any("2 images that could not be read" in line for line in console.warned)


def test_one_class_cannot_be_trained(tmp_path):
    paths = write_inputs(tmp_path).images.paths
    write_split(tmp_path / "split.npz", Split(paths[:6], paths[6:], 0.15, 0, "lists"))
    for loss in ("mhcln", "orthohash", "sdh"):
        with pytest.raises(UserError, match="the training images have one class"):
            train_here(f"--loss={loss}", "--run_name=one", "--dump_dir", tmp_path)
    assert not (tmp_path / "one/run.json").exists()


def test_patience_ends_a_run_for_good_and_is_recorded(tmp_path):
    write_inputs(tmp_path)
    for loss in ("mhcln", "orthohash"):
        flags = ("--HASH_BITS=4", "--BATCH_SIZE=6", f"--loss={loss}", "--run_name", loss, "--dump_dir", tmp_path)
        patient = (*flags, "--ITERS=3000", "--validate=0.3", "--patience=1")
        train_here(*patient)
        outcome = runs.read_run(tmp_path / loss).outcome
        assert 200 <= outcome.iterations_done < 3000
        for more in ((), ("--finish",)):
            console = train_here(*patient, *more)
            assert f"is done already: {outcome.iterations_done} iterations, nothing to do" in console.said[-1]


def test_more_iterations_train_on_to_what_all_at_once_give(tmp_path):
    for name in ("on", "once"):
        write_inputs(tmp_path / name)
    flags = ("--HASH_BITS=4", "--BATCH_SIZE=6")
    train_here(*flags, "--ITERS=100", "--dump_dir", tmp_path / "on")
    console = train_here(*flags, "--ITERS=150", "--dump_dir", tmp_path / "on")
    assert "continuing after iteration 100" in " ".join(console.said)
    train_here(*flags, "--ITERS=150", "--dump_dir", tmp_path / "once")
    assert_same_run(tmp_path / "on" / "K4", tmp_path / "once" / "K4")
    with pytest.raises(UserError, match="iterations 150 there, 100 now"):
        train_here(*flags, "--ITERS=100", "--dump_dir", tmp_path / "on")


def test_a_learning_rate_that_has_fallen_to_0_ends_training_for_good(tmp_path):
    write_inputs(tmp_path)
    flags = ("--HASH_BITS=4", "--BATCH_SIZE=6", "--loss=orthohash", "--dump_dir", tmp_path)
    train_here(*flags, "--ITERS=100")
    assert not (tmp_path / "K4_orthohash/checkpoints").exists()
    with pytest.raises(UserError, match="learning rate of orthohash has fallen to 0"):
        train_here(*flags, "--ITERS=200")


@pytest.mark.parametrize("loss", ["mhcln", "orthohash"])
def test_an_interrupted_run_can_be_finished_where_it_stands_and_still_be_continued(tmp_path, monkeypatch, loss):
    def interrupt(learner, count):
        if learner.iteration >= 100:
            raise KeyboardInterrupt
        return advance(learner, count)

    for name in ("stopped", "whole"):
        write_inputs(tmp_path / name)
    flags = ("--HASH_BITS=4", "--BATCH_SIZE=6", "--ITERS=150", f"--loss={loss}", "--run_name=run", "--save_seconds=0")
    stopped = (*flags, "--dump_dir", tmp_path / "stopped")
    with pytest.raises(UserError, match="no interrupted training to --finish"):
        train_here(*stopped, "--finish")
    advance = Learner.advance
    monkeypatch.setattr(Learner, "advance", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_here(*stopped)
    monkeypatch.setattr(Learner, "advance", advance)
    for _ in range(2):
        console = train_here(*stopped, "--finish")
        run = runs.read_run(tmp_path / "stopped/run")
        assert (run.config.iterations, run.outcome.iterations_done, run.outcome.can_go_on) == (150, 100, True)
    assert "done already: 100 iterations" in console.said[-1]
    train_here(*stopped)
    train_here(*flags, "--dump_dir", tmp_path / "whole")
    assert_same_run(tmp_path / "stopped/run", tmp_path / "whole/run")
    whole = runs.read_run(tmp_path / "stopped/run").outcome
    assert (whole.iterations_done, whole.can_go_on) == (None, False)


def test_usual_iterations_are_those_of_the_data_set_or_of_the_method():
    aid = datasets.known()["AID"].class_names
    for dataset, classes, iterations in (("own", aid, 10_000), ("AID", aid[:2], 10_000), ("AID", aid, 25_000)):
        labels = np.arange(len(classes), dtype=np.int32)
        images = ImageTable(labels, [f"{name}.tif" for name in classes], list(classes), dataset, "", "")
        assert usual_iterations(METHODS["mhcln"], images) == iterations
        assert usual_iterations(METHODS["orthohash"], images) == 2000


def test_sigterm_saves_and_leaves_with_its_status(tmp_path):
    folder = tmp_path / "stopped"
    write_inputs(folder)
    flags = ("--dump_dir", str(folder), "--ITERS=1000000000", "--save_seconds=0")
    command = [sys.executable, str(REPO_ROOT / "trainer.py"), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        limit = time.monotonic() + 60
        while not (folder / "K32/checkpoints/state.npz").exists():
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()) == (143, ["stopped by SIGTERM"])
    assert "saved at iteration" in out
    assert runs.read_record(folder / "K32").outcome is None
