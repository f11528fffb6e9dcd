"""Small learners, the images that they learn from, and a comparison of their states."""

import dataclasses

import factories
import numpy as np

from mhcln.quiet_tensorflow import tf
from mhcln.storage.run_record import TrainConfig
from mhcln.training.learner import Learner
from mhcln.training.methods import METHODS, Iterative

CLASSES, PER_CLASS, WIDTH = 3, 6, 8
ITERATIVE = [name for name, method in METHODS.items() if isinstance(method, Iterative)]


def make_images(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of classes that a network can learn to distinguish, and labels."""
    features = factories.separable_features(CLASSES, PER_CLASS, WIDTH, seed=seed)
    return features.vectors, features.images.labels


def make_learner(
    vectors: np.ndarray | None = None, seed: int = 0, loss: str = "mhcln", bits: int = 5, compile_with_xla: bool = False
) -> Learner:
    """A learner of `make_images()`, or of other features of these classes."""
    made, labels = make_images()
    config = TrainConfig(bits=bits, loss=loss, alpha=0.2, batch_size=6, iterations=250, seed=seed)
    method = METHODS[loss].build(config, labels, WIDTH)
    return Learner(method, made if vectors is None else vectors, labels, compile_with_xla)


def make_learner_that_diverges(iteration: int) -> Learner:
    """A learner whose loss is infinite at an iteration, counted from 1, and at no other."""
    made, labels = make_images()
    method = make_learner().method

    def forward(features: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
        return method.forward(features, now) + tf.where(now == iteration - 1, np.inf, 0.0)

    def loss(outputs: tf.Tensor, of: tf.Tensor) -> dict[str, tf.Tensor]:
        marked = tf.math.is_inf(outputs)
        terms = method.loss(tf.where(marked, 0.5, outputs), of)
        return {**terms, "total": terms["total"] + tf.where(tf.reduce_any(marked), np.inf, 0.0)}

    return Learner(dataclasses.replace(method, forward=forward, loss=loss), made, labels)


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    """Whether two states are equal bit for bit."""
    return first.keys() == second.keys() and all((first[name] == second[name]).all() for name in first)
