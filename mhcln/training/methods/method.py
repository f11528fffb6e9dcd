"""The parts of a method, and the facts about it that the parser, the tables and the training need."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import keras, tf
from mhcln.storage.run_record import TrainConfig
from mhcln.training.samplers import Sampler

PRECISIONS = ("float32", "tf32", "bfloat16")  # of the matrix products while training

# Maps the features [b, d] of a batch and the iteration (int64 scalar, from 0) to the input of the loss.
Forward = Callable[["tf.Tensor", "tf.Tensor"], "tf.Tensor"]
# Maps these outputs and the labels [b] to the terms by name, float32 scalars: "total" is minimised.
Loss = Callable[["tf.Tensor", "tf.Tensor"], dict[str, "tf.Tensor"]]
# Builds the untrained network from the width of the features and the bits of a code. `kernel_network` takes more.
Network = Callable[..., "keras.Model"]


@dataclasses.dataclass(frozen=True)
class Adam:
    """The constants of Adam.

    Attributes:
        rate: Returns the learning rate of an iteration (int64 scalar, from 0).
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment.
        epsilon: Added to the root of the second moment.
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
        network: Maps features to activations; its weights are trained and saved.
        forward: Runs its layers as they are trained; a random part of that depends on the iteration alone.
        loss: Maps these outputs and the labels of a batch to terms by name.
        terms: Names of the terms, "total" first.
        adam: The optimiser.
        unsaved: Variables that are trained with the network's weights and are no part of it.
        triplet_margin: Value of the term "triplet" as long as the network tells nothing apart; None if the loss has no
            such term.
    """

    sample: Sampler
    network: keras.Model
    forward: Forward
    loss: Loss
    terms: tuple[str, ...]
    adam: Adam
    unsaved: tuple[keras.Variable, ...] = ()
    triplet_margin: float | None = None


@dataclasses.dataclass(frozen=True)
class Iterative:
    """A method that learns from classes, batch by batch.

    Attributes:
        title: Name in tables.
        network: Builds the network; it also takes the seed of the weights and the precision of the layers.
        build: Builds the method from the configuration, the labels `[n]` of the training images and the width of
            their features; raises UserError if these do not allow it.
        needs_pairs: Whether only pairs of one class attract, so that a class with one training image can only be a
            negative.
        iterations: Usual number of iterations; None for the number of the data set.
        open_ended: Whether no iteration depends on how many there will be, so that a run can be trained on.
        has_margin: Whether the configuration's `alpha` means something.
    """

    title: str
    network: Network
    build: Callable[[TrainConfig, NDArray[np.int32], int], Method]
    needs_pairs: bool
    iterations: int | None = None
    open_ended: bool = True
    has_margin: bool = False
    needs_labels: bool = True


@dataclasses.dataclass(frozen=True)
class ClosedForm:
    """A method that computes its network at once, without batches and iterations.

    Attributes:
        title: Name in tables.
        network: Builds the network.
        solve: Returns the network, from the configuration, the features `[n, d]` of the training images and their
            labels `[n]`; raises UserError if these do not allow it.
        needs_labels: Whether it learns from the classes of the images.
    """

    title: str
    network: Network
    solve: Callable[[TrainConfig, NDArray[np.float32], NDArray[np.int32]], keras.Model]
    needs_labels: bool = True


MethodSpec = Iterative | ClosedForm
