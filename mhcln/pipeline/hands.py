"""What the workers of a cluster have in hand: batches that wait, calls under way; and machines that start none."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from mhcln.console import UserError
from mhcln.pipeline.cluster import Node
from mhcln.pipeline.feature_batches import OnBroken
from mhcln.pipeline.worker import About
from mhcln.storage.partial_features import PartialFeatures

ATTEMPTS = 3  # times that a batch may end the process of its worker, each time twice
START_SECONDS = 300.0  # that a job waits while it has no worker
NOTICE_SECONDS = 20.0  # after which Ray knows of a lost machine: it looks every 3 s, and believes the fifth silence


@dataclasses.dataclass(eq=False)
class Member:
    """A worker of the engine; `about` is None until it has begun."""

    actor: Any
    node: Node
    about: About | None = None
    batches: int = 0  # that it has


@dataclasses.dataclass
class Run:
    """One job: the batches that wait, and the calls of workers that are under way."""

    partial: PartialFeatures
    mark: str
    waiting: collections.deque[int]
    on_broken: OnBroken
    running: dict[Any, tuple[Member, int]] = dataclasses.field(default_factory=dict)
    beginning: dict[Any, Member] = dataclasses.field(default_factory=dict)
    attempts: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    first: int = dataclasses.field(init=False)
    begun: bool = False  # whether a worker has
    active: float = dataclasses.field(default_factory=time.monotonic)  # when the first has, or one last had a batch

    def __post_init__(self) -> None:
        self.first = self.waiting[0]

    def began(self) -> None:
        """Note that a worker has begun."""
        if not self.begun:
            self.begun, self.active = True, time.monotonic()

    def check_progress(self) -> None:
        """Raise UserError if no worker has been there to take a batch for long."""
        if self.running:
            self.active = time.monotonic()
        elif time.monotonic() - self.active > START_SECONDS:
            raise UserError(
                f"all workers are lost, and none came within {START_SECONDS:.0f} s; what is done is kept: run the same "
                "command again when the cluster is well"
            )

    def part(self, batch: int) -> PartialFeatures:
        """Return what a worker needs to know of the job to compute a batch."""
        return PartialFeatures(self.partial.folder.parent.absolute(), self.partial.job.batch(batch))

    def put_back(self, batch: int, why: str) -> None:
        """Let a batch be computed again by any worker; raises UserError if it is lost again and again."""
        self.attempts[batch] += 1
        if self.attempts[batch] >= ATTEMPTS:
            first = self.partial.job.path(self.partial.job.rows(batch).start)
            raise UserError(
                f"{self.attempts[batch]} workers ended at the batch that begins with {first} ({why}); is there too "
                "little memory, or an image that breaks them? Leave it out, or take a smaller --batch_size"
            )
        self.waiting.appendleft(batch)


class Doubts:
    """Machines that could not start a worker, and why: they may be lost, which Ray notices only later."""

    def __init__(self) -> None:
        self._machines: dict[str, tuple[float, str]] = {}

    def add(self, node: Node, problem: str) -> None:
        """Doubt a machine from now on."""
        self._machines.setdefault(node.id, (time.monotonic(), problem))

    def __contains__(self, node: Node) -> bool:
        return node.id in self._machines

    def __bool__(self) -> bool:
        return bool(self._machines)

    def confirmed(self, there: set[str]) -> Iterator[tuple[str, str]]:
        """Yield machines that are still there when Ray would know of their loss, and why; forget those that are gone.

        Args:
            there: Those that are there, by id.
        """
        for machine, (since, problem) in [*self._machines.items()]:
            is_there = machine in there
            if not is_there or time.monotonic() - since > NOTICE_SECONDS:
                del self._machines[machine]
                if is_there:
                    yield machine, problem
