"""Watching it learn: mAP@20 of held-back training images, the best network kept, and when to stop early."""

import dataclasses

import numpy as np

from mhcln import hamming, metrics
from mhcln.runtime import keras

K = 20  # neighbours looked at, as in the published evaluation; fewer where fewer images are held back
LEAST = 3  # a class with fewer training images holds none back


def held_back(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Mask [n] bool of the training images that validate: `share` of each class, at least one of three or more.

    `labels` [n] int. Halves round up; classes draw from streams of their own, all from `seed`.
    """
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) >= LEAST:
            count = min(max(int(share * len(rows) + 0.5), 1), len(rows) - 2)
            chosen[np.random.default_rng([seed, int(label)]).permutation(rows)[:count]] = True
    return chosen


def mean_average_precision(codes: np.ndarray, labels: np.ndarray) -> float:
    """Published mAP@20 of packed codes [n, b], each a query against all others; 0 where there are fewer than two."""
    if len(codes) < 2:
        return 0.0
    rows, _ = hamming.Index(codes).search(codes, min(K, len(codes) - 1), exclude=np.arange(len(codes)))
    return float(metrics.average_precision(labels[rows] == labels[:, None]).mean())


@dataclasses.dataclass
class Validation:
    """Held-back images, the weights that served them best, and how often in a row others served them no better.

    `features` [v, d] float32, `labels` [v] int. `patience` is the number of looks without a better one after which
    training may stop, 0 for never.
    """

    features: np.ndarray
    labels: np.ndarray
    patience: int = 0
    best: float = -1.0
    best_iteration: int = 0
    looks_since: int = 0
    weights: list[np.ndarray] = dataclasses.field(default_factory=list)

    def look(self, network: keras.Model, iteration: int) -> float:
        """Score the network as it is now, and keep its weights where none before scored as high."""
        from mhcln.learner import activations

        score = mean_average_precision(hamming.pack(hamming.binarise(activations(network, self.features))), self.labels)
        self.looks_since += 1
        if score > self.best:
            self.best, self.best_iteration, self.looks_since = score, iteration, 0
            self.weights = [weight.copy() for weight in network.get_weights()]
        return score

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return 0 < self.patience <= self.looks_since

    def state(self) -> dict[str, np.ndarray]:
        """All that a later process needs to continue, by name."""
        kept = {f"best_{number}": weight for number, weight in enumerate(self.weights)}
        return {**kept, "best_at": np.array([self.best, self.best_iteration, self.looks_since], np.float64)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take over what `state` answered; raises KeyError where something is missing."""
        best, iteration, since = state["best_at"].tolist()
        self.best, self.best_iteration, self.looks_since = best, int(iteration), int(since)
        count = sum(name.startswith("best_") for name in state) - 1
        self.weights = [state[f"best_{number}"] for number in range(count)]
