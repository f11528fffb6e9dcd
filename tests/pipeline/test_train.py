"""trainer.py as a user runs it: what it writes, what it refuses, and that nothing is lost when it is killed."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import REPO_ROOT, RecordingConsole
from factories import separable_features, write_training_inputs

import trainer
from mhcln.console import UserError
from mhcln.data import datasets, splits
from mhcln.hamming.codes import distances, pack
from mhcln.pipeline.train import usual_iterations
from mhcln.quiet_tensorflow import keras
from mhcln.storage import files, formats, layout, runs
from mhcln.storage.features import read_features, read_image_table, write_features
from mhcln.storage.features_file import Features, ImageTable
from mhcln.storage.formats import Split
from mhcln.training import loop
from mhcln.training.learner import Learner

CLASSES, PER_CLASS, WIDTH = 4, 10, 12


def write_inputs(folder, seeds=(0,), rule=splits.stratified_split, skipped=0) -> Features:
    features = separable_features(CLASSES, PER_CLASS, WIDTH, skipped)
    write_training_inputs(folder, features, seeds, rule)
    return features


def train_here(*flags) -> RecordingConsole:
    """Run the script's main in this process, which has TensorFlow loaded already; return what it reported."""
    console = RecordingConsole()
    trainer.main(trainer.parser().parse_args([str(flag) for flag in flags]), console)
    return console


FLAGS = ("--HASH_BITS=12", "--BATCH_SIZE=9", "--ITERS=150")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, run_script):
    """A dump folder with one finished run, K12, made with another flag form than the equals sign."""
    folder = tmp_path_factory.mktemp("trained dump é")
    write_inputs(folder)
    done = run_script("trainer.py", *FLAGS, "--dump_dir", folder, "--train_test_split", "0.6")
    assert done.returncode == 0, done.stderr
    assert "150 iterations" in done.stdout
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
    table, split = read_image_table(trained), formats.read_split(trained / "split.npz")
    codes, run = formats.read_codes(run_dir), runs.read_record(run_dir)
    assert sorted(file.name for file in run_dir.iterdir() if file.name != ".lock") == sorted(
        ["run.json", "model.keras", "history.csv", "codes.npz", "activations.npz", "checkpoints"]
    )
    assert codes.paths == table.paths
    assert (codes.labels == table.labels).all()
    assert {p for p, side in zip(codes.paths, codes.split, strict=True) if side == "test"} == set(split.test_paths)
    assert codes.bits == 12
    stored = arrays(run_dir / "activations.npz")
    assert stored["paths"].tolist() == codes.paths
    assert (pack(stored["activations"] > 0.5) == codes.codes).all()
    config, inputs = run.config, run.inputs
    assert (config.bits, config.batch_size, config.iterations, config.alpha) == (12, 9, 150, 0.2)
    assert (inputs.train_images, inputs.test_images, inputs.contaminated) == (24, 16, 0)
    assert run.outcome.files == {
        name: files.sha256_of(run_dir / name) for name in ("model.keras", "history.csv", "codes.npz", "activations.npz")
    }
    with (run_dir / "history.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["iteration"] for row in rows] == ["100", "150"]
    assert list(rows[0]) == ["iteration", "total", "triplet", "push", "balance", "active", "distinct_codes"]


def test_the_saved_model_makes_the_stored_activations(trained):
    model = keras.models.load_model(trained / "K12/model.keras", safe_mode=True, compile=False)
    found = model(read_features(trained).vectors).numpy()
    np.testing.assert_allclose(found, arrays(trained / "K12/activations.npz")["activations"], atol=1e-6)


def test_training_brings_classes_together(trained):
    codes = formats.read_codes(trained / "K12")
    near = distances(codes.codes, codes.codes)
    same = codes.labels[:, None] == codes.labels
    assert near[same].mean() < 0.5 * near[~same].mean()


def test_a_finished_run_is_left_alone_without_tensorflow(trained, run_script):
    before = {file.name: file.stat().st_mtime_ns for file in (trained / "K12").iterdir()}
    again = run_script("trainer.py", *FLAGS, "--dump_dir", trained)
    assert again.returncode == 0, again.stderr
    assert "done already" in again.stdout
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
        (("--BATCH_SIZE=1026", "--run_name=b"), ["--BATCH_SIZE=1026", "24 training images", "at most 1024"]),
        (("--BATCH_SIZE=9", "--ITERS=149"), ["another run", "iterations 150 there, 149 now", "--run_name"]),
        (("--BATCH_SIZE=12", "--ITERS=150"), ["batch_size 9 there, 12 now"]),
        (("--BATCH_SIZE=9", "--ITERS=150", "--ALPHA=0.3"), ["alpha 0.2 there, 0.3 now"]),
        (("--BATCH_SIZE=9", "--ITERS=150", "--seed=4"), ["seed 0 there, 4 now"]),
        (("--BATCH_SIZE=9", "--ITERS=150", "--train_test_split=0.5"), ["0.5", "0.6", "split.npz"]),
        (("--BATCH_SIZE=91",), ["multiple of 3", "90 or 93"]),
        (("--BATCH_SIZE=0",), ["BATCH_SIZE"]),
        (("--HASH_BITS=0",), ["HASH_BITS"]),
        (("--HASH_BITS=8,8",), ["twice"]),
        (("--ALPHA=0",), ["margin"]),
        (("--ALPHA=nan",), ["margin"]),
        (("--HASH_BITS=8,16", "--run_name=one"), ["--run_name"]),
        (("--run_name=../out",), ["not the name of a folder"]),
        (("--loss=softmax",), ["--loss"]),
        (("--patience=3",), ["--validate"]),
        (("--HASH_BITS=1", "--loss=orthohash"), ["1 bits make 2 codes", "HASH_BITS"]),
    ],
)
def test_mistakes_are_one_line(trained, run_script, users_mistake, flags, words):
    users_mistake(run_script("trainer.py", "--HASH_BITS=12", "--dump_dir", trained, *flags), *words)


def copied(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def test_changed_features_are_noticed(trained, tmp_path, run_script, users_mistake):
    folder = copied(trained, tmp_path)
    features = read_features(folder)
    features.vectors[0] += 1
    write_features(folder, features)
    users_mistake(run_script("trainer.py", *FLAGS, "--dump_dir", folder), "features_sha256", "--run_name")


def test_each_run_of_a_sweep_names_the_features_that_it_was_trained_on(tmp_path, monkeypatch):
    write_inputs(tmp_path)
    before = {name: files.sha256_of(tmp_path / name) for name in ("features.npz", "split.npz")}

    def train_and_replace(*arguments, **options):
        loop_train(*arguments, **options)
        features = read_features(tmp_path)
        write_features(tmp_path, Features(features.vectors + 1, features.images))

    loop_train = loop.train
    monkeypatch.setattr(loop, "train", train_and_replace)
    train_here("--HASH_BITS=4,5", "--BATCH_SIZE=6", "--ITERS=2", "--dump_dir", tmp_path)
    assert files.sha256_of(tmp_path / "features.npz") != before["features.npz"]
    for name in ("K4", "K5"):
        inputs = runs.read_record(tmp_path / name).inputs
        assert inputs.features_sha256 == before["features.npz"]
        assert inputs.split_sha256 == before["split.npz"]


def test_a_changed_split_is_noticed(trained, tmp_path, run_script, users_mistake):
    folder = copied(trained, tmp_path)
    table = read_image_table(folder)
    formats.write_split(folder / "split.npz", splits.stratified_split(table.paths, table.labels, 0.6, 5))
    users_mistake(run_script("trainer.py", *FLAGS, "--dump_dir", folder), "split_seed 0 there, 5 now")


@pytest.mark.parametrize("name", ["model.keras", "codes.npz", "activations.npz", "history.csv"])
def test_a_changed_file_of_a_finished_run_is_noticed(trained, tmp_path, run_script, users_mistake, name):
    folder = copied(trained, tmp_path)
    path = folder / "K12" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    users_mistake(run_script("trainer.py", *FLAGS, "--dump_dir", folder), name, "changed after training")


def test_missing_inputs_name_their_command(tmp_path, run_script, users_mistake):
    users_mistake(run_script("trainer.py", "--dump_dir", tmp_path), "features.npz", "extract_features.py")
    write_inputs(tmp_path)
    (tmp_path / "split.npz").unlink()
    users_mistake(run_script("trainer.py", "--dump_dir", tmp_path), "split.npz", "dataset_generator.py")


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


def test_orthohash_is_a_run_of_the_same_files_and_the_same_codes_again(trained):
    flags = ("--loss=orthohash", "--HASH_BITS=12", "--BATCH_SIZE=10", "--ITERS=120", "--validate=0.2", "--patience=9")
    for more in ((), ("--run_name=once_more",)):
        train_here(*flags, *more, "--dump_dir", trained)
    run_dir, again = trained / "K12_orthohash", trained / "once_more"
    run = runs.read_record(run_dir)
    assert (run.config.loss, run.config.validate, run.config.patience) == ("orthohash", 0.2, 9)
    assert run.outcome.best_iteration in (100, 120)
    assert set(run.outcome.files) == {"model.keras", "history.csv", "codes.npz", "activations.npz"}
    assert len(formats.read_codes(run_dir).paths) == CLASSES * PER_CLASS
    header = (run_dir / "history.csv").read_text().splitlines()[0]
    assert header == "iteration,total,accuracy,distinct_codes,validation_mAP@20"
    assert_same_run(run_dir, again)


def test_bfloat16_saves_a_network_that_computes_in_float32(trained):
    train_here(*FLAGS, "--precision=bfloat16", "--run_name=rough", "--dump_dir", trained)
    assert runs.read_record(trained / "rough").config.precision == "bfloat16"
    model = keras.models.load_model(trained / "rough/model.keras", safe_mode=True, compile=False)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    found, exact = (arrays(trained / name / "activations.npz")["activations"] for name in ("rough", "K12"))
    assert 0 < np.abs(found - exact).max() < 0.2


def test_an_unknown_seed_of_several_splits_is_refused(tmp_path, run_script, users_mistake):
    write_inputs(tmp_path, seeds=(3, 4))
    users_mistake(run_script("trainer.py", "--seed=5", "--dump_dir", tmp_path), "split_seed3", "not for 5")


def test_images_on_both_sides_count_as_test_images(tmp_path):
    write_inputs(tmp_path, rule=splits.published_aid_split)
    train_here("--HASH_BITS=4", "--BATCH_SIZE=6", "--ITERS=5", "--dump_dir", tmp_path)
    split, codes = formats.read_split(tmp_path / "split.npz"), formats.read_codes(tmp_path / "K4")
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
    formats.write_split(tmp_path / "split.npz", Split(train, test, 0.5, 0, "lists"))
    console = train_here("--HASH_BITS=4", "--BATCH_SIZE=6", "--ITERS=5", f"--loss={loss}", "--dump_dir", tmp_path)
    assert any("only be a negative: class0" in line for line in console.warned) == warned
    assert any("2 images that could not be read" in line for line in console.warned)


@pytest.mark.parametrize(
    ("loss", "words"), [("mhcln", "no triplets .* 1 classes"), ("semihard", "one class"), ("orthohash", "one class")]
)
def test_one_class_cannot_be_trained(tmp_path, loss, words):
    paths = write_inputs(tmp_path).images.paths
    formats.write_split(tmp_path / "split.npz", Split(paths[:6], paths[6:], 0.15, 0, "lists"))
    with pytest.raises(UserError, match=words):
        train_here(f"--loss={loss}", "--run_name=one", "--dump_dir", tmp_path)
    assert not (tmp_path / "one/run.json").exists()


def test_more_iterations_train_on_to_what_all_at_once_give(tmp_path):
    for name in ("on", "once"):
        write_inputs(tmp_path / name)
    flags = ("--HASH_BITS=4", "--BATCH_SIZE=6")
    train_here(*flags, "--ITERS=200", "--dump_dir", tmp_path / "on")
    console = train_here(*flags, "--ITERS=300", "--dump_dir", tmp_path / "on")
    assert "continuing after iteration 200" in " ".join(console.said)
    train_here(*flags, "--ITERS=300", "--dump_dir", tmp_path / "once")
    assert_same_run(tmp_path / "on" / "K4", tmp_path / "once" / "K4")
    with pytest.raises(UserError, match="iterations 300 there, 200 now"):
        train_here(*flags, "--ITERS=200", "--dump_dir", tmp_path / "on")


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
    flags = ("--HASH_BITS=4", "--BATCH_SIZE=6", "--ITERS=300", f"--loss={loss}", "--run_name=run", "--save_seconds=0")
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
        assert (run.config.iterations, run.outcome.iterations_done) == (300, 100)
    assert "done already: 100 iterations" in console.said[-1]
    train_here(*stopped)
    train_here(*flags, "--dump_dir", tmp_path / "whole")
    assert_same_run(tmp_path / "stopped/run", tmp_path / "whole/run")
    assert runs.read_run(tmp_path / "stopped/run").outcome.iterations_done is None


def test_usual_iterations_are_those_of_the_data_set_or_of_the_method():
    aid = datasets.known()["AID"].class_names
    for dataset, classes, iterations in (("own", aid, 10_000), ("AID", aid[:2], 10_000), ("AID", aid, 25_000)):
        labels = np.arange(len(classes), dtype=np.int32)
        images = ImageTable(labels, [f"{name}.tif" for name in classes], list(classes), dataset, "", "")
        assert usual_iterations("mhcln", images) == iterations
        assert usual_iterations("orthohash", images) == usual_iterations("semihard", images) == 2000


def test_killed_at_random_moments_the_same_command_ends_the_same(trained, tmp_path):
    moments, wanted = random.Random(0), int(os.environ.get("MHCLN_KILLS", "3"))
    folder, run_dir = tmp_path / "killed", tmp_path / "killed/K12"
    write_inputs(folder)
    command = [sys.executable, str(REPO_ROOT / "trainer.py"), *FLAGS, "--save_seconds=0", "--dump_dir", str(folder)]
    kills = resumed = finished = 0
    while kills < wanted or not finished:
        resumed += (run_dir / "checkpoints/state.npz").exists()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + 60
        # the first one dies once there is something to continue from, the others at any moment of their work
        sign = run_dir / ("run.json" if kills else "checkpoints/state.npz")
        began = sign.stat().st_mtime_ns if sign.exists() else 0
        while process.poll() is None and not _newer(sign, began):
            assert time.monotonic() < limit
            time.sleep(0.005)
        if kills < wanted:
            time.sleep(moments.random() * 0.8 if kills else 0)
            process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        if process.returncode == 0:
            assert_same_run(run_dir, trained / "K12")
            assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["state.npz"]
            assert not list(run_dir.glob(".part.*"))
            finished += 1
            shutil.rmtree(run_dir)
    assert resumed


def _newer(path, stamp):
    return path.exists() and path.stat().st_mtime_ns > stamp


def test_sigterm_saves_and_leaves_with_its_status(tmp_path):
    folder = tmp_path / "stopped"
    write_inputs(folder)
    command = [sys.executable, str(REPO_ROOT / "trainer.py"), "--dump_dir", str(folder), "--ITERS=1000000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        limit = time.monotonic() + 60
        while not (folder / "K32/run.json").exists():
            assert time.monotonic() < limit
            time.sleep(0.01)
        time.sleep(0.5)
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()) == (143, ["stopped by SIGTERM"])
    assert "saved at iteration" in out
    assert (folder / "K32/checkpoints/state.npz").exists()
    assert not json.loads((folder / "K32/run.json").read_text())["done"]
