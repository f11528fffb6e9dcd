"""The engine of several processes: workers on a Ray cluster, which is started here or runs already."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from mhcln.backbone.backbone import chosen_file, recipe_of
from mhcln.backbone.batches import BATCH_SIZE, BATCH_SIZE_ON_GPU
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import Console, UserError, deferred_signals
from mhcln.device import threads
from mhcln.pipeline.feature_batches import Arrived, Computed, Engine, OnBroken
from mhcln.pipeline.worker import PACKAGE, Worker, package_checksum
from mhcln.storage.files import PART, one_line
from mhcln.storage.partial_features import PartialFeatures

CONNECT_SECONDS = 30
START_SECONDS = 300.0  # that a job waits while no worker can take a batch
LOOK_SECONDS = 1.0  # after which signals are looked for
IN_FLIGHT = 2  # batches of a worker: it reads the images of one while the network has the other
ATTEMPTS = 3  # times that a batch may end the process of its worker
# Connects and leaves. Ray itself has no limit of time where nothing, or something else, answers.
CONNECT = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False)"

Ray = Any  # the module
Actor = Any  # the handle of a Worker


@dataclasses.dataclass(frozen=True)
class ClusterOptions:
    """Which workers compute, if not this process does.

    Attributes:
        workers: How many; as many as there is room for if None. Without `address` they are started on this machine.
        address: Of a running cluster, as `ray.init` takes it.
        cpus_per_worker: Processors that a worker takes; if None, a machine's processors divided by its workers, on a
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
            raise UserError("--cpus_per_worker needs --workers or --address")
        if self.address is not None and not self.address.strip():
            raise UserError("--address is empty; give auto, host:port or ray://host:port")


@contextlib.contextmanager
def workers(backbone: BackboneOptions, options: ClusterOptions, device: str, console: Console) -> Iterator[Engine]:
    """Start a cluster on this machine or connect to a running one, and return an engine whose workers compute there.

    Args:
        backbone: Which network extracts the features, and how.
        options: Where the workers are, and how many.
        device: What computes, one of `mhcln.device.CHOICES`; "auto" is GPUs if the cluster has any.
        console: Where the workers are reported.
    """
    file = chosen_file(backbone)
    recipe = recipe_of(file, backbone)
    seen = dataclasses.replace(backbone, model_dir=file.absolute() if file else None)
    with _connected(options) as ray:
        needs = _needs(_machines(ray), options, device)
        size = f"{needs['num_cpus']} processors and {needs['num_gpus']} GPUs"
        room = _room(_machines(ray), needs)
        if room < (1 if options.address else options.workers or 1):
            raise UserError(f"there is room for {room} workers of {size}; see --workers, --cpus_per_worker, --device")
        count = min(room, options.workers or room)
        console.say(f"workers: {count} of {size}")
        # a worker that ends more often is one that cannot start
        actor = ray.remote(max_restarts=10, max_concurrency=IN_FLIGHT, scheduling_strategy="SPREAD", **needs)(Worker)
        actors = [actor.remote(package_checksum(), recipe, seen, **needs) for _ in range(count)]
        yield WorkersEngine(ray, actors, needs, str(recipe), str(file.resolve()) if file else "")


class WorkersEngine:
    """Gives batches to workers, two at a time; Ray places the workers, and starts them again where they are lost."""

    def __init__(self, ray: Ray, actors: list[Actor], needs: dict[str, int], extractor: str, model_file: str) -> None:
        self.extractor, self.model_file = extractor, model_file
        self.batch_size = BATCH_SIZE_ON_GPU if needs["num_gpus"] else BATCH_SIZE
        self.device = self.software = ""
        self._ray, self._needs = ray, needs
        self._calls: dict[Any, tuple[Actor, int | None]] = {}  # workers and their batches, None where they start
        self._free: collections.deque[Actor] = collections.deque()  # workers, once for each batch that they could take
        self._abouts: set[tuple[str, str]] = set()
        for actor in actors:
            self._start(actor)

    def compute(self, partial: PartialFeatures, batches: list[int], on_broken: OnBroken, arrived: Arrived) -> Computed:
        """Compute and save batches, as `Engine` says."""
        mark = f"{PART}{time.time_ns()}"  # a new name, which no file system remembers as missing
        (partial.folder / mark).touch()
        job, left, waiting = partial.job, set(batches), collections.deque(batches)
        losses: collections.Counter[int] = collections.Counter()
        active = time.monotonic()
        while left and not arrived():
            while waiting and self._free:
                actor, batch = self._free.popleft(), waiting.popleft()
                part = PartialFeatures(partial.folder.parent.absolute(), job.batch(batch))
                self._calls[actor.compute.remote(part, batch, on_broken, mark)] = actor, batch
            if len(left) > len(waiting):
                active = time.monotonic()
            elif not _room(_machines(self._ray), self._needs) or time.monotonic() - active > START_SECONDS:
                raise UserError(
                    "no machine runs a worker: all are lost or full of other work; what is done is kept, run it again"
                )
            for call in self._ray.wait(list(self._calls), timeout=LOOK_SECONDS)[0]:
                actor, done = self._calls.pop(call)
                found, loss = self._outcome(call)
                if done is None:
                    self._take_in(actor, found, loss)
                elif loss:
                    losses[done] += 1
                    if losses[done] == ATTEMPTS:
                        often = [job.path(job.rows(each)[0]) for each, count in losses.items() if count >= ATTEMPTS - 1]
                        raise UserError(
                            f"{ATTEMPTS} workers ended at the batches of {', '.join(often)} ({loss}); "
                            "leave out the image that ends them, or take a smaller --batch_size"
                        )
                    waiting.append(done)  # last: there it meets few others, whose worker it ends too
                    self._free = collections.deque(each for each in self._free if each is not actor)
                    if (actor, None) not in self._calls.values():
                        self._start(actor)
                else:
                    left.remove(done)
                    self._free.append(actor)
                    if on_broken == "stop" and any(info.error for info in found):
                        on_broken = "list"
                    yield done, found

    def _start(self, actor: Actor) -> None:
        """Ask a worker what it is; the call waits until Ray has room for it, now or after it was lost."""
        self._calls[actor.about.options(max_task_retries=-1).remote()] = actor, None

    def _take_in(self, actor: Actor, about: tuple[str, str], problem: str) -> None:
        """Let a worker that has started take batches: all workers one before any takes two."""
        if problem:
            raise UserError(f"a worker cannot start, or Ray has lost it; what is done is kept: {problem}")
        self._free.appendleft(actor)
        self._free.extend([actor] * (IN_FLIGHT - 1))
        self._abouts.add(about)
        self.device = " and ".join(sorted({device for device, _ in self._abouts}))
        self.software = " and ".join(sorted({software for _, software in self._abouts}))

    def _outcome(self, call: Any) -> tuple[Any, str]:  # noqa: ANN401, what it returned
        """Return the result of a call, and why there is none: its worker is lost. Raises what the call raised."""
        try:
            return self._ray.get(call), ""
        except self._ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, UserError) else error) from None
        except self._ray.exceptions.RayError as error:  # it ends with what a worker raised that could not start
            return None, str(error).strip().rpartition("\n")[2].rpartition("UserError: ")[2][:300]


@contextlib.contextmanager
def _connected(options: ClusterOptions) -> Iterator[Ray]:
    """Start a cluster here or connect to one, and return the module of Ray; leave it at the end of the block."""
    ray, address = _ray(), options.address
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        count = options.workers or 1
        cpus = count * (options.cpus_per_worker or max(threads() // count, 1))
        # the least memory that Ray takes: no array goes through it
        how |= {"num_cpus": cpus, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    else:
        _check_answers(address)
        if address.startswith("ray://"):  # to the workers of a client Ray does not say where the package is
            how["runtime_env"] = {"env_vars": {"PYTHONPATH": f"{PACKAGE.parent}:${{PYTHONPATH}}"}}
    try:
        with deferred_signals() as arrived:  # Ray has a handler of its own for SIGTERM
            try:
                ray.init(address or "local", **how)
            except Exception as error:  # Ray raises no narrower one, as on a machine that is too busy
                raise UserError(f"Ray cannot be started ({one_line(error)}); run the same command again") from error
        if signal := arrived():
            raise signal
        yield ray
    finally:
        ray.shutdown()


def _ray() -> Ray:
    """Return Ray, which is made quiet: the driver reports what happens to workers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # measures of itself, which nobody reads here; their cost is in tests/benchmarks/README.md
    os.environ.setdefault("RAY_enable_metrics_collection", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # else 15: workers started here are what this process would be
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError(f"{sys.executable} lacks Ray, which --workers needs; pip install 'ray>=2.40'") from None
    # a thread of Ray prints on stdout that a worker or a machine was lost, whatever log_to_driver says
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    return ray


def _check_answers(address: str) -> None:
    """Raise UserError unless a cluster answers; tried by another process, which can be ended."""
    command = [sys.executable, "-c", CONNECT, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CONNECT_SECONDS, check=False)
        why = f"Ray says: {(done.stderr.splitlines() or [''])[-1]}" if done.returncode else ""
    except subprocess.TimeoutExpired:
        why = f"nothing answers within {CONNECT_SECONDS} s"
    if why:
        raise UserError(f"no Ray cluster can be used at --address={address} ({why}); start one by: ray start --head")


def _machines(ray: Ray) -> list[dict[str, float]]:
    """Return the machines that the cluster has now."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _needs(machines: list[dict[str, float]], options: ClusterOptions, device: str) -> dict[str, int]:
    """Return the processors and GPUs of a worker, as `ray.remote` takes them."""
    with_gpus = [machine for machine in machines if machine.get("GPU", 0) >= 1]
    gpus = int(device == "gpu" or (device == "auto" and bool(with_gpus)))
    shares = [machine.get("CPU", 0) // machine["GPU"] for machine in with_gpus] if gpus else [1]
    if options.address is None:
        shares = [machines[0]["CPU"] // (options.workers or 1)]
    return {"num_cpus": options.cpus_per_worker or max(int(min(shares, default=1)), 1), "num_gpus": gpus}


def _room(machines: list[dict[str, float]], needs: dict[str, int]) -> int:
    """Return how many workers these machines have room for."""
    room = 0
    for machine in machines:
        by_gpus = machine.get("GPU", 0) if needs["num_gpus"] else math.inf
        room += int(min(machine.get("CPU", 0) // needs["num_cpus"], by_gpus))
    return room
