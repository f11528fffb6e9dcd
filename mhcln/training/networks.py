"""The hashing networks: features in, K activations between 0 and 1 out. How they are trained is not known here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import keras

# UCMD/trainer.py:73-86 of the published code: two hidden layers with leaky rectifiers; Keras's own slope would be 0.3.
HIDDEN = (1024, 512)
SLOPE = 0.2
# Chosen on splits 100 to 103 of UCMD, 32 bits: mAP@20 0.979 with one hidden layer of 512, 0.977 with 256, 0.969 with
# none, 0.975 with 1024 and 512 (three splits); dropout of 0.5 instead gave 0.976.
ORTHOHASH_HIDDEN = 512
DROPOUT = 0.3
NORM_MOMENTUM = 0.9  # the mean over about the last ten batches; 0.1 in the terms of PyTorch, its default


def published_network(width: int, bits: int, seed: int, precision: str = "float32") -> keras.Model:
    """Build the network of the paper: `width` features -> 1024 -> 512 -> `bits` sigmoid activations.

    Weights are uniform in ±sqrt(12 / (fan_in + fan_out)); biases start at 0 (tflib/ops/conv2d.py:54-83 of the
    published code, `he_init=True`, filter size 1).

    Args:
        width: Floats of a feature vector.
        bits: Bits of a code.
        seed: Seed of the initial weights.
        precision: What the layers compute in, one of `methods.PRECISIONS`; the weights are always float32.

    Returns:
        A model that maps `[n, width] float32` to `[n, bits] float32`.
    """
    policy = _policy(precision)
    inputs = keras.Input((width,), name="features", dtype="float32")
    hidden = inputs
    for number, units in enumerate(HIDDEN):
        hidden = _dense(units, f"hidden_{number + 1}", policy, (seed, number))(hidden)
        hidden = keras.layers.LeakyReLU(negative_slope=SLOPE, name=f"leaky_{number + 1}", dtype=policy)(hidden)
    logits = _dense(bits, "bits", policy, (seed, 2))(hidden)
    outputs = keras.layers.Activation("sigmoid", name="activations", dtype="float32")(logits)
    return keras.Model(inputs, outputs, name="mhcln")


def orthohash_network(width: int, bits: int, seed: int, precision: str = "float32") -> tuple[keras.Model, keras.Model]:
    """Build the network of the `orthohash` method: `width` features -> 512 -> `bits`, batch norm before the sign.

    Batch norm centres each bit, so that it is set for about half of the images (Hoe et al., NeurIPS 2021). Dropout is
    a mask that the network to train is given, since Keras's layer has a state of its own and draws other masks with
    XLA than without.

    Args:
        width: Floats of a feature vector.
        bits: Bits of a code.
        seed: Seed of the initial weights.
        precision: As in `published_network`; batch norm always computes in float32.

    Returns:
        The network to save, which ends in a sigmoid, so that a bit is again an activation above 0.5; and the network
        to train, which shares its layers, multiplies the hidden layer by a mask `[n, 512]`, its second input, and ends
        before the sigmoid.
    """
    policy = _policy(precision)
    inputs = keras.Input((width,), name="features", dtype="float32")
    hidden = _dense(ORTHOHASH_HIDDEN, "hidden", policy, (seed, 0))(inputs)
    hidden = keras.layers.LeakyReLU(negative_slope=SLOPE, name="leaky", dtype=policy)(hidden)
    mask = keras.Input((ORTHOHASH_HIDDEN,), name="mask", dtype=hidden.dtype)
    dropped = keras.layers.Multiply(name="dropout", dtype=policy)([hidden, mask])
    to_bits = _dense(bits, "bits", policy, (seed, 1))
    centre = keras.layers.BatchNormalization(momentum=NORM_MOMENTUM, name="centre", dtype="float32")
    to_activations = keras.layers.Activation("sigmoid", name="activations", dtype="float32")
    network = keras.Model(inputs, to_activations(centre(to_bits(hidden))), name="orthohash")
    return network, keras.Model([inputs, mask], centre(to_bits(dropped)), name="orthohash_outputs")


def linear_network(kernel: NDArray[np.float64], bias: NDArray[np.float64]) -> keras.Model:
    """Build the network whose activations are the sigmoids of `features @ kernel + bias`, `[d, K]` and `[K]`."""
    width, bits = kernel.shape
    inputs = keras.Input((width,), name="features", dtype="float32")
    to_bits = keras.layers.Dense(bits, kernel_initializer="zeros", name="bits", dtype="float32")
    to_activations = keras.layers.Activation("sigmoid", name="activations", dtype="float32")
    network = keras.Model(inputs, to_activations(to_bits(inputs)), name="linear")
    network.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return network


def threshold_network(thresholds: NDArray[np.float32], scale: float) -> keras.Model:
    """Build the network whose activations are the sigmoids of `scale * (features - thresholds)`, `[d]`."""
    inputs = keras.Input(thresholds.shape, name="features", dtype="float32")
    centre = _centring(thresholds, scale)
    to_activations = keras.layers.Activation("sigmoid", name="activations", dtype="float32")
    return keras.Model(inputs, to_activations(centre(inputs)), name="thresholds")


def kernel_network(
    mean: NDArray[np.float64],
    anchors: NDArray[np.float64],
    spread: float,
    coefficients: NDArray[np.float64],
    root: bool,
) -> keras.Model:
    """Build the network of the `sdh` method, of Keras's own layers only, so that any Keras 3 opens it.

    Args:
        mean: `[d]`, what is taken off the features, or off their square roots.
        anchors: `[m, d]`, of length 1.
        spread: Squared distance from an anchor over which its kernel falls to 1 / e.
        coefficients: `[m, K]`, what the kernels are multiplied by.
        root: Whether the square roots of the features are taken; features below 0 then count as 0.

    Returns:
        Features `[n, d]`, centred, of length 1 -> kernels of the anchors `[n, m]` -> K activations.
    """
    values = inputs = keras.Input(mean.shape, name="features", dtype="float32")
    if root:
        values = keras.layers.LeakyReLU(negative_slope=0.0, name="positive", dtype="float32")(values)
        values = keras.ops.sqrt(values)
    values = _centring(mean, 1.0)(values)
    values = keras.layers.UnitNormalization(name="unit", dtype="float32")(values)
    # exp(-d² / spread) with d² = 2 - 2 cosine
    to_kernels = keras.layers.Dense(
        len(anchors), activation="exponential", kernel_initializer="zeros", name="kernels", dtype="float32"
    )
    to_bits = keras.layers.Dense(coefficients.shape[1], kernel_initializer="zeros", name="bits", dtype="float32")
    to_activations = keras.layers.Activation("sigmoid", name="activations", dtype="float32")
    network = keras.Model(inputs, to_activations(to_bits(to_kernels(values))), name="sdh")
    to_kernels.set_weights([anchors.T * (2 / spread), np.full(len(anchors), -2 / spread)])
    to_bits.set_weights([coefficients, np.zeros(coefficients.shape[1])])
    return network


def _centring(mean: NDArray[Any], scale: float) -> keras.layers.Layer:
    """Return a batch norm of fixed statistics: `scale * (values - mean)`, without rounding if scale is a power of 2."""
    layer = keras.layers.BatchNormalization(epsilon=0.0, name="centre", dtype="float32")
    layer.build((None, len(mean)))
    layer.set_weights([np.full(len(mean), scale), np.zeros(len(mean)), mean, np.ones(len(mean))])
    return layer


def _policy(precision: str) -> str:
    return "mixed_bfloat16" if precision == "bfloat16" else "float32"


def _dense(units: int, name: str, policy: str, stream: tuple[int, int]) -> keras.layers.Layer:
    """Return a dense layer whose weights are drawn from `stream`: the network's seed and the layer's number."""
    seed = int(np.random.SeedSequence(stream).generate_state(1)[0] >> 1)
    initializer = keras.initializers.VarianceScaling(2.0, "fan_avg", "uniform", seed=seed)
    return keras.layers.Dense(units, kernel_initializer=initializer, name=name, dtype=policy)
