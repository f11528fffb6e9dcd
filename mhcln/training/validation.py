"""Validation while training: mAP@20 of the validation images, the best network so far, and when to stop early."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mhcln.evaluation.metrics import average_precision
from mhcln.hamming.index import Index
from mhcln.quiet_tensorflow import keras
from mhcln.storage.npz import AnyArray
from mhcln.training.trained import encode

K = 20  # neighbours of each query, as in the published evaluation; fewer if there are fewer images


def mean_average_precision(codes: NDArray[np.uint8], labels: NDArray[np.int32]) -> float:
    """Return the published mAP@20 of packed codes `[n, b]`, each a query against all others; 0 for fewer than two."""
    if len(codes) < 2:
        return 0.0
    rows = Index(codes).search(codes, K, exclude=np.arange(len(codes))).rows
    return float(average_precision(labels[rows] == labels[:, None]).mean())


@dataclasses.dataclass
class Validation:
    """The validation images, and the weights that did best on them.

    Attributes:
        vectors: `[v, d] float32`, features of the images.
        labels: `[v] int32`, their classes.
        patience: Evaluations in a row without a better score after which training should stop, 0 for never.
        best: The highest mAP@20 so far.
        best_iteration: The iteration that reached it first.
        without_better: Evaluations since then.
        weights: The weights at that iteration, as `network.get_weights()` returns them.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.int32]
    patience: int = 0
    best: float = -1.0
    best_iteration: int = 0
    without_better: int = 0
    weights: list[AnyArray] = dataclasses.field(default_factory=list)

    def evaluate(self, network: keras.Model, iteration: int) -> float:
        """Return the mAP@20 of the network as it is now, and keep its weights if no earlier score was as high."""
        score = mean_average_precision(encode(network, self.vectors), self.labels)
        self.without_better += 1
        if score > self.best:
            self.best, self.best_iteration, self.without_better = score, iteration, 0
            self.weights = [weight.copy() for weight in network.get_weights()]
        return score

    @property
    def should_stop(self) -> bool:
        """Whether patience has run out."""
        return 0 < self.patience <= self.without_better

    def state(self) -> dict[str, AnyArray]:
        """Return everything that a later process needs to continue, by name."""
        kept: dict[str, AnyArray] = {f"best_{number}": weight for number, weight in enumerate(self.weights)}
        return {**kept, "best_at": np.array([self.best, self.best_iteration, self.without_better], np.float64)}

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        """Take over what `state` returned; raises KeyError if something is missing."""
        best, iteration, without_better = state["best_at"].tolist()
        self.best, self.best_iteration, self.without_better = best, int(iteration), int(without_better)
        count = sum(name.startswith("best_") for name in state) - 1
        self.weights = [state[f"best_{number}"] for number in range(count)]
