"""Checkpoints and batches of unfinished work come back; batches of other work are made again."""

import shutil

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.storage import files
from mhcln.storage.checkpoints import STATE, Checkpoint, Progress
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.image_info import ImageInfo
from mhcln.storage.partial_features import PartialFeatures

JOB = ExtractionJob("/images", ["a/1", "a/2", "a/3"], np.zeros((3, 3), np.int64), "extractor", 3)
BATCH = np.ones((3, 4), np.float32)
INFOS = [
    ImageInfo(warnings=("dark 1 2", "unit"), lonlat=tuple((float(x), 0.5) for x in range(5))),
    ImageInfo(checksum=3),
    ImageInfo("empty file"),
]


def test_a_checkpoint_comes_back_for_its_run_only(tmp_path):
    checkpoint = Checkpoint(tmp_path, "id")
    for history in ([], [[1.0, 2.0], [3.0, 4.0]]):
        checkpoint.save({"weights": BATCH}, Progress(history, 1.5))
        state, progress = checkpoint.load()
        assert (list(state), progress) == (["weights"], Progress(history, 1.5))
    path, stored = tmp_path / STATE, files.read_npz(tmp_path / STATE, "")
    del stored["run"]
    for other in ({"run": "other"}, {"run": np.ones(2)}, {}):
        files.write_npz(path, {**stored, **other})
        with pytest.raises(UserError, match=r"state\.npz belongs to another configuration; delete the folder"):
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
        PartialFeatures(tmp_path, part).save(number, BATCH[:count], INFOS[-count:])
    assert whole.resume() == ({0: INFOS[1:], 1: INFOS[1:], 2: INFOS[2:]}, 0)


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

    def write_while_another_does(handle, arrays, aligned):
        if not inner:
            inner.append(handle)
            PartialFeatures(tmp_path, JOB).save(0, BATCH, INFOS)
        write(handle, arrays, aligned)

    monkeypatch.setattr(files, "write_arrays", write_while_another_does)
    partial.save(0, BATCH, INFOS)
    assert inner
    assert partial.resume() == ({0: INFOS}, 0)
    assert sorted(path.name for path in partial.folder.iterdir()) == ["batch_000000.npz"]
