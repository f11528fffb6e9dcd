"""What the driver makes of machines that come, go, and start no worker, on a cluster that is played; none is real."""

import types

import numpy as np
import pytest
from conftest import RecordingConsole

from mhcln.backbone.recipe import BackboneOptions, Recipe
from mhcln.console import UserError
from mhcln.pipeline import hands, workers
from mhcln.pipeline.cluster import Node
from mhcln.pipeline.worker import About, Order
from mhcln.pipeline.workers import WorkersEngine
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.partial_features import Findings, PartialFeatures

GOOD, BAD = Node("good", "alpha", 1), Node("bad", "beta", 1)
BATCHES = 40
LOST = "The actor is not schedulable: The node doesn't exist any more."


class PlayedRay:
    """Calls are functions that are called when their result is asked for."""

    class exceptions:  # noqa: N801, Ray's name
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

    def wait(self, refs, **_):
        return refs[:1], refs[1:]

    def get(self, ref):
        return ref()

    def kill(self, actor):
        pass


class PlayedCluster:
    """One worker of GOOD computes; those of BAD cannot start. `there` says by number of look whether BAD is there."""

    cpus, gpus, most = 1, 0, None

    def __init__(self, there) -> None:
        self.ray, self.there = PlayedRay(), there
        self.looks, self.started = 0, []

    def nodes(self) -> list[Node]:
        self.looks += 1
        return [GOOD, BAD] if self.there(self.looks) else [GOOD]

    def start(self, _kind, node: Node, _calls):
        self.started.append(node)

        def begin(*_):
            if node == BAD:
                raise self.ray.exceptions.RayError(LOST)
            return About(node.host, "CPU", "tensorflow")

        method = lambda call: types.SimpleNamespace(remote=lambda *_: lambda: call())  # noqa: E731
        return types.SimpleNamespace(begin=method(begin), compute=method(lambda: (Findings(), [])))


def computed_on(cluster: PlayedCluster, tmp_path) -> list[str]:
    """Compute all batches; return the warnings."""
    paths = [f"{number}.jpg" for number in range(BATCHES)]
    partial = PartialFeatures(tmp_path, ExtractionJob("images", paths, np.zeros((BATCHES, 3), np.int64), "", 1))
    partial.folder.mkdir(parents=True)
    order = Order("", Recipe("random-inception-v3", ("pool_3",), "pixels", "float32", 1), BackboneOptions(), "cpu", 1)
    console = RecordingConsole()
    engine = WorkersEngine(cluster, order, "", console)
    done = [batch for batch, _ in engine.compute(partial, list(range(BATCHES)), "stop", lambda: None)]
    assert sorted(done) == list(range(BATCHES))
    return console.warned


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch) -> None:
    monkeypatch.setattr(workers, "LOOK_SECONDS", 0)


def test_a_machine_that_was_lost_before_ray_knows_it_is_no_warning(tmp_path):
    cluster = PlayedCluster(lambda look: 5 <= look < 15)
    assert computed_on(cluster, tmp_path) == []
    assert cluster.started == [GOOD, BAD]


def test_a_machine_that_starts_no_worker_although_it_is_there_is_left_out_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(hands, "NOTICE_SECONDS", 0)
    cluster = PlayedCluster(lambda look: look >= 5)
    (warning,) = computed_on(cluster, tmp_path)
    assert warning == f"worker on beta: it cannot start ({LOST}); see Ray's logs there; going on without that machine"
    assert cluster.started == [GOOD, BAD]


def test_a_machine_that_was_lost_and_comes_back_is_asked_again(tmp_path):
    cluster = PlayedCluster(lambda look: 5 <= look < 10 or 15 <= look < 20)
    assert computed_on(cluster, tmp_path) == []
    assert cluster.started == [GOOD, BAD, BAD]


def test_before_the_first_batch_a_lost_machine_is_no_refusal_and_one_that_is_there_is(tmp_path, monkeypatch):
    cluster = PlayedCluster(lambda look: look < 10)
    assert computed_on(cluster, tmp_path / "lost") == []
    assert sorted(node.id for node in cluster.started) == ["bad", "good"]
    monkeypatch.setattr(hands, "NOTICE_SECONDS", 0)
    with pytest.raises(UserError, match=r"^worker on beta: it cannot start .*; see Ray's logs there$"):
        computed_on(PlayedCluster(lambda _: True), tmp_path / "there")
