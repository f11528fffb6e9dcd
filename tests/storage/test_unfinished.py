"""Checkpoints and batches of unfinished work hold what they should, or are refused in one line or made again."""

import shutil

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.storage import files, layout
from mhcln.storage.checkpoints import STATE, Checkpoint, Progress
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.partial_features import SETTINGS, Findings, PartialFeatures

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


def test_a_batch_of_a_job_is_saved_from_its_part_as_from_the_whole(tmp_path):
    """What a worker is given, one batch, has the rows, the key and the file that the whole job has for it."""
    stamps = np.arange(15, dtype=np.int64).reshape(5, 3)
    job = ExtractionJob("/images", [f"a/{row}" for row in range(5)], stamps, "extractor", 2)
    whole = PartialFeatures(tmp_path, job)
    whole.resume()
    for number, count in enumerate((2, 2, 1)):
        part = job.batch(number)
        assert part.rows(number) == job.rows(number)
        assert [part.path(row) for row in part.rows(number)] == [job.path(row) for row in job.rows(number)]
        assert part.key(part.rows(number)) == part.key() == job.key(job.rows(number))
        assert part.batch(number).key() == part.key()
        found = Findings({job.rows(number)[-1]: "empty file"})
        PartialFeatures(tmp_path, part).save(number, BATCH[:count], found)
        assert whole._read(number)[1] == found
    assert whole.resume() == ({number: Findings({row: "empty file"}) for number, row in enumerate((1, 3, 4))}, [])


def test_a_folder_is_gone_at_once_however_far_its_removal_comes(tmp_path, monkeypatch):
    partial = PartialFeatures(tmp_path, JOB)
    partial.resume()

    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        partial.remove()
    monkeypatch.undo()
    assert not partial.folder.exists()
    with files.locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [files.LOCK]


def test_two_that_write_one_batch_at_the_same_time_leave_it_whole(tmp_path, monkeypatch):
    partial = PartialFeatures(tmp_path, JOB)
    partial.resume()
    write, inner = files.write_arrays, []

    def write_while_another_does(handle, arrays):
        if not inner:
            inner.append(handle)
            PartialFeatures(tmp_path, JOB).save(0, BATCH, FOUND)
        write(handle, arrays)

    monkeypatch.setattr(files, "write_arrays", write_while_another_does)
    partial.save(0, BATCH, FOUND)
    assert inner
    assert partial.resume() == ({0: FOUND}, [])
    assert sorted(path.name for path in partial.folder.iterdir()) == ["batch_000000.npz", SETTINGS]
