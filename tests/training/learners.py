"""Small learners, the images that they learn from, and a comparison of their states."""

import numpy as np

from mhcln.storage.run_record import TrainConfig
from mhcln.training.learner import Learner
from mhcln.training.methods import METHODS

CLASSES, PER_CLASS, WIDTH = 3, 6, 8


def make_images(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of classes that can be told apart, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), PER_CLASS).astype(np.int32)
    centres = rng.normal(size=(CLASSES, WIDTH))
    return (centres[labels] + 0.3 * rng.normal(size=(len(labels), WIDTH))).astype(np.float32), labels


def make_learner(vectors: np.ndarray | None = None, seed: int = 0, loss: str = "mhcln", bits: int = 5) -> Learner:
    """A learner of `make_images()`, or of other features of these classes."""
    made, labels = make_images()
    config = TrainConfig(bits=bits, loss=loss, alpha=0.2, batch_size=6, iterations=250, seed=seed)
    return Learner(METHODS[loss].build(config, labels, WIDTH), made if vectors is None else vectors, labels)


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    """Whether two states are equal bit for bit."""
    return first.keys() == second.keys() and all((first[name] == second[name]).all() for name in first)
