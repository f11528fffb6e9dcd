"""A worker, called as Ray calls it: it computes as one process does, and refuses other files than the command's."""

import errno
import os
import pickle
import shutil
import socket
from pathlib import Path

import graphs
import pytest
from factories import draw_images

from mhcln.backbone.backbone import recipe_of
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import UserError
from mhcln.device import versions
from mhcln.pipeline.feature_batches import ThisProcess, compute_missing
from mhcln.pipeline.worker import PACKAGE, Worker, package_checksum
from mhcln.quiet_tensorflow import tf
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.partial_features import PartialFeatures

MARK = "mark"


@pytest.fixture(autouse=True)
def threads(monkeypatch) -> list[int]:
    """Numbers of threads that were set; this process computes already and keeps its own."""
    numbers = []
    for name in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        monkeypatch.setattr(tf.config.threading, name, numbers.append)
    return numbers


def opened(file: Path, recipe=None, package: str | None = None) -> Worker:
    options = BackboneOptions(file)
    return Worker(package or package_checksum(), recipe or recipe_of(file, options), options, 3, 0)


@pytest.fixture
def file(model_dir) -> Path:
    return model_dir / "classify_image_graph_def.pb"


@pytest.fixture
def partial(tmp_path, file) -> PartialFeatures:
    """A job of three batches; an image of the second is empty, another is gone."""
    (tmp_path / "images").mkdir()
    paths = draw_images(tmp_path / "images", 9)
    paths[4].write_bytes(b"")
    paths[5].unlink()
    extractor = str(recipe_of(file, BackboneOptions(file)))
    job = ExtractionJob.of_files(tmp_path / "images", [path.name for path in paths], extractor, 3)
    partial = PartialFeatures(tmp_path, job)
    partial.resume()
    (partial.folder / MARK).touch()
    return partial


def computed(worker: Worker, partial: PartialFeatures, batch: int = 0, on_broken: str = "stop", mark: str = MARK):
    return worker.compute(PartialFeatures(partial.folder.parent, partial.job.batch(batch)), batch, on_broken, mark)


def test_a_worker_computes_the_batches_of_one_process(tmp_path, file, partial, backbone, console, threads):
    worker = opened(file)
    assert threads == [3, 3]
    assert worker.about() == ("CPU", "; ".join(f"{name}={version}" for name, version in versions().items()))
    for on_broken, saved in (("stop", False), ("list", False), ("skip", True)):
        assert [bool(info.error) for info in computed(worker, partial, 1, on_broken)] == [False, True, True]
        assert (partial.folder / "batch_000001.npz").exists() == saved
    for batch in (2, 0):
        assert not any(info.error for info in computed(worker, partial, batch))
    alone = PartialFeatures(tmp_path / "alone", partial.job)
    alone.folder.parent.mkdir()
    compute_missing(alone, ThisProcess(backbone, console), skip_broken=True, earlier_scale="", console=console)
    for path in alone.folder.glob("batch_*"):
        assert path.read_bytes() == (partial.folder / path.name).read_bytes()


def refused(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    message = str(pickle.loads(pickle.dumps(caught.value)))  # as Ray brings it to the command
    host = f"worker on {socket.gethostname()}: "
    assert message.startswith(host)
    return message.removeprefix(host)


def test_another_package_and_other_weights_are_refused(tmp_path, file):
    shutil.copytree(PACKAGE, tmp_path / "mhcln", ignore=shutil.ignore_patterns("__pycache__"))
    assert package_checksum(tmp_path / "mhcln") == package_checksum()
    with (tmp_path / "mhcln" / "backbone" / "loader.py").open("a", encoding="utf-8") as source:
        source.write("\n")
    other_package = package_checksum(tmp_path / "mhcln")
    assert refused(opened, file, None, other_package).startswith(f"{PACKAGE} is another version of this package")
    other = graphs.write_graph(tmp_path / "model", graphs.small_graph(seed=1))
    recipe = recipe_of(other, BackboneOptions(other))
    assert refused(opened, file, recipe).startswith(f"{file} has another SHA-256 than where the command runs")
    assert "gone.pb does not exist" in refused(opened, tmp_path / "gone.pb", recipe)


@pytest.mark.parametrize("change", [os.unlink, lambda path: path.write_bytes(b"another")])
@pytest.mark.parametrize("on_broken", ["stop", "skip"])  # the image is not broken where the command runs
def test_images_that_are_not_the_commands_are_refused(file, partial, change, on_broken):
    path = Path(partial.job.images_dir, partial.job.paths[1])
    change(path)
    message = refused(computed, opened(file), partial, 0, on_broken)
    assert message.startswith(f"{path} is missing or not the file that the command sees")


def test_a_folder_that_is_not_the_commands_and_a_full_disk_are_one_line(file, partial, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/shared/x")

    worker = opened(file)
    message = refused(computed, worker, partial, 0, "stop", "another mark")
    assert message.startswith(f"{partial.folder} is not the folder that the command sees")
    monkeypatch.setattr("mhcln.storage.files.write_arrays", full)
    assert refused(computed, worker, partial) == "[Errno 28] No space left on device: '/shared/x'"
    assert sorted(path.name for path in partial.folder.iterdir()) == [MARK]
