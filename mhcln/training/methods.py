"""What `--loss` means: the one place that chooses sampler, network, loss and optimiser together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import keras, tf
from mhcln.storage.run_record import TrainConfig
from mhcln.training.class_codes import class_codes
from mhcln.training.draws import dropout_mask
from mhcln.training.losses import MHCLN_TERMS, ORTHOHASH_TERMS, mhcln_terms, orthohash_terms, semihard_terms
from mhcln.training.networks import DROPOUT, orthohash_network, published_network
from mhcln.training.samplers import Sampler, triplet_sampler, uniform_sampler

PRECISIONS = ("float32", "tf32", "bfloat16")  # of the matrix products while training
# UCMD/trainer.py:118 of the published code; Keras's own epsilon would be 1e-7.
PUBLISHED_RATE = 1e-4
# Adam's usual rate and moments, brought to 0 along a half cosine. On splits 100 to 103 of UCMD the scale of the
# authors' code (s=8) gave mAP@20 0.979 and 0.969 at 32 and 16 bits, 16 gave 0.972 and 0.963; their margin (m=0.2,
# which is ALPHA's default) 0.979 and 0.969, 0.4 gave 0.976 and 0.969.
ORTHOHASH_RATE = 1e-3
ORTHOHASH_SCALE = 8.0

# Maps the features [b, d] of a batch and the iteration (int64 scalar, from 0) to what the loss takes.
Forward = Callable[["tf.Tensor", "tf.Tensor"], "tf.Tensor"]
# Maps these outputs and the labels [b] to the terms by name.
Loss = Callable[["tf.Tensor", "tf.Tensor"], dict[str, "tf.Tensor"]]


@dataclasses.dataclass(frozen=True)
class Adam:
    """The constants of Adam.

    Attributes:
        rate: Returns the learning rate of an iteration (int64 scalar, from 0).
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: What is added to the root of the second moment.
    """

    rate: Callable[[tf.Tensor], tf.Tensor]
    beta_1: float
    beta_2: float
    epsilon: float


@dataclasses.dataclass(frozen=True)
class Method:
    """Sampler, network, loss and optimiser that belong together.

    Attributes:
        sample: Draws the batches.
        network: Maps features to activations; its weights are what is trained and saved.
        forward: Runs its layers as they are trained; a random part of that depends on the iteration alone.
        loss: Maps these outputs and the labels of a batch to terms by name.
        terms: Names of the terms, "total" first.
        adam: The optimiser.
        triplet_margin: What the term "triplet" is as long as the network tells nothing apart; None if the loss has no
            such term.
    """

    sample: Sampler
    network: keras.Model
    forward: Forward
    loss: Loss
    terms: tuple[str, ...]
    adam: Adam
    triplet_margin: float | None = None


def mhcln(config: TrainConfig, labels: NDArray[np.int32], width: int) -> Method:
    """The method of the paper: triplets of two classes a batch, sigmoid head, three terms."""
    sampler = triplet_sampler(labels, config.batch_size, config.seed)
    return _published(config, width, sampler, lambda activations, _labels: mhcln_terms(activations, config.alpha))


def semihard(config: TrainConfig, labels: NDArray[np.int32], width: int) -> Method:
    """The paper's network, terms and optimiser on batches of all classes, with semi-hard negatives.

    On splits 100 and 101 of UCMD, 32 bits, mAP@20 was 0.964 and 0.972 after 1,000 iterations; the paper's
    two classes a batch gave 0.793 and 0.817.
    """
    sampler = uniform_sampler(labels, config.batch_size, config.seed)
    return _published(config, width, sampler, lambda outputs, of: semihard_terms(outputs, of, config.alpha))


def orthohash(config: TrainConfig, labels: NDArray[np.int32], width: int) -> Method:
    """Batches of all classes, batch norm before the sign, cosines to fixed class codes (Hoe et al., NeurIPS 2021)."""
    sampler = uniform_sampler(labels, config.batch_size, config.seed)
    network, trained = orthohash_network(width, config.bits, config.seed, config.precision)
    codes = tf.constant(class_codes(int(labels.max()) + 1, config.bits, config.seed), tf.float32)

    def forward(features: tf.Tensor, iteration: tf.Tensor) -> tf.Tensor:
        _, mask = trained.inputs
        shape = (features.shape[0], mask.shape[1])
        drawn = dropout_mask(shape, DROPOUT, config.seed, iteration, mask.dtype)
        return trained([features, drawn], training=True)

    def rate(iteration: tf.Tensor) -> tf.Tensor:
        share = tf.cast(iteration, tf.float32) / float(config.iterations)
        return ORTHOHASH_RATE * 0.5 * (1.0 + tf.cos(math.pi * share))

    def loss(outputs: tf.Tensor, of: tf.Tensor) -> dict[str, tf.Tensor]:
        return orthohash_terms(outputs, of, codes, config.alpha, ORTHOHASH_SCALE)

    adam = Adam(rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8)
    return Method(sampler, network, forward, loss, ORTHOHASH_TERMS, adam)


def _published(config: TrainConfig, width: int, sampler: Sampler, loss: Loss) -> Method:
    """Return the paper's network and optimiser with a sampler and a loss."""
    network = published_network(width, config.bits, config.seed, config.precision)

    def forward(features: tf.Tensor, _iteration: tf.Tensor) -> tf.Tensor:
        return network(features, training=True)

    adam = Adam(lambda _iteration: tf.constant(PUBLISHED_RATE), beta_1=0.5, beta_2=0.9, epsilon=1e-8)
    return Method(sampler, network, forward, loss, MHCLN_TERMS, adam, triplet_margin=config.alpha)


@dataclasses.dataclass(frozen=True)
class MethodSpec:
    """What the parser, the tables and the training need to know of a method.

    Attributes:
        title: Name in tables.
        build: Builds the method from the configuration, the labels `[n]` of the training images and the width of
            their features; raises UserError if these do not allow it.
        needs_pairs: Whether only pairs of one class attract, so that a class with one training image can only be a
            negative.
        iterations: Usual number of iterations; None for the number of the data set.
        open_ended: Whether no iteration depends on how many there will be, so that a run can be trained on.
    """

    title: str
    build: Callable[[TrainConfig, NDArray[np.int32], int], Method]
    needs_pairs: bool
    iterations: int | None = None
    open_ended: bool = True


METHODS: dict[str, MethodSpec] = {
    "mhcln": MethodSpec("MHCLN", mhcln, needs_pairs=True),
    # these see all classes in a batch, and need fewer
    "semihard": MethodSpec("MHCLN, semi-hard", semihard, needs_pairs=True, iterations=2000),
    "orthohash": MethodSpec("OrthoHash", orthohash, needs_pairs=False, iterations=2000, open_ended=False),
}
