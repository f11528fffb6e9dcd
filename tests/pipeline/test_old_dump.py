"""A dump folder that the code before the package had rooms wrote (commit a6ae385) is read, and continued, by today's.

`old_dump/` holds 24 drawn scenes of 24x24 pixels, a small graph, and what the four scripts of that commit made of them:
two splits, the runs K8 (without its model.keras, which is large) and K8_orthohash (with an added image), and a run that
was stopped at iteration 2,100 of 4,000. The oldest TensorFlow that requirements.txt allows made it, since a newer Keras
writes models that an older one cannot read.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mhcln.evaluation.definitions import metric_names
from mhcln.storage import formats, layout, runs
from mhcln.storage.archive import load_archive
from mhcln.storage.features import read_features
from mhcln.storage.results import read_results

STORED = Path(__file__).parent / "old_dump"


@pytest.fixture
def old(tmp_path) -> Path:
    return Path(shutil.copytree(STORED, tmp_path / "old"))


def rounded(text: str) -> dict:
    """A JSON object, its fractions without the last digits, in which processors differ."""
    return json.loads(text, parse_float=lambda digits: round(float(digits), 9))


def stored_results(run: str) -> dict:
    return rounded((STORED / "dump" / run / "results.json").read_text(encoding="utf-8"))


def test_every_file_is_read():
    dump = STORED / "dump"
    features, split = read_features(dump), formats.read_split(dump / layout.SPLIT)
    assert (features.vectors.shape, len(features.images)) == ((24, 12), 24)
    assert (len(split.train_paths), len(split.test_paths), split.rule) == (15, 9, "stratified")
    run = runs.read_run(dump / "K8_orthohash")
    assert (run.config.loss, run.config.validate, run.outcome.best_iteration) == ("orthohash", 0.3, 100)
    assert run.inputs.extractor == features.images.extractor
    assert list(runs.read_history(run)) == ["iteration", "total", "accuracy", "distinct_codes", "validation_mAP@20"]
    assert formats.read_activations(run.folder, 8).activations.shape == (24, 8)
    assert len(load_archive(run, "all", run.codes.class_names)) == 25
    results, written = read_results(run.folder), stored_results("K8_orthohash")
    assert results.metrics == pytest.approx({name: written[name] for name in metric_names(5)})
    assert (results.inputs, results.config.bits, results.k) == (run.inputs, 8, 5)


@pytest.mark.parametrize("run", ["K8", "K8_orthohash"])
def test_evaluation_gives_the_same_results(old, evaluate, run):
    done = evaluate(f"--dump_dir={old / 'dump'}", f"--run_name={run}", "--k=5", "--interval=0")
    assert done.returncode == 0, done.stderr
    written, results = stored_results(run), rounded(json.dumps(read_results(old / "dump" / run).to_json()))
    results["costs"] = [cost for cost in results["costs"] if cost["what"] != "signs"]  # not known then
    changing = {"search_seconds", "checksum", "format", "definitions"}
    assert {name: results[name] for name in written if name not in changing} == {
        name: value for name, value in written.items() if name not in changing
    }


def test_the_same_flags_draw_the_same_splits(old, run_script):
    done = run_script("dataset_generator.py", "--seed=0,1", f"--dump_dir={old / 'dump'}")
    assert done.returncode == 0, done.stderr
    for name in ("split.npz", "split_seed0.npz", "split_seed1.npz"):
        assert formats.read_split(old / "dump" / name) == formats.read_split(STORED / "dump" / name)


def test_the_table_holds_both_runs(old, evaluate):
    done = evaluate(f"--dump_dir={old / 'dump'}", "--table", "--k=5")
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ")[:3] for line in done.stdout.splitlines() if line.startswith("| scenes")]
    assert [[cell.strip() for cell in row] for row in rows[:2]] == [
        ["| scenes", "MHCLN [1]", "clean"],
        ["| scenes", "OrthoHash [1]", "clean"],
    ]


def test_a_finished_run_is_known_and_a_stopped_one_would_continue_with_other_draws(old, run_script, users_mistake):
    flags = ("--HASH_BITS=8", "--BATCH_SIZE=9", "--loss=orthohash", f"--dump_dir={old / 'dump'}")
    done = run_script("trainer.py", *flags, "--ITERS=120", "--validate=0.3")
    assert "K8_orthohash is done already" in done.stdout, done.stderr
    stopped = old / "dump" / "interrupted"
    again = (*flags, "--ITERS=4000", "--run_name=interrupted")
    users_mistake(run_script("trainer.py", *again), f"belongs to another configuration; delete the folder {stopped}")
    shutil.rmtree(stopped)  # as the line advises
    assert run_script("trainer.py", *again).returncode == 0
    history = runs.read_history(runs.read_run(stopped))
    assert history["iteration"] == list(range(100, 4001, 100))


def test_a_query_finds_the_same_scenes(old, run_script):
    query = old / "scenes" / "forest" / "forest1.png"
    flags = (f"--model_dir={old / 'model'}", f"--images_dir={old / 'scenes'}", f"--dump_dir={old / 'dump'}")
    done = run_script("eval.py", "--run_name=K8_orthohash", f"--query={query}", "--k=5", *flags)
    assert done.returncode == 0, done.stderr
    place = Path("dump/K8_orthohash/queries/query_forest1.json")
    found, written = (json.loads((folder / place).read_text(encoding="utf-8"))["found"] for folder in (old, STORED))
    assert [entry["distance"] for entry in found] == [entry["distance"] for entry in written]
    last = found[-1]["distance"]  # at which another of several may be shown, as equals are now ordered by activations
    near, near_then = ({e["path"] for e in entries if e["distance"] < last} for entries in (found, written))
    assert near == near_then
    assert np.diff([entry["distance"] for entry in found]).min() >= 0
