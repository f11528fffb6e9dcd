"""The one place that chooses sampler, network and loss together: what `--loss` means."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from mhcln.losses import MHCLN_TERMS, ORTHOHASH_TERMS, mhcln_terms, orthohash_terms, semihard_terms
from mhcln.network import orthohash_network, published_network
from mhcln.runtime import keras, tf
from mhcln.sampling import Sampler, triplet_sampler, uniform_sampler
from mhcln.targets import class_targets

# UCMD/trainer.py:118 of the published code; Keras's own epsilon would be 1e-7.
PUBLISHED_RATE = 1e-4
# Adam's usual rate and moments, brought to 0 along a half cosine. On splits 100 to 103 of UCMD the scale of the
# authors' code (s=8) gave mAP@20 0.979 and 0.969 at 32 and 16 bits, 16 gave 0.972 and 0.963; their margin (m=0.2,
# which is ALPHA's default) 0.979 and 0.969, 0.4 gave 0.976 and 0.969.
ORTHOHASH_RATE = 1e-3
ORTHOHASH_SCALE = 8.0


@dataclasses.dataclass(frozen=True)
class Adam:
    """Adam's constants. `rate` gives the learning rate of an iteration (int64 scalar, from 0)."""

    rate: Callable[[tf.Tensor], tf.Tensor]
    beta_1: float
    beta_2: float
    epsilon: float


@dataclasses.dataclass(frozen=True)
class Task:
    """What a method is built for. `labels` [n] int32 are those of the training images.

    `precision` is that of the products while training, "float32" or "bfloat16"; weights, losses and updates are
    float32 always, and so is the use of the trained network.
    """

    labels: np.ndarray
    width: int
    bits: int
    alpha: float
    batch_size: int
    iterations: int
    seed: int
    precision: str = "float32"


@dataclasses.dataclass(frozen=True)
class Method:
    """Sampler, head and loss that belong together.

    `network` maps features to activations and is what is saved; `trained` shares its weights and puts out what
    `loss` takes, with the labels of the batch. `terms` names what `loss` answers, "total" first. `stuck_at` is the
    value of the term "triplet" where the network tells nothing apart, None where there is no such term.
    """

    sample: Sampler
    network: keras.Model
    trained: keras.Model
    loss: Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]
    terms: tuple[str, ...]
    adam: Adam
    stuck_at: float | None = None


def mhcln(task: Task, sampler: Sampler | None = None) -> Method:
    """The paper's method: triplets of two classes a batch unless told, sigmoid head, three terms."""
    network = published_network(task.width, task.bits, task.seed, task.precision)
    return Method(
        sample=sampler or triplet_sampler(task.labels, task.batch_size, task.seed),
        network=network,
        trained=network,
        loss=lambda activations, _labels: mhcln_terms(activations, task.alpha),
        terms=MHCLN_TERMS,
        adam=Adam(lambda _iteration: tf.constant(PUBLISHED_RATE), beta_1=0.5, beta_2=0.9, epsilon=1e-8),
        stuck_at=task.alpha,
    )


def semihard(task: Task) -> Method:
    """The paper's network, terms and optimiser on batches of all classes, with semi-hard negatives.

    On splits 100 and 101 of UCMD, 32 bits, mAP@20 was 0.964 and 0.972 after 1,000 iterations, where the paper's
    two classes a batch gave 0.793 and 0.817.
    """
    return dataclasses.replace(
        mhcln(task, uniform_sampler(task.labels, task.batch_size, task.seed)),
        loss=lambda activations, labels: semihard_terms(activations, labels, task.alpha),
    )


def orthohash(task: Task) -> Method:
    """Hoe et al., NeurIPS 2021: images of all classes a batch, batch norm before the sign, cosine to fixed targets."""
    sampler = uniform_sampler(task.labels, task.batch_size, task.seed)
    network, trained = orthohash_network(task.width, task.bits, task.seed, task.precision)
    targets = tf.constant(class_targets(int(task.labels.max()) + 1, task.bits, task.seed), tf.float32)

    def rate(iteration: tf.Tensor) -> tf.Tensor:
        share = tf.cast(iteration, tf.float32) / float(task.iterations)
        return ORTHOHASH_RATE * 0.5 * (1.0 + tf.cos(math.pi * share))

    return Method(
        sample=sampler,
        network=network,
        trained=trained,
        loss=lambda outputs, labels: orthohash_terms(outputs, labels, targets, task.alpha, ORTHOHASH_SCALE),
        terms=ORTHOHASH_TERMS,
        adam=Adam(rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8),
    )


METHODS: dict[str, Callable[[Task], Method]] = {"mhcln": mhcln, "semihard": semihard, "orthohash": orthohash}
