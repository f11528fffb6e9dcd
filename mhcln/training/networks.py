"""The layers of the hashing networks: features in, K activations between 0 and 1 out.

A saved network is built here again and given the saved weights, since an older Keras cannot load a newer one's layers.
"""

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
SHARED_HIDDEN = 512
DROPOUT = 0.3
NORM_MOMENTUM = 0.9  # the mean over about the last ten batches; 0.1 in the terms of PyTorch, its default


def published_network(width: int, bits: int, seed: int = 0, precision: str = "float32") -> keras.Model:
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
    inputs = values = _features(width)
    for number, units in enumerate(HIDDEN):
        values = _dense(units, f"hidden_{number + 1}", policy, (seed, number))(values)
        values = keras.layers.LeakyReLU(negative_slope=SLOPE, name=f"leaky_{number + 1}", dtype=policy)(values)
    values = _dense(bits, "bits", policy, (seed, len(HIDDEN)))(values)
    return keras.Model(inputs, _activations(values), name="mhcln")


def shared_network(width: int, bits: int, seed: int = 0, precision: str = "float32") -> keras.Model:
    """Build the network of OrthoHash and of seven other methods: `width` features -> 512 -> `bits` -> batch norm.

    Batch norm centres each bit, so that it is set for about half of the images (Hoe et al., NeurIPS 2021). The network
    ends in a sigmoid, so that a bit is an activation above 0.5. Arguments and result are as in `published_network`;
    batch norm always computes in float32.
    """
    policy = _policy(precision)
    inputs = _features(width)
    values = _dense(SHARED_HIDDEN, "hidden", policy, (seed, 0))(inputs)
    values = keras.layers.LeakyReLU(negative_slope=SLOPE, name="leaky", dtype=policy)(values)
    values = _dense(bits, "bits", policy, (seed, 1))(values)
    values = keras.layers.BatchNormalization(momentum=NORM_MOMENTUM, name="centre", dtype="float32")(values)
    return keras.Model(inputs, _activations(values), name="orthohash")


def masked_network(network: keras.Model) -> keras.Model:
    """Return a `shared_network` as it is trained: with dropout, and its outputs before the sigmoid.

    The layers are shared with `network`. Dropout is a mask `[n, 512]`, the second input, that multiplies the hidden
    layer: Keras's own layer has a state, and draws other masks with XLA than without.
    """
    hidden = network.get_layer("leaky").output
    mask = keras.Input((SHARED_HIDDEN,), name="mask", dtype=hidden.dtype)
    values = keras.layers.Multiply(name="dropout", dtype=network.get_layer("leaky").dtype_policy)([hidden, mask])
    for name in ("bits", "centre"):
        values = network.get_layer(name)(values)
    return keras.Model([network.input, mask], values, name="orthohash_outputs")


def linear_network(width: int, bits: int) -> keras.Model:
    """Build the network whose activations are the sigmoids of `features @ kernel + bias`, `[d, K]` and `[K]`."""
    inputs = _features(width)
    values = keras.layers.Dense(bits, kernel_initializer="zeros", name="bits", dtype="float32")(inputs)
    return keras.Model(inputs, _activations(values), name="linear")


def threshold_network(width: int, _bits: int) -> keras.Model:
    """Build the network whose activations are the sigmoids of the features after `centring`, a bit each."""
    inputs = _features(width)
    return keras.Model(inputs, _activations(_centre()(inputs)), name="thresholds")


def kernel_network(width: int, bits: int, anchors: int, root: bool) -> keras.Model:
    """Build the network of the `sdh` method.

    Args:
        width: Floats of a feature vector.
        bits: Bits of a code.
        anchors: Number m of anchors.
        root: Whether the square roots of the features are taken; features below 0 then count as 0.

    Returns:
        Features `[n, d]`, centred, of length 1 -> kernels of the anchors `[n, m]` -> K activations.
    """
    inputs = values = _features(width)
    if root:
        values = keras.layers.LeakyReLU(negative_slope=0.0, name="positive", dtype="float32")(values)
        values = keras.ops.sqrt(values)
    values = _centre()(values)
    values = keras.layers.UnitNormalization(name="unit", dtype="float32")(values)
    values = keras.layers.Dense(
        anchors, activation="exponential", kernel_initializer="zeros", name="kernels", dtype="float32"
    )(values)
    values = keras.layers.Dense(bits, kernel_initializer="zeros", name="bits", dtype="float32")(values)
    return keras.Model(inputs, _activations(values), name="sdh")


def centring(mean: NDArray[Any], scale: float) -> list[NDArray[Any]]:
    """Return the weights of the layer `centre` of the two networks above for `scale * (values - mean)`.

    The layer is a batch norm of fixed statistics, which does not round if `scale` is a power of 2.
    """
    return [np.full(len(mean), scale), np.zeros(len(mean)), mean, np.ones(len(mean))]


def _features(width: int) -> Any:  # noqa: ANN401, Keras has no types
    return keras.Input((width,), name="features", dtype="float32")


def _activations(values: Any) -> Any:  # noqa: ANN401, Keras has no types
    return keras.layers.Activation("sigmoid", name="activations", dtype="float32")(values)


def _centre() -> keras.layers.Layer:
    return keras.layers.BatchNormalization(epsilon=0.0, name="centre", dtype="float32")


def _policy(precision: str) -> str:
    return "mixed_bfloat16" if precision == "bfloat16" else "float32"


def _dense(units: int, name: str, policy: str, stream: tuple[int, int]) -> keras.layers.Layer:
    """Return a dense layer whose weights are drawn from `stream`: the network's seed and the layer's number."""
    seed = int(np.random.SeedSequence(stream).generate_state(1)[0] >> 1)
    initializer = keras.initializers.VarianceScaling(2.0, "fan_avg", "uniform", seed=seed)
    return keras.layers.Dense(units, kernel_initializer=initializer, name=name, dtype=policy)
