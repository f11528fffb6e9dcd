"""Codes and labels to metrics: every test image is a query, and a metric of a ranking is a mean over the queries."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.evaluation import definitions, metrics, ranking
from mhcln.evaluation.code_metrics import PackedCodes, count_within_radius
from mhcln.evaluation.definitions import Given, Metric, PerQuery, Retrieved
from mhcln.evaluation.metrics import Values
from mhcln.storage.formats import Codes
from mhcln.storage.results import ConfusedPair, Metrics

ARCHIVES = ("test", "train", "all")
CONFUSED_PAIRS = 10


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Which images are queries, and what they are searched in.

    Attributes:
        labels: `[n]` class of every image of the codes file.
        class_names: Names of the classes in label order.
        queries: `[q]` rows of the codes file.
        archive: `[a]` rows of the codes file, in storage order.
        query_positions: `[q]` position of each query in the archive, which its ranking leaves out; None if no query
            is in the archive.
        k: The cut-off.
    """

    labels: NDArray[np.int32]
    class_names: list[str]
    queries: NDArray[np.int64]
    archive: NDArray[np.int64]
    query_positions: NDArray[np.int64] | None
    k: int

    @property
    def reach(self) -> int:
        """How many images a query can find."""
        return len(self.archive) - (self.query_positions is not None)

    @property
    def has_relevant(self) -> NDArray[np.bool_]:
        """Whether each query `[q]` has another image of its class to find."""
        available = np.bincount(self.labels[self.archive], minlength=len(self.class_names))
        return available[self.labels[self.queries]] > (self.query_positions is not None)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Everything that was measured.

    Attributes:
        protocol: How.
        metrics: Every metric of `mhcln.evaluation.definitions`, by name, as a fraction or a count.
        precision_by_radius: Mean precision within Hamming radius 0, 1, ..., K.
        recall_by_radius: Mean recall within the same radii.
        empty_by_radius: Share of queries with no image within the same radii.
        per_class: Published mAP@k of the queries of each class that has any.
        confused_pairs: The classes that are most often taken for each other, at most CONFUSED_PAIRS.
        neighbours: `[q, k]` rows of the codes file, nearest first.
        distances: `[q, k]` their Hamming distances.
        average_precision: `[q]` published average precision at k.
        has_relevant: `[q]` false for queries that have nothing to find, which are in no mean.
        confusion: `[c, c]` share of each class in what queries of a class retrieved.
    """

    protocol: Protocol
    metrics: Metrics
    precision_by_radius: list[float]
    recall_by_radius: list[float]
    empty_by_radius: list[float]
    per_class: dict[str, float]
    confused_pairs: list[ConfusedPair]
    neighbours: NDArray[np.int64]
    distances: NDArray[np.unsignedinteger]
    average_precision: Values
    has_relevant: NDArray[np.bool_]
    confusion: Values


def choose_protocol(codes: Codes, archive: str, k: int) -> Protocol:
    """Choose the queries and the archive.

    Args:
        codes: Images of both parts of a split.
        archive: One of ARCHIVES. "test" is the published protocol: the test set against itself.
        k: The cut-off.

    Returns:
        A protocol in which at least one query has something to find.

    Raises:
        UserError: There is no test image, less to find than `k`, or nothing to find for any query.
    """
    part = np.array(codes.split)
    queries = np.flatnonzero(part == "test")
    searched = np.arange(len(part)) if archive == "all" else np.flatnonzero(part == archive)
    positions = None if archive == "train" else np.searchsorted(searched, queries)
    protocol = Protocol(codes.labels, codes.class_names, queries, searched, positions, k)
    if not len(queries):
        raise UserError("codes.npz holds no test image; make a split with one by dataset_generator.py and train again")
    if k > protocol.reach:
        raise UserError(
            f"--k={k} is more than the {protocol.reach} images that a query can find with --archive={archive}; "
            "choose a smaller --k"
        )
    if not protocol.has_relevant.any():
        raise UserError("no query has an image of its class in the archive; choose another --archive or split")
    return protocol


def evaluate(codes: Codes, archive: str = "test", k: int = 20) -> Evaluation:
    """Search with every query by Hamming distance and compute every metric.

    Args:
        codes: Images of both parts of a split.
        archive: What is searched, one of ARCHIVES.
        k: The cut-off.

    Returns:
        The metrics, and what pictures and reports need beside them.

    Raises:
        UserError: As `choose_protocol`.
    """
    protocol = choose_protocol(codes, archive, k)
    searched = codes.codes[protocol.archive]
    blocks, neighbours, distances = [], [], []
    for block in ranking.by_hamming(codes.codes[protocol.queries], searched, protocol.query_positions):
        retrieved = _retrieved(protocol, block)
        counts = count_within_radius(retrieved.relevant, block.distances, codes.bits)
        blocks.append(_measured(definitions.RANKING_METRICS, retrieved) | _measured(definitions.RADIUS_METRICS, counts))
        neighbours.append(protocol.archive[block.order[:, :k]])
        distances.append(block.distances[:, :k].copy())  # a view would keep the whole block in memory
    found = np.concatenate(neighbours)
    has_relevant = protocol.has_relevant
    per_query = _joined(blocks)
    curves = {metric.name: per_query[metric.name][has_relevant].mean(axis=0) for metric in definitions.RADIUS_METRICS}
    packed = PackedCodes(searched, codes.bits)
    average_precision = per_query[definitions.PUBLISHED_MAP.name].astype(np.float64, copy=False)
    labels = codes.labels[protocol.queries[has_relevant]]
    confusion = metrics.confusion(labels, codes.labels[found[has_relevant]], len(codes.class_names))
    return Evaluation(
        protocol=protocol,
        metrics={
            **_means(per_query, protocol),
            **{name: float(curve[min(definitions.RADIUS, codes.bits)]) for name, curve in curves.items()},
            **{metric.name: metric.function(packed) for metric in definitions.CODE_METRICS},
        },
        precision_by_radius=curves[definitions.RADIUS_PRECISION.name].tolist(),
        recall_by_radius=curves[definitions.RADIUS_RECALL.name].tolist(),
        empty_by_radius=curves[definitions.RADIUS_EMPTY.name].tolist(),
        per_class=_per_class(average_precision[has_relevant], labels, codes.class_names),
        confused_pairs=_confused_pairs(confusion, codes.class_names),
        neighbours=found,
        distances=np.concatenate(distances),
        average_precision=average_precision,
        has_relevant=has_relevant,
        confusion=confusion,
    )


def evaluate_vectors(vectors: NDArray[np.float32], protocol: Protocol) -> Metrics:
    """Compute the metrics of a ranking for real-valued vectors `[n, d]`, compared by cosine.

    Rows are those of the codes file; queries, archive, the order among equals and definitions are the same as for the
    codes.
    """
    queries, archive = vectors[protocol.queries], vectors[protocol.archive]
    blocks = [
        _measured(definitions.RANKING_METRICS, _retrieved(protocol, block))
        for block in ranking.by_cosine(queries, archive, protocol.query_positions)
    ]
    return _means(_joined(blocks), protocol)


def _retrieved(protocol: Protocol, block: ranking.Ranking) -> Retrieved:
    classes = protocol.labels[protocol.queries[block.queries]]
    relevant = protocol.labels[protocol.archive][block.order] == classes[:, None]
    return Retrieved(relevant, block.distances, protocol.k)


def _measured(chosen: Iterable[Metric[Given, PerQuery]], given: Given) -> dict[str, PerQuery]:
    return {metric.name: metric.function(given) for metric in chosen}


def _joined(blocks: list[dict[str, PerQuery]]) -> dict[str, PerQuery]:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _means(per_query: dict[str, PerQuery], protocol: Protocol) -> Metrics:
    chosen = protocol.has_relevant
    return {
        metric.key(protocol.k): float(per_query[metric.name][chosen].mean()) for metric in definitions.RANKING_METRICS
    }


def _per_class(values: Values, labels: NDArray[np.int32], names: list[str]) -> dict[str, float]:
    means = metrics.mean_per_class(values, labels, len(names))
    return {name: float(mean) for name, mean in zip(names, means, strict=True) if np.isfinite(mean)}


def _confused_pairs(confusion: Values, names: list[str]) -> list[ConfusedPair]:
    mistakes = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:CONFUSED_PAIRS]
    pairs = [divmod(int(cell), len(names)) for cell in order]
    return [ConfusedPair(names[a], names[b], float(mistakes[a, b])) for a, b in pairs if mistakes[a, b] > 0]
