"""Methods in closed form as a user runs them, and images without classes from the folder to the query."""

import json
import shutil

import numpy as np
import pytest
from conftest import RecordingConsole
from factories import image_table, separable_features, write_training_inputs

import mhcln
import trainer
from mhcln.console import UserError
from mhcln.data import splits
from mhcln.quiet_tensorflow import keras
from mhcln.storage import formats, layout, runs
from mhcln.storage.features import read_features
from mhcln.storage.features_file import Features
from mhcln.storage.results import read_results

WITHOUT_LABELS = {"itq": 6, "lsh": 6, "sign": 12}  # and the bits of a code of features of width 12
SOLVED = {"sdh": 6, **WITHOUT_LABELS}


def train_here(*flags) -> RecordingConsole:
    console = RecordingConsole()
    trainer.main(trainer.parser().parse_args([str(flag) for flag in flags]), console)
    return console


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
    run, codes = runs.read_run(folder), formats.read_codes(folder)
    assert (run.config.iterations, run.config.batch_size, run.config.alpha) == (0, 0, 0)
    assert set(run.outcome.files) == set(layout.TRAINED)
    assert (folder / "history.csv").read_text().splitlines()[0] == "iteration,distinct_codes"
    model = keras.models.load_model(folder / "model.keras", safe_mode=True, compile=False)
    vectors = read_features(dump_dir).vectors
    stored = formats.read_activations(folder, bits).activations
    np.testing.assert_allclose(model(vectors).numpy(), stored, atol=1e-6)
    assert (mhcln.Hasher.load(folder).encode(vectors) == codes.codes).all()
    assert "done already" in train_here(*flags).said[-1]
    train_here(*flags, "--run_name=again")
    assert (dump_dir / "again/codes.npz").read_bytes() == (folder / "codes.npz").read_bytes()


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


@pytest.mark.parametrize(("loss", "bits"), [*SOLVED.items(), ("orthohash", 6)])
def test_each_evaluation_says_what_the_signs_of_the_features_are_worth(dump_dir, evaluate, loss, bits):
    batches = ("--BATCH_SIZE=6", "--ITERS=5") if loss == "orthohash" else ()
    train_here(f"--loss={loss}", f"--HASH_BITS={bits}", *batches, "--dump_dir", dump_dir)
    assert evaluate("--k=5", "--interval=0", "--dump_dir", dump_dir).returncode == 0
    costs = {cost.what: cost for cost in read_results(dump_dir / f"K{bits}_{loss}").costs}
    features, split = read_features(dump_dir), formats.read_split(dump_dir / "split.npz")
    signs = mhcln.fit(features, split, mhcln.TrainConfig(bits=12, loss="sign")).encode_split(features, split)
    metrics = mhcln.evaluate(signs, k=5).metrics
    assert (costs["signs"].stored, costs["signs"].bytes_per_image) == ("12 bits", 2)
    assert costs["signs"].metrics == pytest.approx({name: metrics[name] for name in costs["signs"].metrics})


def test_signs_are_of_all_features(dump_dir):
    with pytest.raises(UserError, match="a bit of each of the 12 features; give --HASH_BITS=12"):
        train_here("--loss=sign", "--dump_dir", dump_dir)


def test_training_in_memory_gives_the_codes_of_the_script(dump_dir):
    train_here("--loss=itq", "--HASH_BITS=6", "--dump_dir", dump_dir)
    features, split = read_features(dump_dir), formats.read_split(dump_dir / "split.npz")
    hasher = mhcln.fit(features, split, mhcln.TrainConfig(bits=6, loss="itq"))
    assert (hasher.encode_split(features, split).codes == formats.read_codes(dump_dir / "K6_itq").codes).all()
    assert mhcln.evaluate(hasher.encode_split(features, split), k=5).metrics["mAP@5"] > 0.6


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
    same = formats.Split(*sides, 0.6, 0, "lists")
    for loss, bits in WITHOUT_LABELS.items():
        config = mhcln.TrainConfig(bits=bits, loss=loss)
        one, other = mhcln.fit(features, same, config), mhcln.fit(bare, split, config)
        assert (one.encode(features.vectors) == other.encode(features.vectors)).all()


@pytest.mark.parametrize("loss", ["mhcln", "semihard", "orthohash", "sdh"])
def test_a_loss_that_needs_classes_names_those_that_do_not(tmp_path, loss):
    write_training_inputs(tmp_path, unlabelled(separable_features()))
    with pytest.raises(UserError, match=r"no classes.*--loss=itq, --loss=lsh, --loss=sign need none"):
        train_here(f"--loss={loss}", "--dump_dir", tmp_path)


def test_a_flat_folder_is_searched_after_four_commands(pipeline, tmp_path, run_script, users_mistake):
    flat, dump = tmp_path / "flat", tmp_path / "dump"
    flat.mkdir()
    for path in (pipeline / "images").glob("*/*.tif"):
        shutil.copy(path, flat)
    model = ("--model_dir", pipeline / "model", "--images_dir", flat)
    refused = run_script("extract_features.py", *model, "--dump_dir", dump)
    users_mistake(refused, "no class folders", "--unlabelled")
    query = sorted(flat.iterdir())[0]
    for script, *flags in (
        ("extract_features.py", "--unlabelled", *model),
        ("dataset_generator.py",),
        ("trainer.py", "--loss=itq", "--HASH_BITS=6"),
        ("eval.py", f"--query={query}", "--k=5"),
    ):
        done = run_script(script, *flags, "--dump_dir", dump)
        assert done.returncode == 0, done.stderr
    found = json.loads((dump / f"K6_itq/queries/query_{query.stem}.json").read_text())
    assert found["found"][0]["distance"] == 0
    assert query.name in [each["path"] for each in found["found"]]
    for flags in ((), ("--table",)):
        result = run_script("eval.py", "--k=5", *flags, "--dump_dir", dump)
        users_mistake(result, "no classes", "--query")
    users_mistake(run_script("trainer.py", "--dump_dir", dump), "no classes", "--loss=itq")
    users_mistake(run_script("dataset_generator.py", "--rule=published-aid", "--dump_dir", dump), "by class", "none")
