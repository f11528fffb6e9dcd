"""A Ray cluster: one that is started here for this command alone, or one that runs already; what its machines hold."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from mhcln.console import UserError
from mhcln.device import threads
from mhcln.pipeline.worker import PACKAGE
from mhcln.storage.files import one_line

INSTALL = "pip install 'ray>=2.40'"
CONNECT_SECONDS = 30
OBJECT_STORE_BYTES = 80 * 2**20  # the least that Ray takes: no array goes through it
# Connects and leaves. Ray itself has no limit of time where nothing, or something else, answers.
CONNECT = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False)"


@dataclasses.dataclass(frozen=True)
class ClusterOptions:
    """Which workers compute, if not this process does.

    Attributes:
        workers: How many; as many as there is room for if None. Without `address` they are started on this machine.
        address: Of a running cluster, as `ray.init` takes it.
        cpus_per_worker: Processors that a worker takes; if None, those of a machine divided by its workers, on a
            cluster without GPUs 1.
    """

    workers: int | None = None
    address: str | None = None
    cpus_per_worker: int | None = None

    def __bool__(self) -> bool:
        """Whether workers compute."""
        return self.workers is not None or self.address is not None

    def __post_init__(self) -> None:
        if self.cpus_per_worker is not None and not self:
            raise UserError("--cpus_per_worker is of workers; give --workers or --address too")
        if self.address is not None and not self.address.strip():
            raise UserError("--address is empty; give auto, host:port or ray://host:port")


@dataclasses.dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        id: By which Ray knows it.
        host: Its name.
        workers: For how many it has room.
    """

    id: str
    host: str
    workers: int


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to.

    Attributes:
        ray: The module.
        most: Workers that there may be at most; None if there is room for any number.
        cpus: Processors of a worker.
        gpus: Cards of a worker: 1 or 0.
    """

    ray: Any
    most: int | None
    cpus: int
    gpus: int

    def nodes(self) -> list[Node]:
        """Return the machines that are there now and have room for a worker at all."""
        found = [(node, node["Resources"]) for node in self.ray.nodes() if node["Alive"]]
        nodes = [
            Node(node["NodeID"], node["NodeManagerHostname"], _room(resources, self.cpus, self.gpus))
            for node, resources in found
        ]
        return [node for node in nodes if node.workers]

    def start(self, kind: type, node: Node, calls: int) -> Any:  # noqa: ANN401, an actor handle of Ray
        """Start a worker on a machine: an actor that Ray starts again if its process ends.

        Args:
            kind: Class of the worker.
            node: The machine. Where that is lost, so is the worker.
            calls: Calls that it works on at a time.
        """
        options = {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "max_restarts": -1,
            "max_task_retries": 1,
            "max_concurrency": calls,
            "scheduling_strategy": self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node.id, False),
        }
        return self.ray.remote(kind).options(**options).remote()


@contextlib.contextmanager
def connected(options: ClusterOptions, device: str) -> Iterator[Cluster]:
    """Start a cluster on this machine, or connect to a running one; leave it at the end of the block.

    Args:
        options: Which one.
        device: What computes: "auto" is GPUs if the cluster has any.

    Raises:
        UserError: Ray is not installed; no cluster answers in time; or it has no room for a worker.
    """
    ray = _ray()
    if options.address is not None:
        _check_answers(options.address)
    try:
        with _handlers_kept():
            _init(ray, options)
        yield _cluster(ray, options, device)
    finally:
        with _handlers_kept():
            ray.shutdown()


def _init(ray: Any, options: ClusterOptions) -> None:  # noqa: ANN401, the module
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if options.address is not None:
        ray.init(options.address, runtime_env=_environment(options.address), **quiet)
        return
    workers = options.workers or 1
    cpus = options.cpus_per_worker or max(threads() // workers, 1)
    own = {"num_cpus": workers * cpus, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    try:
        ray.init("local", **own, **quiet)
    except Exception as error:  # Ray raises no narrower one, as on a machine that is too busy to start it in time
        raise UserError(
            f"Ray cannot be started here ({one_line(error)}); run the same command again when the machine is less busy"
        ) from error


def _ray() -> Any:  # noqa: ANN401, a module
    """Return Ray, told to say nothing: what happens to workers is said by the driver."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # measures of itself, which nobody reads here; what they cost stands in tests/benchmarks/README.md
    os.environ.setdefault("RAY_enable_metrics_collection", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # else 15: workers started here are what this process would be
    try:
        import ray
        import ray.util.scheduling_strategies
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "ray":
            raise
        raise UserError(f"--workers and --address need Ray, which {sys.executable} does not have; {INSTALL}") from None
    # a thread of Ray prints on stdout that a worker or a machine was lost, whatever log_to_driver says
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    return ray


def _check_answers(address: str) -> None:
    """Raise UserError unless a cluster answers; tried by another process, which can be ended."""
    try:
        command = [sys.executable, "-c", CONNECT, address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=CONNECT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"no Ray cluster answers at --address={address} within {CONNECT_SECONDS} s; start one by: ray start --head"
        ) from None
    if done.returncode:
        what = done.stderr.strip().splitlines() or ["the process that tried it ended"]
        raise UserError(
            f"no Ray cluster can be used at --address={address} ({what[-1][:300]}); start one by: ray start --head"
        )


def _environment(address: str) -> dict[str, dict[str, str]] | None:
    """Return how workers find this package if Ray does not say them where the command runs."""
    if not address.startswith("ray://"):
        return None
    return {"env_vars": {"PYTHONPATH": f"{PACKAGE.parent}:${{PYTHONPATH}}"}}


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put back what is done at SIGTERM, for which Ray has a handler of its own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _cluster(ray: Any, options: ClusterOptions, device: str) -> Cluster:  # noqa: ANN401, the module
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cards = [resources for resources in found if resources.get("GPU", 0) >= 1]
    gpus = int(device == "gpu" or (device == "auto" and bool(cards)))
    shares = [int(resources.get("CPU", 0) // resources["GPU"]) for resources in cards] if gpus else []
    if options.address is None and options.workers:
        shares = [int(sum(resources.get("CPU", 0) for resources in found)) // options.workers]
    cpus = options.cpus_per_worker or max(min(shares, default=1), 1)
    room = sum(_room(resources, cpus, gpus) for resources in found)
    needs = f"a worker of {cpus} processors" + (" and a GPU" if gpus else "")
    if not room:
        raise UserError(f"the cluster has no room for {needs}: {_sizes(found)}; see --cpus_per_worker and --device")
    if options.address is None and options.workers and room < options.workers:
        raise UserError(f"this machine has room for {room}, not for {options.workers} of {needs}: {_sizes(found)}")
    return Cluster(ray, options.workers, cpus, gpus)


def _room(resources: dict[str, float], cpus: int, gpus: int) -> int:
    by_cpus = int(resources.get("CPU", 0) // cpus)
    return min(by_cpus, int(resources.get("GPU", 0))) if gpus else by_cpus


def _sizes(found: list[dict[str, float]]) -> str:
    return ", ".join(f"{each.get('CPU', 0):g} processors and {each.get('GPU', 0):g} GPUs" for each in found)
