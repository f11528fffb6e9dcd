"""Workers of a Ray cluster of several nodes, all on this machine: whatever is lost, the features are the same bytes.

What a worker refuses is tested without Ray in test_worker.py; here one node of the cluster sees other folders.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPO_ROOT
from factories import draw_images
from ray.cluster_utils import Cluster

from mhcln.console import UserError
from mhcln.pipeline import cluster as cluster_module
from mhcln.pipeline.cluster import ClusterOptions, _room, connected
from mhcln.pipeline.worker import PACKAGE
from mhcln.storage.files import PART, locked
from mhcln.storage.layout import PARTIAL_FEATURES

COUNT = 240
BATCHES = COUNT // 2
STORE = {"object_store_memory": cluster_module.OBJECT_STORE_BYTES}
# Ray finds out that a node is lost in 5 s, not in 15, and takes no busy one for lost
SOON = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 10}
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


@pytest.fixture(scope="module")
def cluster():
    """A head that computes nothing; tests add the nodes that do."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_worker_niceness", "0")
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": SOON, **STORE}
        running = Cluster(initialize_head=True, head_node_args=head)
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def node(cluster):
    """The node of one processor that is always there."""
    return cluster.add_node(num_cpus=1, **STORE)


@pytest.fixture(scope="module")
def images_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name in ("beach", "forest"):
        (folder / name).mkdir()
    for number, path in enumerate(draw_images(folder, COUNT)):
        path.rename(folder / ("beach", "forest")[number % 2] / path.name)
    return folder


@pytest.fixture(scope="module")
def flags(images_dir, model_dir) -> tuple[str, ...]:
    return (f"--images_dir={images_dir}", f"--model_dir={model_dir}", "--batch_size=2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, flags) -> bytes:
    """`features.npz` of one process with the threads of a worker."""
    dump_dir = tmp_path_factory.mktemp("whole")
    command = [sys.executable, REPO_ROOT / "extract_features.py", *flags, f"--dump_dir={dump_dir}"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **ONE_THREAD})
    return (dump_dir / "features.npz").read_bytes()


@pytest.fixture
def started(cluster, node, flags, tmp_path):  # noqa: ARG001, the node must be there
    """A function that starts the script and returns when it has saved some batches; it does not outlive the test."""
    with contextlib.ExitStack() as stack:

        def start(*more: str, batches: int = 3) -> subprocess.Popen:
            command = [sys.executable, REPO_ROOT / "extract_features.py", *flags, f"--dump_dir={tmp_path}"]
            process = subprocess.Popen(
                [*command, f"--address={cluster.address}", *more],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            wait_for(lambda: process.poll() is not None or saved(tmp_path) >= batches)
            return process

        yield start


def wait_for(condition, seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def saved(dump_dir: Path) -> int:
    return len(list((dump_dir / PARTIAL_FEATURES).glob("batch_*")))


def workers_of(node) -> list[int]:
    """Process ids of the workers of a node, which are children of its raylet."""
    found = []
    (raylet,) = [each.process.pid for each in node.all_processes["raylet"]]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == raylet and (process / "cmdline").read_text().startswith("ray::Worker"):
                found.append(int(process.name))
    return found


def ends_as_one_process(process: subprocess.Popen, dump_dir: Path, whole: bytes) -> str:
    out, errors = process.communicate(timeout=240)
    assert (process.returncode, errors) == (0, "")
    assert "raylet" not in out
    assert (dump_dir / "features.npz").read_bytes() == whole
    assert sorted(path.name for path in dump_dir.iterdir()) == [".lock", "features.npz"]
    return out


def test_a_worker_is_killed(started, node, tmp_path, whole):
    process = started()
    killed = workers_of(node)
    assert len(killed) == 1
    os.kill(killed[0], signal.SIGKILL)
    assert saved(tmp_path) < BATCHES
    out = ends_as_one_process(process, tmp_path, whole)
    assert "workers: 1 on 1 machines, 1 threads each, CPU" in out


def test_a_node_joins_and_another_is_killed(started, cluster, node, tmp_path, whole):
    lost = cluster.add_node(num_cpus=2, **STORE)
    process = started()
    stopped = [*workers_of(node), *workers_of(lost)]
    for pid in stopped:  # now nobody but the new node can go on
        os.kill(pid, signal.SIGSTOP)
    before = saved(tmp_path)
    new = cluster.add_node(num_cpus=1, **STORE)
    try:
        wait_for(lambda: saved(tmp_path) > before + 3 or process.poll() is not None)
        assert workers_of(new)
        cluster.remove_node(lost, allow_graceful=False)  # with the batches that it has
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        out = ends_as_one_process(process, tmp_path, whole)
    finally:
        cluster.remove_node(new)
    assert re.search(r"workers: [123] on [12] machines, 1 threads each, CPU", out)


def test_the_driver_is_stopped_and_killed_and_run_again(started, node, tmp_path, whole):
    process = started()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "stopped by Ctrl-C\n")
    wait_for(lambda: not workers_of(node))
    before = saved(tmp_path)
    assert 3 <= before < BATCHES
    assert not list((tmp_path / PARTIAL_FEATURES).glob(f"{PART}*"))
    process = started(batches=before + 3)
    process.kill()
    process.communicate()
    assert not (tmp_path / "features.npz").exists()
    out = ends_as_one_process(started(batches=BATCHES), tmp_path, whole)
    assert "continuing an interrupted run: " in out


def test_broken_images_are_listed_by_workers_too(cluster, node, run_script, model_dir, tmp_path, users_mistake):  # noqa: ARG001
    (tmp_path / "images" / "beach").mkdir(parents=True)
    paths = draw_images(tmp_path / "images" / "beach", 12)
    for path in (paths[1], paths[10]):
        path.write_bytes(b"")
    flags = (f"--images_dir={tmp_path / 'images'}", f"--model_dir={model_dir}", "--batch_size=2")
    done = run_script("extract_features.py", *flags, f"--dump_dir={tmp_path}", f"--address={cluster.address}")
    first, last = sorted(f"beach/{path.name}" for path in (paths[1], paths[10]))
    users_mistake(done, f"2 of 12 images cannot be read: {first} (empty file), {last} (empty file); repair")


TWO_JOBS = """
import sys
from pathlib import Path
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import Console
from mhcln.data import folders
from mhcln.pipeline.cluster import ClusterOptions
from mhcln.pipeline.extract import ExtractOptions, extract
from mhcln.pipeline.workers import workers
images, model, dump, address = sys.argv[1:]
with workers(BackboneOptions(Path(model)), ClusterOptions(address=address), "auto", Console()) as engine:
    for name in ("one", "two"):
        options = ExtractOptions(Path(images), Path(dump, name), batch_size=2)
        extract(folders.scan(Path(images)), engine, options, Console())
        print("process", *(member.actor._actor_id.hex() for member in engine._members))
"""


def test_the_same_workers_compute_several_jobs(cluster, node, images_dir, model_dir, tmp_path, whole):  # noqa: ARG001
    command = [sys.executable, "-c", TWO_JOBS, images_dir, model_dir, tmp_path, cluster.address]
    done = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    actors = [line for line in done.stdout.splitlines() if line.startswith("process ")]
    assert len(actors) == 2
    assert actors[0] == actors[1]
    assert done.stdout.count("workers: 1 on 1 machines") == 1
    for name in ("one", "two"):
        assert (tmp_path / name / "features.npz").read_bytes() == whole


def test_two_drivers_on_one_dump_folder(started, tmp_path, users_mistake):
    with locked(tmp_path):
        process = started()
        out, errors = process.communicate()
    done = subprocess.CompletedProcess([], process.returncode, out, errors)
    users_mistake(done, f"{tmp_path}: another process is writing here")


@contextlib.contextmanager
def node_with_other_files(cluster, folder: Path, other: Path):
    """A node of the cluster on which another folder is in the place of one."""
    start = f"mount --bind {other} {folder} && exec {sys.executable} -m ray.scripts.scripts start --num-cpus=1"
    command = f"{start} --address={cluster.address} --object-store-memory={STORE['object_store_memory']} --block"
    unshared = ["unshare", "--mount", "sh", "-c"]
    if subprocess.run([*unshared, f"mount --bind {other} {folder}"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a folder")
    process = subprocess.Popen([*unshared, command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def without_unpushed_error(errors: str) -> str:
    """Take off one line of Ray's C++ that no setting of Ray keeps quiet: on a busy machine it may say on stderr that it
    could not push to the driver the end of a call, which the driver has ended itself.
    """
    unpushed = r"^\[[^]\n]* E \d+ \d+\] task_manager\.cc:\d+: Failed to push error to driver for task [0-9a-f]+\n"
    return re.sub(unpushed, "", errors, flags=re.MULTILINE)


def test_a_worker_that_sees_other_images_is_refused_at_the_start_and_left_out_later(
    started, cluster, node, tmp_path, images_dir, whole, tmp_path_factory, users_mistake
):
    nothing = tmp_path_factory.mktemp("nothing")
    process = started()
    for pid in workers_of(node):
        os.kill(pid, signal.SIGSTOP)
    with node_with_other_files(cluster, images_dir, nothing):
        assert process.stderr.readline().endswith("going on without that machine\n")
        for pid in workers_of(node):
            os.kill(pid, signal.SIGCONT)
        ends_as_one_process(process, tmp_path, whole)
        shutil.rmtree(tmp_path)
        process = started()
        out, errors = process.communicate()
    done = subprocess.CompletedProcess([], process.returncode, out, without_unpushed_error(errors))
    users_mistake(done, f"worker on {socket.gethostname()}: {images_dir}", "--images_dir must be a folder that all")
    assert saved(tmp_path) == 0


def test_a_cluster_without_the_package_is_one_line(started, cluster, tmp_path_factory, users_mistake):
    with node_with_other_files(cluster, PACKAGE, tmp_path_factory.mktemp("nothing")):
        process = started()
        out, errors = process.communicate()
    done = subprocess.CompletedProcess([], process.returncode, out, without_unpushed_error(errors))
    users_mistake(done, f"worker on {socket.gethostname()}: it cannot start (", "No module named 'mhcln.")


def test_workers_of_this_machine_alone(run_script, flags, tmp_path, whole):
    done = run_script("extract_features.py", *flags, f"--dump_dir={tmp_path}", "--workers=2", "--cpus_per_worker=1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "workers: 2 on 1 machines, 1 threads each, CPU" in done.stdout
    assert (tmp_path / "features.npz").read_bytes() == whole


def test_mistakes_are_one_line(run_script, flags, tmp_path, users_mistake):
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError('No module', name='ray')")
    command = [sys.executable, REPO_ROOT / "extract_features.py", *flags, f"--dump_dir={tmp_path}"]
    without_ray = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*command, "--workers=2"], env=without_ray, capture_output=True, text=True, check=False)
    users_mistake(done, f"need Ray, which {sys.executable} does not have; pip install 'ray>=2.40'")
    users_mistake(run_script("extract_features.py", *flags, "--workers=0"), "--workers", "'0' is not a whole number")
    users_mistake(run_script("extract_features.py", *flags, "--cpus_per_worker=2"), "give --workers or --address too")


def test_an_address_where_nobody_answers_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for address in (f"127.0.0.1:{silent.getsockname()[1]}", f"ray://127.0.0.1:{silent.getsockname()[1]}"):
            with (
                pytest.raises(UserError, match=f"no Ray cluster answers at --address={address} within 3 s"),
                connected(ClusterOptions(address=address), "auto"),
            ):
                pass
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 60)
    with (
        pytest.raises(UserError, match="no Ray cluster can be used at --address=no such address"),
        connected(ClusterOptions(address="no such address"), "auto"),
    ):
        pass


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "room"),
    [({"CPU": 8.0}, 3, 0, 2), ({"CPU": 8.0}, 1, 1, 0), ({"CPU": 8.0, "GPU": 4.0}, 3, 1, 2), ({"GPU": 4.0}, 1, 0, 0)],
)
def test_the_room_of_a_node(resources, cpus, gpus, room):
    assert _room(resources, cpus, gpus) == room
