"""The sampler, the network and the optimiser that the methods beside the paper's share, so that losses are compared.

Batches are of all classes, the network has one hidden layer, and batch norm before the sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import tf
from mhcln.storage.run_record import TrainConfig
from mhcln.training.draws import dropout_mask
from mhcln.training.methods.method import Adam, Iterative, Loss, Method
from mhcln.training.networks import DROPOUT, masked_network, shared_network
from mhcln.training.samplers import uniform_sampler

# Adam's usual rate and moments; the rate is brought to 0 along a half cosine. Both were chosen for orthohash.
RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
ITERATIONS = 2000


def on_shared_network(
    config: TrainConfig, labels: NDArray[np.int32], width: int, loss: Loss, terms: tuple[str, ...]
) -> Method:
    """Return the shared sampler, network and optimiser with a loss.

    Args:
        config: How to train.
        labels: `[n]`, class of each training image.
        width: Floats of a feature vector.
        loss: Takes the outputs `[b, K]` before the sign and the labels of a batch.
        terms: Names of its terms, "total" first.
    """
    sampler = uniform_sampler(labels, config.batch_size, config.seed)
    network = shared_network(width, config.bits, config.seed, config.precision)
    trained = masked_network(network)

    def forward(features: tf.Tensor, iteration: tf.Tensor) -> tf.Tensor:
        _, mask = trained.inputs
        shape = (features.shape[0], mask.shape[1])
        drawn = dropout_mask(shape, DROPOUT, config.seed, iteration, mask.dtype)
        return trained([features, drawn], training=True)

    def rate(iteration: tf.Tensor) -> tf.Tensor:
        share = tf.cast(iteration, tf.float32) / float(config.iterations)
        return RATE * 0.5 * (1.0 + tf.cos(math.pi * share))

    return Method(sampler, network, forward, loss, terms, Adam(rate, BETA_1, BETA_2, EPSILON))


def shared_spec(
    title: str,
    terms: tuple[str, ...],
    loss_of: Callable[[TrainConfig, NDArray[np.int32]], Loss],
    needs_pairs: bool,
    has_margin: bool = False,
) -> Iterative:
    """Return the method of a loss on the shared sampler, network and optimiser.

    Args:
        title: Name in tables.
        terms: Names of the terms of the loss, "total" first.
        loss_of: Returns the loss from the configuration and the labels `[n]` of the training images.
        needs_pairs: As in `Iterative`.
        has_margin: As in `Iterative`.
    """

    def build(config: TrainConfig, labels: NDArray[np.int32], width: int) -> Method:
        return on_shared_network(config, labels, width, loss_of(config, labels), terms)

    return Iterative(title, shared_network, build, needs_pairs, ITERATIONS, open_ended=False, has_margin=has_margin)
