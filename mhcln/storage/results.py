"""The content of `results.json`: every metric of an evaluation, and the set-up that produced it."""

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mhcln.console import UserError
from mhcln.storage import layout, source
from mhcln.storage.run_record import RunInputs, TrainConfig
from mhcln.storage.source import Source

Metrics = dict[str, float | int | None]
Entry = dict[str, object]


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
        what: "features", "activations" or "codes".
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
        stamp: What must stand beside the metrics if the split leaks into the test images; None if it does not.
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
        config: How it was trained; None if nothing says it.
        bits: Bits of a code.
        training_seconds: How long training took; None, as the next two, if nothing says it.
        device: Where it was trained.
        tensorflow: By which version.
        codes_sha256: SHA-256 of the codes that were evaluated.
        search_seconds: How long the evaluation took.
        definitions: The meaning of each key.
        costs: Features, activations and codes side by side, as far as they are there.
        iterations_done: Iterations that were run, if `trainer.py --finish` ended the run; None otherwise.
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
    training_seconds: float | None
    device: str | None
    tensorflow: str | None
    codes_sha256: str
    search_seconds: float
    definitions: dict[str, str]
    costs: list[Cost]
    iterations_done: int | None = None

    def to_json(self) -> dict[str, object]:
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
        content: dict[str, object] = {}
        for name, value in vars(self).items():
            content |= flattened.get(name, {name: value})
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any], path: Path) -> "Results":
        """Take apart the flat keys of `results.json`; raises UserError if one is missing."""
        made = Source(path, layout.EVALUATE)
        flat = {field.name for field in dataclasses.fields(cls)} - {"metrics", "inputs", "config"}
        missing = sorted(flat - content.keys() - {"iterations_done"})  # which earlier versions did not write
        if missing:
            raise UserError(f"{path} does not say {missing[0]!r}; make it again with {layout.EVALUATE}")
        types = {**typing.get_type_hints(cls), "confused_pairs": list[Entry], "costs": list[Entry]}
        flat &= content.keys()
        for name in sorted(flat):
            made.require_type(name, content[name], types[name])
        setup = vars(RunInputs()).keys() | vars(TrainConfig()).keys()
        values = {
            **{name: content[name] for name in flat},
            "metrics": _metrics(made, {name: value for name, value in content.items() if name not in flat | setup}),
            "confused_pairs": [made.parse(ConfusedPair, pair) for pair in content["confused_pairs"]],
            "costs": [_cost(made, entry) for entry in content["costs"]],
            "inputs": made.parse(RunInputs, content),
            "config": made.parse(TrainConfig, content) if content.get("loss") is not None else None,
        }
        return cls(**values)


def _cost(made: Source, entry: Entry) -> Cost:
    stated: Entry = {name: entry[name] for name in ("what", "stored", "bytes_per_image") if name in entry}
    metrics = {name: value for name, value in entry.items() if name not in stated}
    return made.parse(Cost, {**stated, "metrics": _metrics(made, metrics)})


def _metrics(made: Source, values: Entry) -> Metrics:
    made.require_type("a metric", values, Metrics)
    return typing.cast(Metrics, values)


def write_results(run_dir: Path, results: Results) -> None:
    """Write `results.json`."""
    source.write_json_content(run_dir / layout.RESULTS, results.to_json())


def read_results(run_dir: Path) -> Results:
    """Read `results.json`.

    Raises:
        UserError: The file is missing or damaged.
    """
    path = run_dir / layout.RESULTS
    return Results.from_json(source.read_json_content(path, layout.EVALUATE), path)
