"""The engine of several processes: workers of a Ray cluster compute the batches, and write them where all see them."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

from mhcln.backbone.backbone import chosen_file, recipe_of
from mhcln.backbone.describe import BATCH_SIZE, BATCH_SIZE_ON_GPU
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import Console, UserError
from mhcln.pipeline.cluster import Cluster, ClusterOptions, connected
from mhcln.pipeline.feature_batches import Computed, OnBroken
from mhcln.pipeline.hands import START_SECONDS, Doubts, Member, Run
from mhcln.pipeline.worker import About, Order, Worker, package_checksum
from mhcln.storage.files import PART, one_line
from mhcln.storage.partial_features import PartialFeatures

IN_FLIGHT = 2  # batches of a worker: it reads the images of one while the network has the other
LOOK_SECONDS = 1.0  # between looks for new machines
LATE_SECONDS = 30.0  # that the first batch waits for workers that are not there yet, if others are
FINISH_SECONDS = 10.0  # that batches in hand may take after a signal
DISMISS_SECONDS = 1.0  # after which Ray knows of calls that were under way; if it is shut down before, it complains


@contextlib.contextmanager
def workers(
    backbone: BackboneOptions, options: ClusterOptions, device: str, console: Console
) -> Iterator[WorkersEngine]:
    """Return an engine whose workers stay until the end of the block.

    Args:
        backbone: Which network describes the images, and how.
        options: Where the workers are, and how many.
        device: What computes, one of `mhcln.device.CHOICES`.
        console: Where it is said who computes, and which workers are left out.

    Raises:
        UserError: There is no such backbone; Ray is not installed; or no cluster can be used.
    """
    file = chosen_file(backbone, console)
    recipe = recipe_of(file, backbone)
    seen = dataclasses.replace(backbone, model_dir=file.absolute() if file else None)
    with connected(options, device) as cluster:
        order = Order(package_checksum(), recipe, seen, "gpu" if cluster.gpus else "cpu", cluster.cpus)
        engine = WorkersEngine(cluster, order, str(file.resolve()) if file else "", console)
        try:
            yield engine
        finally:
            engine.dismiss()


class WorkersEngine:
    """Gives batches to workers, two at a time; those of a worker that is lost go to others.

    Before the first batch, all workers have said that they are what the driver is. A machine that joins later is asked
    when it comes; if it is another, it is left out with a warning.
    """

    def __init__(self, cluster: Cluster, order: Order, model_file: str, console: Console) -> None:
        self.extractor = str(order.recipe)
        self.model_file = model_file
        self.batch_size = BATCH_SIZE_ON_GPU if cluster.gpus else BATCH_SIZE
        self._cluster, self._order, self._console = cluster, order, console
        self._members: list[Member] = []
        self._left_out: set[str] = set()  # nodes
        self._doubts = Doubts()
        self._known: set[About] = set()
        self._looked = -LOOK_SECONDS
        self._said = ""

    @property
    def device(self) -> str:
        """Names of what computes, each once."""
        return " and ".join(sorted({about.device for about in self._known}))

    @property
    def software(self) -> str:
        """Versions of what computes, each once."""
        return " and ".join(sorted({about.software for about in self._known}))

    def compute(
        self,
        partial: PartialFeatures,
        batches: list[int],
        on_broken: OnBroken,
        arrived: Callable[[], BaseException | None],
    ) -> Computed:
        """Compute and save batches, as `Engine` says."""
        if not batches:
            return
        mark = f"{PART}{secrets.token_hex(8)}"  # a new name, which no file system remembers as missing
        (partial.folder / mark).touch()
        run = Run(partial, mark, collections.deque(batches), on_broken)
        try:
            self._gather(run, arrived)
            while (run.waiting or run.running) and not arrived():
                self._look(run, first=False)
                self._hand_out(run)
                run.check_progress()
                yield from self._finished(run)
            limit = time.monotonic() + FINISH_SECONDS
            while run.running and time.monotonic() < limit:
                yield from self._finished(run)
        finally:
            if calls := [*run.running, *run.beginning]:  # they would go on, and write
                self.dismiss()
                self._cluster.ray.wait(calls, num_returns=len(calls), timeout=DISMISS_SECONDS)
            (partial.folder / mark).unlink(missing_ok=True)

    def dismiss(self) -> None:
        """End all workers."""
        for member in self._members:
            self._cluster.ray.kill(member.actor)
        self._members.clear()

    def _gather(self, run: Run, arrived: Callable[[], BaseException | None]) -> None:
        """Wait until workers have begun: all of them, but for those that are late."""
        for member in self._members:  # of an earlier job
            self._begin(run, member)
        while not arrived():
            self._look(run, first=True)
            self._begun(run, first=True)
            waited = time.monotonic() - run.active
            if not run.begun and waited > START_SECONDS:
                raise UserError(f"no worker has begun within {START_SECONDS:.0f} s; does other work fill the cluster?")
            if run.begun and not self._doubts and (not run.beginning or waited > LATE_SECONDS):
                break
        if arrived():
            return
        there = [member for member in self._members if member.about]
        hosts = {member.node.id for member in there}
        line = f"workers: {len(there)} on {len(hosts)} machines, {self._order.threads} threads each, {self.device}"
        if line == self._said:  # of an earlier job
            return
        self._said = line
        self._console.say(line)
        if len({about.software for about in self._known}) > 1 or len({about.device for about in self._known}) > 1:
            self._console.warn(
                f"workers are not alike, so that their features differ by rounding: {self.device}; {self.software}"
            )

    def _look(self, run: Run, first: bool) -> None:
        """Drop workers of machines that are gone, and start some where there is room; `first` is that of `_refuse`."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        nodes = [node for node in self._cluster.nodes() if node.id not in self._left_out]
        alive = {node.id for node in nodes}
        for member in [member for member in self._members if member.node.id not in alive]:
            self._lose(run, member, "its machine is gone")
        for machine, problem in self._doubts.confirmed(alive):
            self._refuse(machine, problem, first)
        usable = [node for node in nodes if node.id not in self._left_out and node not in self._doubts]
        room = {node: node.workers - sum(member.node.id == node.id for member in self._members) for node in usable}
        while any(count > 0 for count in room.values()) and len(self._members) != self._cluster.most:
            node = max(room, key=lambda each: room[each])
            room[node] -= 1
            member = Member(self._cluster.start(Worker, node, IN_FLIGHT), node)
            self._members.append(member)
            self._begin(run, member)

    def _begin(self, run: Run, member: Member) -> None:
        batch = run.first
        run.beginning[member.actor.begin.remote(self._order, run.part(batch), run.mark)] = member

    def _begun(self, run: Run, first: bool) -> None:
        """Take in workers that have begun; `first` is that of `_refuse`."""
        for ref in self._ready(run.beginning, LOOK_SECONDS if first else 0):
            member = run.beginning.pop(ref)
            try:
                member.about = self._result(ref)
                self._known.add(member.about)
                run.began()
            except _LostError as lost:
                self._lose(run, member, str(lost))
                self._doubts.add(
                    member.node, f"worker on {member.node.host}: it cannot start ({lost}); see Ray's logs there"
                )
            except UserError as error:
                self._lose(run, member, str(error))
                self._refuse(member.node.id, str(error), first)

    def _refuse(self, machine: str, problem: str, first: bool) -> None:
        """Go on without a machine that is not as the driver is; raise UserError if that is before the first batch."""
        if first:
            raise UserError(problem)
        if machine not in self._left_out:
            self._console.warn(f"{problem}; going on without that machine")
        self._left_out.add(machine)

    def _hand_out(self, run: Run) -> None:
        while run.waiting:
            ready = [each for each in self._members if each.about and each.batches < IN_FLIGHT]
            if not ready:
                return
            member, batch = min(ready, key=lambda each: each.batches), run.waiting.popleft()
            member.batches += 1
            ref = member.actor.compute.remote(self._order, run.part(batch), batch, run.on_broken)
            run.running[ref] = member, batch

    def _finished(self, run: Run) -> Computed:
        """Yield batches that are done; put back those of lost workers."""
        self._begun(run, first=False)
        for ref in self._ready(run.running, LOOK_SECONDS):
            if ref not in run.running:  # its worker was found to be lost meanwhile
                continue
            member, batch = run.running.pop(ref)
            member.batches -= 1
            try:
                found, warnings = self._result(ref)
            except _LostError as lost:
                run.put_back(batch, str(lost))
                self._lose(run, member, str(lost))
                continue
            for line in warnings:
                self._console.warn(line)
            if found.problems and run.on_broken == "stop":
                run.on_broken = "list"
            yield batch, found

    def _ready(self, refs: dict[Any, Any], seconds: float) -> list[Any]:
        """Return those results that are there, at the latest after some seconds, or as soon as there is one."""
        if not refs:
            time.sleep(min(seconds, 0.1))
            return []
        ready, _ = self._cluster.ray.wait(list(refs), timeout=seconds)
        if ready:  # more may be there
            ready, _ = self._cluster.ray.wait(list(refs), num_returns=len(refs), timeout=0)
        return list(ready)

    def _result(self, ref: Any) -> Any:  # noqa: ANN401, what the method returned
        """Return the result of a call; raises what it raised, or _LostError if its worker or machine is lost."""
        errors = self._cluster.ray.exceptions
        try:
            return self._cluster.ray.get(ref)
        except errors.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, UserError) else error) from None
        except errors.RayError as error:
            raise _LostError(_reason(error)) from None

    def _lose(self, run: Run, member: Member, why: str) -> None:
        """Put back what a worker had, and forget it."""
        if member not in self._members:
            return
        self._members.remove(member)
        self._cluster.ray.kill(member.actor)
        for ref in [ref for ref, each in run.beginning.items() if each is member]:
            del run.beginning[ref]
        for ref in [ref for ref, (each, _) in run.running.items() if each is member]:
            run.put_back(run.running.pop(ref)[1], why)


class _LostError(Exception):
    """A worker or its machine is gone, or a worker could not be started."""


def _reason(error: Exception) -> str:
    """Return the last line of an error of Ray, which says why."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return one_line(Exception(lines[-1])) if lines else type(error).__name__
