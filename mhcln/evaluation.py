"""Codes and labels to results: every test image is a query, and every figure is a mean over the queries."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln import codehealth, hamming, lookup, metrics, ranking, ties
from mhcln.artifacts import Codes
from mhcln.errors import UserError
from mhcln.metrics import Values

ARCHIVES = ("test", "train", "all")
RADIUS = 2  # of the field's usual look-up figures
CONFUSED_PAIRS = 10


@dataclasses.dataclass(frozen=True)
class Trial:
    """Who asks and what is searched: `queries` [q] and `archive` [n] are rows of the codes file.

    `own` [q] is the archive position of each query, None where no query is in the archive; `k` is the cut-off.
    """

    labels: NDArray[np.integer]
    class_names: list[str]
    queries: NDArray[np.int64]
    archive: NDArray[np.int64]
    own: NDArray[np.int64] | None
    k: int

    @property
    def reach(self) -> int:
        """How many images a query can find."""
        return len(self.archive) - (self.own is not None)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What came out: `values` for results.json (flat, fractions), and what the pictures and the report need.

    `neighbours` [q, k] rows of the codes file, nearest first; `distances` [q, k]; `average_precision` [q] of the
    published definition; `possible` [q] false for queries that have nothing to find; `confusion` [c, c].
    """

    values: dict[str, Any]
    neighbours: NDArray[np.int64]
    distances: NDArray
    average_precision: Values
    possible: NDArray[np.bool_]
    confusion: Values


def trial(codes: Codes, archive: str, k: int) -> Trial:
    """Choose queries and archive: `archive` is "test" (published: the test set against itself), "train" or "all".

    Raises UserError where there is no test image, nothing to search, or less to find than k.
    """
    part = np.array(codes.split)
    queries = np.flatnonzero(part == "test")
    searched = np.arange(len(part)) if archive == "all" else np.flatnonzero(part == archive)
    own = None if archive == "train" else np.searchsorted(searched, queries)
    chosen = Trial(codes.labels, codes.class_names, queries, searched, own, k)
    if not len(queries):
        raise UserError("codes.npz holds no test image; make a split with one by dataset_generator.py and train again")
    if k > chosen.reach:
        raise UserError(
            f"--k={k} is more than the {chosen.reach} images that a query can find with --archive={archive}; "
            "choose a smaller --k"
        )
    return chosen


def evaluate(codes: Codes, chosen: Trial) -> Evaluation:
    """Search with every query by Hamming distance and measure everything; raises UserError where nothing can be found.

    The keys of `values` are described by `mhcln.definitions.definitions`.
    """
    searched = codes.codes[chosen.archive]
    parts = []
    for block in ranking.by_hamming(codes.codes[chosen.queries], searched, chosen.own):
        relevant = _relevance(chosen, block)
        inside = lookup.balls(relevant, block.distances, codes.bits)
        parts.append(
            {
                **_at_cutoff(relevant, block.distances, chosen.k),
                "neighbours": chosen.archive[block.order[:, : chosen.k]],
                "distances": block.distances[:, : chosen.k],
                "precision_within": lookup.precision_within(inside),
                "recall_within": lookup.recall_within(inside),
                "empty": lookup.empty(inside),
            }
        )
    each = _joined(parts)
    possible = _possible(each)
    k = chosen.k
    labels = codes.labels[chosen.queries[possible]]
    found = codes.labels[each["neighbours"][possible]]
    taken = metrics.confusion(labels, found, len(codes.class_names))
    values = {
        **_means(each, possible, k),
        **_within(each, possible),
        **_health(codes, searched),
        "per_class": _per_class(each[f"mAP@{k}"][possible], labels, codes.class_names),
        "confused_pairs": _confused(taken, codes.class_names),
    }
    return Evaluation(values, each["neighbours"], each["distances"], each[f"mAP@{k}"], possible, taken)


def evaluate_vectors(vectors: NDArray[np.float32], chosen: Trial) -> dict[str, float]:
    """The figures at the cut-off and of the whole ranking for real-valued vectors [n, d] compared by cosine.

    Rows are those of the codes file; queries, archive, tie rule and definitions are the same as for the codes.
    """
    rankings = ranking.by_cosine(vectors[chosen.queries], vectors[chosen.archive], chosen.own)
    each = _joined([_at_cutoff(_relevance(chosen, block), block.distances, chosen.k) for block in rankings])
    return _means(each, _possible(each), chosen.k)


def shared_figures(k: int) -> list[str]:
    """Names of the figures that codes and real-valued vectors have in common, the published one first."""
    cut = f"mAP@{k}"
    ends = ("min_denominator", "tie_aware", "worst", "best")
    return [cut, *(f"{cut}_{end}" for end in ends), "mAP", f"P@{k}", f"R@{k}", "tied_at_k"]


def _relevance(chosen: Trial, block: ranking.Ranking) -> metrics.Relevance:
    asked = chosen.labels[chosen.queries[block.queries]]
    return chosen.labels[chosen.archive][block.order] == asked[:, None]


def _at_cutoff(relevant: metrics.Relevance, distances: NDArray, k: int) -> dict[str, NDArray]:
    top, total = relevant[:, :k], relevant.sum(axis=1)
    tied = ties.groups(relevant, distances, k)
    worst, best = ties.band(tied)
    return {
        f"mAP@{k}": metrics.average_precision(top),
        f"mAP@{k}_min_denominator": metrics.average_precision_min(top, total),
        f"mAP@{k}_tie_aware": ties.expected_average_precision(tied),
        f"mAP@{k}_worst": worst,
        f"mAP@{k}_best": best,
        "mAP": metrics.average_precision_min(relevant, total),
        f"P@{k}": metrics.precision(top),
        f"R@{k}": metrics.recall(top, total),
        "tied_at_k": ties.tied_at_cutoff(distances, k),
        "total": total,
    }


def _joined(parts: list[dict[str, NDArray]]) -> dict[str, NDArray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _possible(each: dict[str, NDArray]) -> NDArray[np.bool_]:
    possible = each["total"] > 0
    if not possible.any():
        raise UserError("no query has an image of its class in the archive; choose another --archive or split")
    return possible


def _means(each: dict[str, NDArray], possible: NDArray[np.bool_], k: int) -> dict[str, float]:
    return {name: float(each[name][possible].mean()) for name in shared_figures(k)}


def _within(each: dict[str, NDArray], possible: NDArray[np.bool_]) -> dict[str, Any]:
    precision, recall, empty = (
        each[name][possible].mean(axis=0) for name in ("precision_within", "recall_within", "empty")
    )
    radius = min(RADIUS, len(precision) - 1)
    return {
        f"P_radius{RADIUS}": float(precision[radius]),
        f"R_radius{RADIUS}": float(recall[radius]),
        f"empty_radius{RADIUS}": float(empty[radius]),
        "precision_by_radius": precision.tolist(),
        "recall_by_radius": recall.tolist(),
        "empty_by_radius": empty.tolist(),
    }


def _health(codes: Codes, searched: NDArray[np.uint8]) -> dict[str, Any]:
    bits = hamming.unpack(searched, codes.bits)
    balance = codehealth.bit_balance(bits)
    return {
        "distinct_codes": codehealth.distinct(searched),
        "bit_balance_mean": float(balance.mean()),
        "bit_balance_worst": float(balance.min()),
        "bit_correlation_mean": codehealth.bit_correlation(bits),
    }


def _per_class(values: Values, labels: NDArray[np.integer], names: list[str]) -> dict[str, float]:
    means = metrics.mean_per_class(values, labels, len(names))
    return {name: float(mean) for name, mean in zip(names, means, strict=True) if np.isfinite(mean)}


def _confused(taken: Values, names: list[str]) -> list[dict[str, Any]]:
    mistakes = taken - np.diag(np.diag(taken))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:CONFUSED_PAIRS]
    pairs = [divmod(int(cell), len(names)) for cell in order]
    return [
        {"query": names[a], "found": names[b], "share": float(mistakes[a, b])} for a, b in pairs if mistakes[a, b] > 0
    ]
