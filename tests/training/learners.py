"""Small learners, the images that they learn from, and a comparison of their states."""

import factories
import numpy as np

from mhcln.storage.run_record import TrainConfig
from mhcln.training.learner import Learner
from mhcln.training.methods import METHODS

CLASSES, PER_CLASS, WIDTH = 3, 6, 8


def make_images(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of classes that a network can learn to distinguish, and labels."""
    features = factories.separable_features(CLASSES, PER_CLASS, WIDTH, seed=seed)
    return features.vectors, features.images.labels


def make_learner(vectors: np.ndarray | None = None, seed: int = 0, loss: str = "mhcln", bits: int = 5) -> Learner:
    """A learner of `make_images()`, or of other features of these classes."""
    made, labels = make_images()
    config = TrainConfig(bits=bits, loss=loss, alpha=0.2, batch_size=6, iterations=250, seed=seed)
    return Learner(METHODS[loss].build(config, labels, WIDTH), made if vectors is None else vectors, labels)


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    """Whether two states are equal bit for bit."""
    return first.keys() == second.keys() and all((first[name] == second[name]).all() for name in first)
