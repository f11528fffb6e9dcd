"""The content of `results.json`: every metric of an evaluation, and the set-up that produced it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mhcln.storage import layout
from mhcln.storage.run_record import RunInputs, TrainConfig
from mhcln.storage.source import read_json_content, write_json_content

Metrics = dict[str, float | int | None]


@dataclasses.dataclass(frozen=True)
class ConfusedPair:
    """Share of class `found` in what queries of class `query` retrieved."""

    query: str
    found: str
    share: float


@dataclasses.dataclass(frozen=True)
class Cost:
    """What an image costs in one representation, and how well that retrieves.

    Attributes:
        what: "features", "signs" of the features, "activations" or "codes".
        stored: What is stored of an image, such as "2048 floats".
        bytes_per_image: Its size.
        metrics: The metrics that vectors and codes share, by name.
    """

    what: str
    stored: str
    bytes_per_image: int
    metrics: Metrics


@dataclasses.dataclass(frozen=True)
class Results:
    """An evaluation of one run. In the file, metrics and set-up are keys beside the others.

    Attributes:
        run: Name of the run's folder.
        stamp: The warning shown beside the metrics if the split leaks into the test images; None if it does not.
        k: The cut-off.
        archive: Which images were searched: "test", "train", "all" or "database".
        queries: Number of test images.
        queries_left_out: Queries with nothing to find, which are in no mean.
        searched: Number of images that each query is compared with.
        metrics: Every metric of `mhcln.evaluation.definitions`, by name.
        precision_by_radius: Mean precision within Hamming radius 0, 1, ..., K.
        recall_by_radius: Mean recall within the same radii.
        empty_by_radius: Share of queries with no image within the same radii.
        per_class: Published mAP@k of the queries of each class.
        confused_pairs: The classes that are most often taken for each other.
        inputs: The data that the run was trained on.
        config: How it was trained; None if it is not known, as the next four.
        iterations_done: Iterations that were run, if training ended before the iterations of the configuration.
        training_seconds: How long training took.
        device: Where it was trained.
        tensorflow: By which version.
        codes_sha256: SHA-256 of the codes that were evaluated.
        search_seconds: How long the evaluation took.
        definitions: The meaning of each key.
        costs: The same metrics of the features, of their signs, of the activations and of the codes.
    """

    run: str
    stamp: str | None
    k: int
    archive: str
    queries: int
    queries_left_out: int
    searched: int
    metrics: Metrics
    precision_by_radius: list[float]
    recall_by_radius: list[float]
    empty_by_radius: list[float]
    per_class: dict[str, float]
    confused_pairs: list[ConfusedPair]
    inputs: RunInputs
    config: TrainConfig | None
    bits: int
    iterations_done: int | None
    training_seconds: float | None
    device: str | None
    tensorflow: str | None
    codes_sha256: str
    search_seconds: float
    definitions: dict[str, str]
    costs: list[Cost]

    def to_json(self) -> dict[str, Any]:
        """Return the flat keys of `results.json`, in the order of the fields."""
        costs = [
            {"what": cost.what, "stored": cost.stored, "bytes_per_image": cost.bytes_per_image, **cost.metrics}
            for cost in self.costs
        ]
        flattened: dict[str, Mapping[str, object]] = {
            "metrics": self.metrics,
            "confused_pairs": {"confused_pairs": [vars(pair) for pair in self.confused_pairs]},
            "inputs": vars(self.inputs),
            "config": vars(self.config) if self.config else dict.fromkeys(vars(TrainConfig())),
            "costs": {"costs": costs},
        }
        content: dict[str, Any] = {}
        for name, value in vars(self).items():
            content |= flattened.get(name, {name: value})
        return content


def write_results(run_dir: Path, results: Results) -> None:
    """Write `results.json`."""
    write_json_content(run_dir / layout.RESULTS, results.to_json())


def read_results(run_dir: Path) -> dict[str, Any]:
    """Read the keys of `results.json`, which must not have changed since they were written."""
    return read_json_content(run_dir / layout.RESULTS, layout.EVALUATE)
