"""Workers of a Ray cluster of two machines, both on this one: whatever is lost, the features are the same bytes.

One cluster and one engine serve the tests in their order; the last of them loses both machines. What a worker refuses
is tested without Ray in test_worker.py.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import ray
from conftest import REPO_ROOT, RecordingConsole
from factories import draw_images
from ray._private.utils import psutil
from ray.cluster_utils import Cluster

from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import UserError
from mhcln.data import folders
from mhcln.pipeline import workers as workers_module
from mhcln.pipeline.extract import extract, extract_features
from mhcln.pipeline.extraction import ExtractOptions
from mhcln.pipeline.feature_batches import ThisProcess, compute_missing
from mhcln.pipeline.worker import Worker
from mhcln.pipeline.workers import ClusterOptions, WorkersEngine, _needs, _room, workers
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.files import locked
from mhcln.storage.partial_features import PartialFeatures

COUNT = 160
BATCH_SIZE = 2
SECONDS = 120  # that anything may take
HOST = f"worker on {socket.gethostname()}: "


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two machines of one processor."""
    size = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_worker_niceness", "0")
        running = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **size})
        running.add_node(**size)
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def engine(cluster, model_dir):
    """An engine of a worker on each machine, both of which have started; this process is the driver."""
    options = ClusterOptions(address=cluster.address)
    with workers(BackboneOptions(model_dir), options, "auto", RecordingConsole()) as opened:
        wait_for_starts(opened)
        yield opened


@pytest.fixture(scope="module")
def images_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    draw_images(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def job(backbone, images_dir) -> ExtractionJob:
    paths = sorted(path.name for path in images_dir.iterdir())
    return ExtractionJob.of_files(images_dir, paths, backbone.extractor, BATCH_SIZE)


@pytest.fixture
def partial(job, tmp_path) -> PartialFeatures:
    made = PartialFeatures(tmp_path, job)
    made.resume()
    return made


@pytest.fixture(scope="module")
def whole(backbone, job, tmp_path_factory) -> dict[str, bytes]:
    """The files of all batches, as one process makes them."""
    made = PartialFeatures(tmp_path_factory.mktemp("whole"), job)
    alone = ThisProcess(backbone, RecordingConsole())
    compute_missing(made, alone, skip_broken=False, earlier_scale="", console=alone.console)
    return contents(made)


def contents(partial: PartialFeatures) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in partial.folder.glob("batch_*")}


def wait_for_starts(engine) -> None:
    """Wait until all workers that start, or start again, have done so."""
    _, late = ray.wait(list(engine._calls), num_returns=len(engine._calls), timeout=SECONDS)
    assert not late


def process_of(node, name: str) -> psutil.Process:
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return next(each for each in raylet.children() if each.cmdline()[0].startswith(f"ray::{name}"))


def computing(engine, partial, actors: int):
    """Start a job; return its generator when so many workers have batches."""
    computed = engine.compute(partial, list(range(partial.job.batches)), "stop", lambda: None)
    while len({actor for actor, batch in engine._calls.values() if batch is not None}) < actors:
        next(computed)
    return computed


def test_the_batches_of_a_worker_that_is_killed_are_computed_again(cluster, engine, partial, whole, capfd):
    computed = computing(engine, partial, 2)
    process_of(cluster.head_node, "Worker").kill()
    assert len(contents(partial)) < len(whole)
    list(computed)
    assert contents(partial) == whole
    assert capfd.readouterr() == ("", "")
    assert (engine.device, engine.software.split("=")[0]) == ("CPU", "tensorflow")
    wait_for_starts(engine)


def test_broken_images_are_listed_and_a_second_command_is_refused(engine, tmp_path, console):
    (tmp_path / "images").mkdir()
    paths = draw_images(tmp_path / "images", 12)
    for path in (paths[1], paths[10]):
        path.write_bytes(b"")
    options = ExtractOptions(tmp_path / "images", tmp_path / "dump", batch_size=BATCH_SIZE, unlabelled=True)
    scan = folders.scan_unlabelled(options.images_dir)
    with pytest.raises(UserError, match=f"^2 of 12 images cannot be read: {paths[1].name}.*, {paths[10].name}.*;"):
        extract(scan, engine, options, console)
    with locked(options.dump_dir), pytest.raises(UserError, match="another process is writing here"):
        extract(scan, engine, options, console)


def test_what_a_worker_refuses_is_one_line(engine, partial):
    partial.job = ExtractionJob(**{**vars(partial.job), "stamps": partial.job.stamps + 1})
    with pytest.raises(UserError, match=f"^{HOST}.* is missing or not the file that the command sees"):
        list(engine.compute(partial, [0], "stop", lambda: None))
    other = ray.remote(num_cpus=0)(Worker).remote("another", None, None, 1, 0)
    refused = WorkersEngine(ray, [other], engine._needs, "", "")
    with pytest.raises(UserError, match=f"^a worker cannot start.*: {HOST}.* is another version of this package"):
        list(refused.compute(partial, [0], "stop", lambda: None))


def test_a_batch_that_ends_its_workers_again_and_again_is_named(engine, partial, capfd):
    class Fragile:
        def about(self):
            return "", ""

        def compute(self, _partial, batch, *_):
            if batch == 1:
                os._exit(1)
            return []

    actors = [ray.remote(num_cpus=0, max_restarts=10, max_concurrency=2)(Fragile).remote() for _ in range(2)]
    fragile = WorkersEngine(ray, actors, engine._needs, "", "")
    done = []
    with pytest.raises(UserError, match=f"^3 workers ended at the batches of .*{partial.job.paths[2]}.*--batch_size$"):
        done.extend(batch for batch, _ in fragile.compute(partial, list(range(6)), "stop", lambda: None))
    assert 1 not in done
    assert capfd.readouterr() == ("", "")


def test_a_machine_is_lost_and_then_ray_itself_on_the_last_one(cluster, engine, partial, whole, capfd):
    computed = computing(engine, partial, 2)
    (lost,) = cluster.worker_nodes
    cluster.remove_node(lost, allow_graceful=False)  # with the batches that its worker has
    assert len(contents(partial)) < len(whole)
    list(computed)
    assert contents(partial) == whole
    computed = computing(engine, partial, 1)
    process_of(cluster.head_node, "RuntimeEnvAgent").kill()
    with pytest.raises(UserError, match=r"^no machine runs a worker|^a worker cannot start, or Ray has lost it"):
        list(computed)
    assert capfd.readouterr() == ("", "")


def test_workers_of_this_machine_are_stopped_and_one_process_goes_on(job, model_dir, tmp_path, whole, console):
    flags = (f"--images_dir={job.images_dir}", f"--model_dir={model_dir}", f"--dump_dir={tmp_path}", "--unlabelled")
    command = [sys.executable, REPO_ROOT / "extract_features.py", *flags, f"--batch_size={BATCH_SIZE}", "--workers=2"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen([*command, "--cpus_per_worker=1"], **streams)
    limit, partial = time.monotonic() + SECONDS, PartialFeatures(tmp_path, job)
    while process.poll() is None and len(contents(partial)) < 3 and time.monotonic() < limit:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, out, errors) == (130, "workers: 2 of 1 processors and 0 GPUs\n", "stopped by Ctrl-C\n")
    done = contents(partial)
    assert 3 <= len(done) < len(whole)
    assert done.items() <= whole.items()
    options = ExtractOptions(
        Path(job.images_dir), tmp_path, batch_size=BATCH_SIZE, unlabelled=True, backbone=BackboneOptions(model_dir)
    )
    extract_features(options, console)
    assert f"continuing an interrupted extraction: {len(done) * BATCH_SIZE} of {COUNT} images are done" in console.said


def refusal(**options) -> str:
    opened = workers(BackboneOptions(random_seed=0), ClusterOptions(**options), "auto", RecordingConsole())
    with pytest.raises(UserError) as caught, opened:
        pass
    return str(caught.value)


def test_ray_that_is_not_there_or_does_not_answer_is_one_line(monkeypatch):
    def too_busy(*_, **__):
        raise Exception("The current node timed out during startup.\nThis could happen because ...")

    wrong = refusal(address="no such address")
    assert wrong.startswith("no Ray cluster can be used at --address=no such address (Ray says: ValueError")
    monkeypatch.setattr(workers_module, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        line = refusal(address=f"127.0.0.1:{silent.getsockname()[1]}")
    assert line.endswith("(nothing answers within 0.5 s); start one by: ray start --head")
    monkeypatch.setattr("ray.init", too_busy)
    assert refusal(workers=2).startswith("Ray cannot be started (The current node timed out during startup. This could")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refusal(workers=2).endswith("lacks Ray, which --workers needs; pip install 'ray>=2.40'")


@pytest.mark.parametrize(
    ("machines", "options", "device", "needs", "room"),
    [
        ([{"CPU": 8.0}, {"CPU": 5.0}, {}], {"address": "auto", "cpus_per_worker": 3}, "auto", (3, 0), 3),
        ([{"CPU": 8.0}], {"workers": 3}, "auto", (2, 0), 4),
        ([{"CPU": 8.0}], {"address": "auto"}, "gpu", (1, 1), 0),
        ([{"CPU": 8.0}, {"CPU": 6.0, "GPU": 2.0}], {"address": "auto"}, "auto", (3, 1), 2),
        ([{"CPU": 8.0, "GPU": 4.0}], {"address": "auto", "cpus_per_worker": 3}, "auto", (3, 1), 2),
        ([{"CPU": 8.0, "GPU": 4.0}], {"workers": 2}, "cpu", (4, 0), 2),
    ],
)
def test_how_many_workers_there_is_room_for(machines, options, device, needs, room):
    found = _needs(machines, ClusterOptions(**options), device)
    assert tuple(found.values()) == needs
    assert _room(machines, found) == room


def test_a_cluster_without_room_and_flags_of_no_worker_are_one_line(monkeypatch):
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 9.0}}]
    cluster = contextlib.nullcontext(types.SimpleNamespace(nodes=lambda: nodes))
    monkeypatch.setattr(workers_module, "_connected", lambda _: cluster)
    assert refusal(address="auto", cpus_per_worker=4).startswith(
        "there is room for 0 workers of 4 processors and 0 GPUs;"
    )
    assert refusal(workers=3).startswith("there is room for 2 workers of 1 processors and 0 GPUs;")
    with pytest.raises(UserError, match="--cpus_per_worker needs --workers"):
        ClusterOptions(cpus_per_worker=2)
    with pytest.raises(UserError, match="--address is empty"):
        ClusterOptions(address="")
