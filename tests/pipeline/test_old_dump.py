"""A dump folder of an earlier version (commit a6ae385): features, splits and codes are read, runs refused in one line.

`old_dump/` holds the features of 24 drawn scenes, two splits and the runs K8 and K8_orthohash, without their networks.
"""

import json
import shutil
from pathlib import Path

import pytest
from conftest import run_here

from mhcln.evaluation.definitions import metric_names
from mhcln.storage import layout
from mhcln.storage.features import read_features
from mhcln.storage.results import read_results
from mhcln.storage.split import read_split

STORED = Path(__file__).parent / "old_dump/dump"


@pytest.fixture
def old(tmp_path) -> Path:
    return Path(shutil.copytree(STORED, tmp_path / "old"))


def test_features_and_splits_are_read():
    features, split = read_features(STORED), read_split(STORED / layout.SPLIT)
    assert (features.vectors.shape, len(features.images)) == ((24, 12), 24)
    assert (len(split.train_paths), len(split.test_paths), split.rule) == (15, 9, "stratified")


def test_the_same_flags_draw_the_same_splits(old):
    run_here("dataset_generator.py", "--seed=0,1", f"--dump_dir={old}")
    for name in ("split.npz", "split_seed0.npz", "split_seed1.npz"):
        assert read_split(old / name) == read_split(STORED / name)


@pytest.mark.parametrize("run", ["K8", "K8_orthohash"])
def test_runs_are_refused_and_codes_without_a_record_have_the_same_metrics(old, evaluate, users_mistake, run):
    flags = (f"--dump_dir={old}", "--k=5", f"--run_name={run}", "--interval=0")
    advice = f"{run}/run.json is of another format than 2, which this version reads; make it with trainer.py once"
    users_mistake(evaluate(*flags), advice, f"{run} is deleted")
    (old / run / layout.RUN).unlink()
    done = evaluate(*flags)
    assert done.returncode == 0, done.stderr
    written, results = json.loads((STORED / run / layout.RESULTS).read_text()), read_results(old / run)
    assert {name: results[name] for name in metric_names(5)} == pytest.approx(
        {name: written[name] for name in metric_names(5)}
    )
