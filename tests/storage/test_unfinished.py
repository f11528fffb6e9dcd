"""Checkpoints and batches of unfinished work hold what they should, or are refused in one line or made again."""

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.storage import files, layout
from mhcln.storage.checkpoints import STATE, Checkpoint, Progress
from mhcln.storage.partial_features import SETTINGS, ExtractionJob, Findings, PartialFeatures

OTHERS = [
    np.array(3.5),
    np.zeros((2, 2, 2)),
    np.array(["a", "b"]),
    np.array([["a"], ["b"]]),
    np.array("x"),
    np.arange(3),
    np.zeros(0, np.float32),
]
JOB = ExtractionJob("/images", ["a/1", "a/2"], np.zeros((2, 3), np.int64), "extractor", 2)
BATCH = np.ones((2, 4), np.float32)
PLACE = (tuple((float(x), 0.5) for x in range(5)), "a system")
FOUND = Findings({1: "empty file"}, {0: ("dark 1 2", "unit")}, {0: PLACE})


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize(
    "name",
    [
        "key",
        "features",
        "problem_rows",
        "problem_reasons",
        "remark_rows",
        "place_rows",
        "places",
        "place_crs",
    ],
)
def test_batches_that_hold_something_else_are_made_again(tmp_path, name, other):
    partial = PartialFeatures(tmp_path, JOB)
    partial.resume()
    partial.save(0, BATCH, FOUND)
    assert partial.resume() == ({0: FOUND}, [])
    path = tmp_path / layout.PARTIAL_FEATURES / "batch_000000.npz"
    files.write_npz(path, {**files.read_npz(path, ""), name: other})
    assert partial.resume() == ({}, [])
    assert not path.exists()


@pytest.mark.parametrize(
    "found", [{"problems": {2: "a row of no image"}}, {"remarks": {2: ("unit",)}}, {"places": {-1: PLACE}}]
)
def test_batches_of_other_rows_are_made_again(tmp_path, found):
    partial = PartialFeatures(tmp_path, JOB)
    partial.resume()
    partial.save(0, BATCH, Findings(**found))
    assert partial.resume() == ({}, [])


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", ["images_dir", "paths", "stamps", "extractor", "batch_size"])
def test_settings_that_hold_something_else_are_reported(tmp_path, name, other):
    partial = PartialFeatures(tmp_path, JOB)
    partial.resume()
    path = tmp_path / layout.PARTIAL_FEATURES / SETTINGS
    files.write_npz(path, {**files.read_npz(path, ""), name: other})
    assert partial.resume()[1]
    assert partial.resume() == ({}, [])


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", ["run", "seconds", "history"])
def test_checkpoints_that_hold_something_else_are_refused(tmp_path, name, other):
    checkpoint = Checkpoint(tmp_path, "id")
    for history in ([], [[1.0, 2.0], [3.0, 4.0]]):
        checkpoint.save({"weights": BATCH}, Progress(history, 1.5))
        state, progress = checkpoint.load()
        assert (list(state), progress) == (["weights"], Progress(history, 1.5))
    if (name, other.ndim, other.dtype.kind) != ("seconds", 0, "f"):  # any number is a time
        path = tmp_path / STATE
        files.write_npz(path, {**files.read_npz(path, ""), name: other})
        with pytest.raises(UserError, match=r"state\.npz (does not say|belongs to another).* delete"):
            checkpoint.load()


@pytest.mark.parametrize("name", ["run", "seconds", "history"])
def test_checkpoints_that_lack_something_are_refused(tmp_path, name):
    checkpoint = Checkpoint(tmp_path, "id")
    checkpoint.save({"weights": BATCH}, Progress())
    arrays = files.read_npz(tmp_path / STATE, "")
    del arrays[name]
    files.write_npz(tmp_path / STATE, arrays)
    with pytest.raises(UserError, match=r"state\.npz does not say .*; delete it and train again"):
        checkpoint.load()
