"""Methods in closed form as a user runs them, and images without classes from the folder to the query."""

import dataclasses
import functools
import json
import shutil

import numpy as np
import pytest
from conftest import run_here
from factories import image_table, separable_features, write_training_inputs

import mhcln
from mhcln.console import UserError
from mhcln.data import splits
from mhcln.storage import layout, runs
from mhcln.storage.features import Features, read_features, write_features
from mhcln.storage.files import read_npz
from mhcln.storage.results import read_results
from mhcln.storage.split import Split, read_split

WITHOUT_LABELS = {"itq": 6, "lsh": 6, "sign": 12}  # and the bits of a code of features of width 12
SOLVED = {"sdh": 6, **WITHOUT_LABELS}


train_here = functools.partial(run_here, "trainer.py")


def unlabelled(features: Features) -> Features:
    paths = [path.replace("/", "_") for path in features.images.paths]
    return Features(features.vectors, image_table(paths, np.full(len(paths), -1), []))


@pytest.fixture
def dump_dir(tmp_path):
    write_training_inputs(tmp_path, separable_features())
    return tmp_path


@pytest.mark.parametrize(("loss", "bits"), SOLVED.items())
def test_a_run_leaves_the_usual_files_and_the_same_ones_again(dump_dir, loss, bits):
    flags = (f"--loss={loss}", f"--HASH_BITS={bits}", "--dump_dir", dump_dir)
    train_here(*flags)
    folder = dump_dir / f"K{bits}_{loss}"
    run, features = runs.read_run(folder), read_features(dump_dir)
    assert (run.config.iterations, run.config.batch_size, run.config.alpha) == (0, 0, 0)
    assert set(run.outcome.files) == set(layout.TRAINED)
    assert (folder / "history.csv").read_text().splitlines()[0] == "iteration,distinct_codes"
    stored = read_npz(folder / "activations.npz", "")["activations"]
    hasher = mhcln.Hasher.load(folder)
    assert (hasher.activations(features.vectors) == stored).all()
    assert (hasher.encode(features.vectors) == run.codes.codes).all()
    assert train_here(*flags).said[-1] == f"{folder} is done already, nothing to do"
    train_here(*flags, "--run_name=again")
    assert (dump_dir / "again/codes.npz").read_bytes() == (folder / "codes.npz").read_bytes()
    split = read_split(dump_dir / "split.npz")
    in_memory = mhcln.fit(features, split, mhcln.TrainConfig(bits=bits, loss=loss)).encode_split(features, split)
    assert (in_memory.codes == run.codes.codes).all()
    assert mhcln.evaluate(in_memory, k=5).metrics["mAP@5"] > 0.6


def test_a_run_that_was_killed_is_done_again(dump_dir, monkeypatch):
    flags = ("--loss=itq", "--HASH_BITS=6", "--dump_dir", dump_dir)
    monkeypatch.setattr(runs, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train_here(*flags)
    with pytest.raises(UserError, match="not trained to the end"):
        runs.read_run(dump_dir / "K6_itq")
    monkeypatch.undo()
    train_here(*flags)
    assert len(runs.read_run(dump_dir / "K6_itq").codes.paths) == 40


@pytest.mark.parametrize("flag", ["--ALPHA=0.2", "--BATCH_SIZE=90", "--ITERS=10", "--validate=0.1", "--precision=tf32"])
def test_flags_of_iterations_mean_nothing(dump_dir, flag):
    with pytest.raises(UserError, match=f"--loss=itq has no use for {flag.split('=')[0]}"):
        train_here("--loss=itq", flag, "--dump_dir", dump_dir)
    with pytest.raises(UserError, match="no interrupted training to --finish"):
        train_here("--loss=itq", "--HASH_BITS=4", "--finish", "--dump_dir", dump_dir)
    assert not list(dump_dir.glob("K*/run.json"))


@pytest.mark.parametrize(("loss", "bits"), [("sign", 12), ("orthohash", 6)])
def test_each_evaluation_says_what_the_signs_of_the_features_are_worth(dump_dir, evaluate, loss, bits):
    batches = ("--BATCH_SIZE=6", "--ITERS=5") if loss == "orthohash" else ()
    train_here(f"--loss={loss}", f"--HASH_BITS={bits}", *batches, "--dump_dir", dump_dir)
    assert evaluate("--k=5", "--interval=0", "--dump_dir", dump_dir).returncode == 0
    costs = {cost.pop("what"): cost for cost in read_results(dump_dir / f"K{bits}_{loss}")["costs"]}
    features, split = read_features(dump_dir), read_split(dump_dir / "split.npz")
    signs = mhcln.fit(features, split, mhcln.TrainConfig(bits=12, loss="sign")).encode_split(features, split)
    metrics = mhcln.evaluate(signs, k=5).metrics
    assert (costs["signs"].pop("stored"), costs["signs"].pop("bytes_per_image")) == ("12 bits", 2)
    assert costs["signs"] == pytest.approx({name: metrics[name] for name in costs["signs"]})


@pytest.mark.parametrize("loss", ["itq", "lsh"])
def test_weights_that_are_not_finite_make_no_network(dump_dir, loss):
    features = read_features(dump_dir)
    write_features(dump_dir, dataclasses.replace(features, vectors=features.vectors * np.float32(1e-41)))
    with pytest.raises(UserError, match=f"--loss={loss} finds no network for these features"):
        train_here(f"--loss={loss}", "--HASH_BITS=6", "--dump_dir", dump_dir)
    assert not list(dump_dir.glob("K*/run.json"))


def test_a_table_says_closed_form(dump_dir, evaluate):
    train_here("--loss=itq", "--HASH_BITS=6", "--dump_dir", dump_dir)
    assert evaluate("--k=5", "--interval=0", "--dump_dir", dump_dir).returncode == 0
    assert evaluate("--table", "--k=5", "--dump_dir", dump_dir).returncode == 0
    table = (dump_dir / "table.md").read_text()
    assert "ITQ" in table
    assert "closed form, float32" in table


def test_labels_are_not_looked_at(dump_dir):
    features = read_features(dump_dir)
    bare = unlabelled(features)
    split = splits.stratified_split(bare.images.paths, bare.images.labels, 0.6, 0)
    assert (split.rule, len(split.train_paths), len(split.test_paths)) == ("random", 24, 16)
    named = dict(zip(bare.images.paths, features.images.paths, strict=True))
    sides = ([named[path] for path in side] for side in (split.train_paths, split.test_paths))
    same = Split(*sides, 0.6, 0, "lists")
    for loss, bits in WITHOUT_LABELS.items():
        config = mhcln.TrainConfig(bits=bits, loss=loss)
        one, other = mhcln.fit(features, same, config), mhcln.fit(bare, split, config)
        assert (one.encode(features.vectors) == other.encode(features.vectors)).all()


@pytest.mark.parametrize("loss", ["mhcln", "semihard", "orthohash", "sdh"])
def test_a_loss_that_needs_classes_names_those_that_do_not(tmp_path, loss):
    write_training_inputs(tmp_path, unlabelled(separable_features()))
    with pytest.raises(UserError, match=r"no classes.*--loss=itq, --loss=lsh, --loss=sign need none"):
        train_here(f"--loss={loss}", "--dump_dir", tmp_path)


def test_a_flat_folder_is_searched_after_four_commands(pipeline, tmp_path, run_in_process, users_mistake):
    flat, dump = tmp_path / "flat", tmp_path / "dump"
    flat.mkdir()
    for path in (pipeline / "images").glob("*/*.tif"):
        shutil.copy(path, flat)
    model = ("--model_dir", pipeline / "model", "--images_dir", flat)

    def run(script: str, *flags: object):
        return run_in_process(script, *flags, "--dump_dir", dump)

    users_mistake(run("extract_features.py", *model), "no class folders", "--unlabelled")
    query = sorted(flat.iterdir())[0]
    for script, *flags in (
        ("extract_features.py", "--unlabelled", *model),
        ("dataset_generator.py",),
        ("trainer.py", "--loss=itq", "--HASH_BITS=6"),
        ("eval.py", f"--query={query}", "--k=5"),
    ):
        done = run(script, *flags)
        assert done.returncode == 0, done.stderr
    found = json.loads((dump / f"K6_itq/queries/query_{query.stem}.json").read_text())
    assert found["found"][0]["distance"] == 0
    assert query.name in [each["path"] for each in found["found"]]
    for flags in ((), ("--table",)):
        users_mistake(run("eval.py", "--k=5", *flags), "no classes", "--query")
    users_mistake(run("dataset_generator.py", "--rule=published-aid"), "by class", "none")
