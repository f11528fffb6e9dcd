"""The one place that chooses sampler, network and loss together: what `--loss` means."""

import dataclasses
from collections.abc import Callable

import numpy as np

from mhcln.losses import MHCLN_TERMS, mhcln_terms
from mhcln.network import published_network
from mhcln.runtime import keras, tf
from mhcln.sampling import Sampler, triplet_sampler

# UCMD/trainer.py:118 of the published code; Keras's own epsilon would be 1e-7.
PUBLISHED_RATE = 1e-4


@dataclasses.dataclass(frozen=True)
class Adam:
    """Adam's constants. `rate` gives the learning rate of an iteration (int64 scalar, from 0)."""

    rate: Callable[[tf.Tensor], tf.Tensor]
    beta_1: float
    beta_2: float
    epsilon: float


@dataclasses.dataclass(frozen=True)
class Task:
    """What a method is built for. `labels` [n] int32 are those of the training images."""

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


def mhcln(task: Task) -> Method:
    """The paper's method: triplets of two classes a batch, sigmoid head, three terms."""
    network = published_network(task.width, task.bits, task.seed, task.precision)
    return Method(
        sample=triplet_sampler(task.labels, task.batch_size, task.seed),
        network=network,
        trained=network,
        loss=lambda activations, _labels: mhcln_terms(activations, task.alpha),
        terms=MHCLN_TERMS,
        adam=Adam(lambda _iteration: tf.constant(PUBLISHED_RATE), beta_1=0.5, beta_2=0.9, epsilon=1e-8),
        stuck_at=task.alpha,
    )


METHODS: dict[str, Callable[[Task], Method]] = {"mhcln": mhcln}
