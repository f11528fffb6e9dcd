"""Codes and labels to metrics: every test image is a query, and a metric of a ranking is a mean over the queries."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.evaluation import metrics, ranking
from mhcln.evaluation.code_metrics import count_within_radius
from mhcln.evaluation.definitions import CODE_METRICS, PUBLISHED_MAP, RADIUS, RADIUS_METRICS, RANKING_METRICS, Retrieved
from mhcln.evaluation.metrics import Values
from mhcln.hamming.codes import unpack
from mhcln.storage.coded_images import CodedImages
from mhcln.storage.results import ConfusedPair, Metrics

ARCHIVES = ("test", "train", "all")  # that every run has
DATABASE = "database"  # that of splits which name what is searched
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
        """Whether each query `[q]` has another image of its class to find; those that have not are in no mean."""
        available = np.bincount(self.labels[self.archive], minlength=len(self.class_names))
        return available[self.labels[self.queries]] > (self.query_positions is not None)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Everything that was measured.

    Attributes:
        protocol: How it was measured.
        metrics: Every metric of `mhcln.evaluation.definitions`, by name, as a fraction or a count.
        precision_by_radius: Mean precision within Hamming radius 0, 1, ..., K.
        recall_by_radius: Mean recall within the same radii.
        empty_by_radius: Share of queries with no image within the same radii.
        per_class: Published mAP@k of the queries of each class that has any.
        confused_pairs: The classes that are most often taken for each other, at most CONFUSED_PAIRS.
        neighbours: `[q, k]` rows of the codes file, nearest first.
        distances: `[q, k]` their Hamming distances.
        average_precision: `[q]` published average precision at k.
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
    confusion: Values


def choose_protocol(codes: CodedImages, archive: str, k: int) -> Protocol:
    """Choose the queries and the archive.

    Args:
        codes: Images of both parts of a split.
        archive: One of ARCHIVES, or DATABASE. "test" is the published protocol: the test set against itself.
        k: The cut-off.

    Returns:
        A protocol in which at least one query has something to find.
    """
    if archive not in (*ARCHIVES, DATABASE):
        raise UserError(f"archive={archive!r} is not one of {', '.join((*ARCHIVES, DATABASE))}")
    if not codes.class_names:
        raise UserError(
            "the images have no classes, so that nothing says which images a query should find; search them with "
            "eval.py --query"
        )
    queries, searched = codes.rows_of_part("test"), codes.rows_of_part(archive)
    if archive == DATABASE and not len(searched):
        raise UserError("the split of this run names no database; choose another --archive, such as train")
    positions = None if archive in ("train", DATABASE) else np.searchsorted(searched, queries)
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


def evaluate(codes: CodedImages, archive: str = "test", k: int = 20) -> Evaluation:
    """Search with every query by Hamming distance and compute every metric.

    Args:
        codes: Images of both parts of a split.
        archive: What is searched, one of ARCHIVES, or DATABASE.
        k: The cut-off.

    Returns:
        The metrics, and what pictures and reports need beside them.
    """
    protocol = choose_protocol(codes, archive, k)
    archive_codes, has_relevant = codes.codes[protocol.archive], protocol.has_relevant
    blocks, sums = [], {curve: np.zeros(codes.bits + 1) for curve in RADIUS_METRICS}
    for block in ranking.by_hamming(codes.codes[protocol.queries], archive_codes, protocol.query_positions):
        retrieved = _retrieved(protocol, block)
        counts = count_within_radius(retrieved.relevant, block.distances, codes.bits)
        for curve, metric in RADIUS_METRICS.items():
            values = metric.function(counts)[has_relevant[block.queries]]
            # Query by query, so that the size of the blocks changes no bit of the sum.
            sums[curve] = np.vstack([sums[curve], values]).sum(axis=0)
        blocks.append(
            {
                **{metric.name: metric.function(retrieved) for metric in RANKING_METRICS},
                "neighbours": protocol.archive[block.order[:, :k]],
                "distances": block.distances[:, :k].copy(),  # a view would keep the whole block in memory
            }
        )
    per_query = _joined(blocks)
    neighbours, average_precision = per_query["neighbours"], per_query[PUBLISHED_MAP.name]
    curves = {curve: (total / np.count_nonzero(has_relevant)).tolist() for curve, total in sums.items()}
    bits = unpack(archive_codes, codes.bits)
    labels = codes.labels[protocol.queries[has_relevant]]
    confusion = metrics.confusion(labels, codes.labels[neighbours[has_relevant]], len(codes.class_names))
    return Evaluation(
        protocol=protocol,
        metrics={
            **_means(per_query, protocol),
            **{metric.name: curves[curve][min(RADIUS, codes.bits)] for curve, metric in RADIUS_METRICS.items()},
            **{metric.name: metric.function(bits) for metric in CODE_METRICS},
        },
        **curves,
        per_class=_per_class(average_precision[has_relevant], labels, codes.class_names),
        confused_pairs=_confused_pairs(confusion, codes.class_names),
        neighbours=neighbours,
        distances=per_query["distances"],
        average_precision=average_precision,
        confusion=confusion,
    )


def evaluate_vectors(vectors: NDArray[np.float32], protocol: Protocol) -> Metrics:
    """Compute the metrics of a ranking for real-valued vectors `[n, d]`, compared by cosine.

    Rows are rows of the codes file; queries, archive, the order among equals and definitions are the same as for the
    codes.
    """
    queries, archive = vectors[protocol.queries], vectors[protocol.archive]
    blocks = []
    for block in ranking.by_cosine(queries, archive, protocol.query_positions):
        retrieved = _retrieved(protocol, block)
        blocks.append({metric.name: metric.function(retrieved) for metric in RANKING_METRICS})
    return _means(_joined(blocks), protocol)


def _retrieved(protocol: Protocol, block: ranking.Ranking) -> Retrieved:
    classes = protocol.labels[protocol.queries[block.queries]]
    relevant = protocol.labels[protocol.archive][block.order] == classes[:, None]
    return Retrieved(relevant, block.distances, protocol.k)


def _joined(blocks: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _means(per_query: dict[str, NDArray[Any]], protocol: Protocol) -> Metrics:
    chosen = protocol.has_relevant
    return {metric.key(protocol.k): float(per_query[metric.name][chosen].mean()) for metric in RANKING_METRICS}


def _per_class(values: Values, labels: NDArray[np.int32], names: list[str]) -> dict[str, float]:
    means = metrics.mean_per_class(values, labels, len(names))
    return {name: float(mean) for name, mean in zip(names, means, strict=True) if np.isfinite(mean)}


def _confused_pairs(confusion: Values, names: list[str]) -> list[ConfusedPair]:
    mistakes = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:CONFUSED_PAIRS]
    pairs = [divmod(int(cell), len(names)) for cell in order]
    return [ConfusedPair(names[a], names[b], float(mistakes[a, b])) for a, b in pairs if mistakes[a, b] > 0]
