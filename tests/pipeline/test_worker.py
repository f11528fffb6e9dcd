"""A worker, called as Ray calls it: it computes what one process computes, and refuses what is not as the driver's."""

import collections
import dataclasses
import errno
import os
import pickle
import shutil
import socket

import graphs
import numpy as np
import pytest
from factories import draw_images

from mhcln.backbone.backbone import recipe_of
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import UserError
from mhcln.pipeline import worker as worker_module
from mhcln.pipeline.cluster import ClusterOptions, connected
from mhcln.pipeline.feature_batches import ThisProcess, compute_missing
from mhcln.pipeline.hands import ATTEMPTS, Run
from mhcln.pipeline.worker import PACKAGE, Order, Worker, package_checksum
from mhcln.quiet_tensorflow import tf
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.partial_features import Findings, PartialFeatures

MARK = "mark"
HOST = f"worker on {socket.gethostname()}: "


@pytest.fixture(autouse=True)
def threads(monkeypatch) -> list[int]:
    """Numbers of threads that were set; this process computes already and keeps its own."""
    numbers = []
    for name in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        monkeypatch.setattr(tf.config.threading, name, numbers.append)
    return numbers


@pytest.fixture
def order(model_dir) -> Order:
    options = BackboneOptions(model_dir / "classify_image_graph_def.pb")
    return Order(package_checksum(), recipe_of(options.model_dir, options), options, "cpu", 3)


@pytest.fixture
def partial(tmp_path, order) -> PartialFeatures:
    (tmp_path / "images").mkdir()
    paths = [path.name for path in draw_images(tmp_path / "images", 7)]
    job = ExtractionJob.of_files(tmp_path / "images", paths, str(order.recipe), 3)
    partial = PartialFeatures(tmp_path, job)
    partial.resume()
    (partial.folder / MARK).touch()
    return partial


def part(partial: PartialFeatures, batch: int) -> PartialFeatures:
    return PartialFeatures(partial.folder.parent, partial.job.batch(batch))


def test_a_worker_computes_the_batches_of_one_process(tmp_path, order, partial, backbone, console, threads):
    worker = Worker()
    about = worker.begin(order, part(partial, 1), MARK)
    assert (about.host, about.device) == (socket.gethostname(), "CPU")
    assert sorted(path.name for path in partial.folder.iterdir()) == [MARK, "settings.npz"]
    for batch in (2, 0, 1):
        assert worker.compute(order, part(partial, batch), batch, "stop") == (Findings(), [])
    assert threads == [3, 3]
    alone = PartialFeatures(tmp_path / "alone", partial.job)
    alone.folder.parent.mkdir()
    compute_missing(alone, ThisProcess(backbone, console), skip_broken=False, scales={}, console=console)
    for path in alone.folder.glob("batch_*"):
        assert path.read_bytes() == (partial.folder / path.name).read_bytes()


def test_a_worker_that_ray_has_started_again_opens_the_backbone_by_itself(order, partial):
    assert Worker().compute(order, part(partial, 0), 0, "stop") == (Findings(), [])
    assert partial.features(0).shape == (3, graphs.WIDTH)


@pytest.mark.parametrize(("on_broken", "saved"), [("skip", True), ("stop", False), ("list", False)])
def test_a_broken_image_is_found_in_its_row(order, partial, on_broken, saved):
    path = partial.folder.parent / "images" / partial.job.paths[4]
    path.write_bytes(b"")
    partial = PartialFeatures(
        partial.folder.parent,
        ExtractionJob.of_files(path.parent, partial.job.paths, partial.job.extractor, 3),
    )
    found, _ = Worker().compute(order, part(partial, 1), 1, on_broken)
    assert found.problems == {4: "empty file"}
    assert (partial.folder / "batch_000001.npz").exists() == saved


def refused(order: Order, partial: PartialFeatures, mark: str = MARK) -> str:
    with pytest.raises(UserError) as caught:
        Worker().begin(order, part(partial, 0), mark)
    message = str(pickle.loads(pickle.dumps(caught.value)))  # as Ray brings it to the driver
    assert message.startswith(HOST)
    return message


def test_another_version_of_the_package_is_refused(tmp_path, order, partial):
    shutil.copytree(PACKAGE, tmp_path / "mhcln", ignore=shutil.ignore_patterns("__pycache__"))
    assert package_checksum(tmp_path / "mhcln") == order.package
    with (tmp_path / "mhcln" / "backbone" / "loader.py").open("a", encoding="utf-8") as file:
        file.write("\n")
    other = dataclasses.replace(order, package=package_checksum(tmp_path / "mhcln"))
    assert "is another version of this package" in refused(other, partial)


def test_another_file_of_weights_is_refused(tmp_path, order, partial):
    other = graphs.write_graph(tmp_path / "model", graphs.small_graph(seed=1))
    recipe = recipe_of(other, BackboneOptions(other))
    assert recipe != order.recipe
    message = refused(dataclasses.replace(order, recipe=recipe), partial)
    assert f"is not the file that it is where the command runs (SHA-256 {order.recipe.sha256[:12]}" in message


def test_weights_that_are_not_there_are_refused(tmp_path, order, partial):
    gone = dataclasses.replace(order.backbone, model_dir=tmp_path / "gone.pb")
    assert "gone.pb does not exist" in refused(dataclasses.replace(order, backbone=gone), partial)


@pytest.mark.parametrize("change", [os.unlink, lambda path: path.write_bytes(b"another")])
def test_images_that_a_worker_does_not_see_are_refused(order, partial, change):
    path = partial.folder.parent / "images" / partial.job.paths[0]
    change(path)
    assert f"{path} is missing, or another file than where the command runs" in refused(order, partial)
    # even if images that cannot be read may be skipped: they are there, but not here
    with pytest.raises(UserError, match=f"{HOST}.* is missing, or another file"):
        Worker().compute(order, part(partial, 0), 0, "skip")


def test_a_folder_that_is_not_the_drivers_is_refused(order, partial):
    assert "is not the folder of the command; --dump_dir must be" in refused(order, partial, "another mark")


def test_a_disk_that_is_full_is_one_line(order, partial, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/shared/x")

    with monkeypatch.context() as patched:
        patched.setattr("mhcln.storage.files.write_arrays", full)
        with pytest.raises(UserError, match=f"{HOST}/shared/x: No space left on device; nothing half-written"):
            Worker().compute(order, part(partial, 0), 0, "stop")
    monkeypatch.setattr(worker_module.Path, "write_text", full)
    assert "No space left on device" in refused(order, partial)
    assert sorted(path.name for path in partial.folder.iterdir()) == [MARK, "settings.npz"]


def test_numbers_that_are_not_finite_and_warnings_come_with_the_name_of_the_machine(order, partial):
    worker = Worker()
    worker.begin(order, part(partial, 0), MARK)
    worker._console.warn("the device has no memory for 3 images at a time")
    _, warnings = worker.compute(order, part(partial, 0), 0, "stop")
    assert warnings == [f"{HOST}the device has no memory for 3 images at a time"]
    backbone = worker._engine.backbone
    nan = dataclasses.replace(backbone, network=lambda images: tf.fill([len(images), graphs.WIDTH], np.nan))
    worker._engine.backbone = nan
    with pytest.raises(UserError, match=f"{HOST}the network gives {partial.job.paths[3]} numbers that are not finite"):
        worker.compute(order, part(partial, 1), 1, "stop")


def test_processors_of_no_worker_are_a_mistake():
    with pytest.raises(UserError, match="--cpus_per_worker is of workers"):
        ClusterOptions(cpus_per_worker=2)
    with pytest.raises(UserError, match="--address is empty"):
        ClusterOptions(address="")


def test_a_batch_that_ends_its_workers_again_and_again_is_named(partial):
    run = Run(partial, MARK, collections.deque([1, 2]), "stop")
    for _ in range(ATTEMPTS - 1):
        assert run.waiting.popleft() == 1
        run.put_back(1, "out of memory")
    with pytest.raises(UserError, match=rf"at the batch that begins with {partial.job.paths[3]} \(out of memory\)"):
        run.put_back(1, "out of memory")


def test_a_job_whose_workers_are_all_lost_ends(partial, monkeypatch):
    run = Run(partial, MARK, collections.deque([1]), "stop")
    run.check_progress()
    monkeypatch.setattr("mhcln.pipeline.hands.START_SECONDS", -1)
    with pytest.raises(UserError, match=r"all workers are lost.*what is done is kept"):
        run.check_progress()


def test_a_machine_that_is_too_busy_to_start_ray_is_one_line(monkeypatch):
    def too_busy(*_, **__):
        raise Exception("The current node timed out during startup.\nThis could happen because ...")

    monkeypatch.setattr("ray.init", too_busy)
    with (
        pytest.raises(UserError, match=r"Ray cannot be started here \(The current node timed out during startup"),
        connected(ClusterOptions(workers=2), "auto"),
    ):
        pass
