"""The registry of metrics: each one's name, its meaning in words, and the function that computes it.

`results.json`, the summary, the page and the tables take names and words from here. In names and words `{k}` stands
for the cut-off and `{next}` for k + 1. The formulas use the symbols of `mhcln.evaluation.metrics`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from mhcln.evaluation import code_metrics, metrics, tie_aware
from mhcln.evaluation.metrics import Relevance, Values
from mhcln.evaluation.tie_aware import Distances, TieGroups
from mhcln.hamming.codes import count_distinct, pack

RADIUS = 2  # bits, as usual in the field for looking up codes
ORDER = "distance, then storage order; the query is left out by its path"


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric: a template of its name, its meaning, and the function that computes it.

    What the function takes and returns is said where the metrics are collected, below.
    """

    name: str
    words: str
    function: Callable[[Any], Any]

    def key(self, k: int) -> str:
        """Return the name for a cut-off, as it is used everywhere outside of this room."""
        return self.name.format(k=k)


@dataclasses.dataclass(frozen=True)
class Retrieved:
    """The ranking of the whole archive for a block of queries, with what several metrics need computed once.

    Attributes:
        relevant: `[q, n] bool`, nearest first.
        distances: `[q, n]`, in the same order.
        k: The cut-off, 1 <= k <= n.
    """

    relevant: Relevance
    distances: Distances
    k: int

    @property
    def top(self) -> Relevance:
        """Relevance of the top k, `[q, k]`."""
        return self.relevant[:, : self.k]

    @functools.cached_property
    def ties(self) -> TieGroups:
        """The groups of equal distance down to rank k; their `total` is R."""
        return tie_aware.tie_groups(self.relevant, self.distances, self.k)

    @functools.cached_property
    def worst_and_best(self) -> tuple[Values, Values]:
        """The ends of published average precision over all orders inside ties."""
        return tie_aware.worst_and_best(self.ties)


PUBLISHED_MAP = Metric(
    "mAP@{k}",
    "mean over queries of AP@{k} = sum of the precision at each relevant rank up to {k} / number of relevant images "
    f"retrieved in the top {{k}}, 0 where there is none; order: {ORDER} (the published definition)",
    lambda retrieved: metrics.average_precision(retrieved.top),
)
MIN_DENOMINATOR_MAP = Metric(
    "mAP@{k}_min_denominator",
    "as mAP@{k}, divided by min({k}, R) instead; R is how many relevant images there are",
    lambda retrieved: metrics.average_precision_min(retrieved.top, retrieved.ties.total),
)
TIE_AWARE_MAP = Metric(
    "mAP@{k}_tie_aware",
    "expected value of mAP@{k}_min_denominator over all orders among equal distances, exact",
    lambda retrieved: tie_aware.expected_average_precision(retrieved.ties),
)
WORST_MAP = Metric(
    "mAP@{k}_worst",
    "mAP@{k} (published definition) under the worst order among equal distances, query by query",
    lambda retrieved: retrieved.worst_and_best[0],
)
BEST_MAP = Metric(
    "mAP@{k}_best",
    "mAP@{k} (published definition) under the best order among equal distances, query by query",
    lambda retrieved: retrieved.worst_and_best[1],
)
FULL_MAP = Metric(
    "mAP",
    f"mean average precision over the whole ranking, divided by R; order: {ORDER}",
    lambda retrieved: metrics.average_precision_min(retrieved.relevant, retrieved.ties.total),
)
PRECISION = Metric(
    "P@{k}",
    "share of the top {k} that is relevant, mean over queries",
    lambda retrieved: metrics.precision(retrieved.top),
)
RECALL = Metric(
    "R@{k}",
    "share of the R relevant images that is in the top {k}, mean over queries",
    lambda retrieved: metrics.recall(retrieved.top, retrieved.ties.total),
)
TIED = Metric(
    "tied_at_k",
    "share of queries whose ranks {k} and {next} are equally far, so that the order among equals decides what is in "
    "the top {k}",
    lambda retrieved: tie_aware.tied_at_cutoff(retrieved.distances, retrieved.k),
)

# Metrics that codes and real-valued vectors share: a function takes a `Retrieved` and returns a value per query, `[q]`.
RANKING_METRICS = (
    *(PUBLISHED_MAP, MIN_DENOMINATOR_MAP, TIE_AWARE_MAP, WORST_MAP, BEST_MAP),
    *(FULL_MAP, PRECISION, RECALL, TIED),
)
# By the name of their curve in results.json: a function takes `RadiusCounts` and returns the curve of each query,
# `[q, K + 1]`; the metric is its value at RADIUS.
RADIUS_METRICS = {
    "precision_by_radius": Metric(
        f"P_radius{RADIUS}",
        f"share of the images within Hamming distance {RADIUS} that is relevant, 0 where there is none, mean over "
        "queries",
        code_metrics.precision_within,
    ),
    "recall_by_radius": Metric(
        f"R_radius{RADIUS}",
        f"share of the R relevant images that is within Hamming distance {RADIUS}, mean over queries",
        code_metrics.recall_within,
    ),
    "empty_by_radius": Metric(
        f"empty_radius{RADIUS}",
        f"share of queries with no image within Hamming distance {RADIUS}",
        code_metrics.empty_within,
    ),
}
# A function takes the bits `[n, K]` of the archive, 0 or 1, and returns the metric itself.
CODE_METRICS = (
    Metric("distinct_codes", "number of different codes in the archive", lambda bits: count_distinct(pack(bits))),
    Metric(
        "bit_balance_mean",
        "mean over bits of min(m, 1 - m), m the share of archive images whose bit is 1; 0.5 is even, 0 constant",
        lambda bits: float(code_metrics.bit_balance(bits).mean()),
    ),
    Metric(
        "bit_balance_worst",
        "smallest min(m, 1 - m) of any bit",
        lambda bits: float(code_metrics.bit_balance(bits).min()),
    ),
    Metric(
        "bit_correlation_mean",
        "mean over pairs of bits of |Pearson correlation| over the archive, constant bits left out; null where fewer "
        "than two bits vary",
        code_metrics.bit_correlation,
    ),
)
# In the order in which people read them: how many queries are tied comes after what the ties may change.
_ALL_METRICS = (*RANKING_METRICS[:-1], *RADIUS_METRICS.values(), TIED, *CODE_METRICS)
# Keys of results.json that hold more than one number, or a number that is not a metric.
_OTHER_KEYS = {
    "per_class": "mAP@{k} (published definition) of the queries of each class",
    "confused_pairs": "share of class `found` in the top {k} of queries of class `query`, the largest first",
    **{curve: f"as {metric.name} for radius 0, 1, ... bits" for curve, metric in RADIUS_METRICS.items()},
    "costs": "the same figures for the real-valued features and activations that the codes stand for, compared by "
    "cosine in float32, for the signs of the features, each cut at its median over the training images, and bytes per "
    "image",
    "queries": "test images that were searched for",
    "queries_left_out": "queries with no other image of their class in the archive: they have nothing to find and are "
    "in no mean",
    "searched": "images that each query is compared with",
    "contaminated": "test images that were also trained on; anything above 0 makes every figure too good",
    "train_test_duplicates": "further test images with an equal image among the training images: the same features bit "
    "by bit, or the same path but for the ending, 0 for splits that were drawn; or the same features as a view that "
    "was trained on; null if nothing says it",
}


def metric_names(k: int) -> list[str]:
    """Return the names of all metrics, in the order in which people read them."""
    return [metric.key(k) for metric in _ALL_METRICS]


def shared_names(k: int) -> list[str]:
    """Return the names of the metrics that codes and real-valued vectors have in common, the published one first."""
    return [metric.key(k) for metric in RANKING_METRICS]


def definitions(k: int) -> dict[str, str]:
    """Return the meaning of each key of `results.json` for the cut-off `k`."""
    words = {metric.name: metric.words for metric in _ALL_METRICS} | _OTHER_KEYS
    return {name.format(k=k): text.format(k=k, next=k + 1) for name, text in words.items()}
