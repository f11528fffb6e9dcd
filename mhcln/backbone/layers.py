"""A network as a list of layers, its batch norm folded into the convolutions: the form that every backbone takes."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError

FloatArray = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Pool:
    """Pooling of `source`, `kind` "max" or "average"; an average counts no pixel outside the image."""

    source: str
    kind: str
    size: tuple[int, int]
    strides: tuple[int, int]
    padding: str


@dataclasses.dataclass(frozen=True)
class Conv:
    """Convolution of `source` with `kernel` [height, width, in, out], plus `bias` [out], float32; a ReLU if `relu`.

    If there is a `pool`, the products go through it before the bias is added.
    """

    source: str
    kernel: FloatArray
    bias: FloatArray
    strides: tuple[int, int]
    padding: str
    relu: bool
    pool: Pool | None = None


@dataclasses.dataclass(frozen=True)
class Join:
    """The channels of all `sources`, one after another."""

    sources: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Mean:
    """The mean of `source` over space, [batch, 1, 1, channels], float32 whatever the other layers compute in."""

    source: str


Layer = Conv | Pool | Join | Mean


@dataclasses.dataclass(frozen=True)
class Scaling:
    """What comes before the first layer: bilinear resize of pixels x to `size`, then (x - `mean`) * `factor`.

    `half_pixel` places samples at pixel centres, as TF2 does; the 2015 graph places them at corners.
    """

    size: tuple[int, int]
    half_pixel: bool
    mean: float
    factor: float


@dataclasses.dataclass(frozen=True)
class Network:
    """Layers by name, each after its sources; the first ones read `input`, the last one is the output.

    `blocks` gives the layer of each name that a user may choose: "pool_3", "mixed", "mixed_1" to "mixed_10".
    """

    layers: dict[str, Layer]
    input: str
    scaling: Scaling
    blocks: dict[str, str]


def fold(
    conv: Conv, mean: FloatArray, variance: FloatArray, beta: FloatArray, gamma: FloatArray | float, epsilon: float
) -> Conv:
    """Return a convolution that does what `conv`, which has no ReLU, and a batch norm after it do.

    The batch norm of [channels] float32 is gamma (x - mean) / sqrt(variance + epsilon) + beta. The products are taken
    in float64, so that folding itself costs no precision.

    Raises:
        ValueError: A variance is not positive, or a weight comes out too large for float32.
    """
    positive = variance.astype(np.float64) + epsilon
    if not (positive > 0).all():
        raise ValueError(f"the batch norm behind {conv.source!r} has a variance that is not positive")
    factor = np.asarray(gamma, np.float64) / np.sqrt(positive)
    kernel, bias = conv.kernel * factor, beta - (mean - conv.bias) * factor
    if not all(np.abs(values).max() <= np.finfo(np.float32).max for values in (kernel, bias)):
        raise ValueError(f"the batch norm behind {conv.source!r} gives weights that are not finite")
    return dataclasses.replace(conv, kernel=kernel.astype(np.float32), bias=bias.astype(np.float32))


def with_outputs(network: Network, blocks: tuple[str, ...]) -> Network:
    """Return the network cut to output the means over space of `blocks`, one after another."""
    unknown = [block for block in blocks if block not in network.blocks]
    if unknown:
        raise UserError(f"the backbone has no layer {unknown[0]!r}; choose from {', '.join(network.blocks)}")
    means = {f"{block}/mean": Mean(network.blocks[block]) for block in blocks}
    layers = {**network.layers, **means, "output": Join(tuple(means))}
    return dataclasses.replace(network, layers=ancestors_of("output", layers))


def pool_after_conv1x1(layers: dict[str, Layer]) -> dict[str, Layer]:
    """Return layers of the same function that take an average before a 1x1 convolution after its products.

    Both are linear and so change places; a branch of Inception then averages 32 to 192 channels, not 192 to 2,048.
    """
    moved = dict(layers)
    for name, layer in layers.items():
        if not isinstance(layer, Conv) or layer.pool is not None:
            continue
        pool = layers.get(layer.source)
        pointwise = layer.kernel.shape[:2] == layer.strides == (1, 1)
        if pointwise and isinstance(pool, Pool) and pool.kind == "average":
            moved[name] = dataclasses.replace(layer, source=pool.source, pool=pool)
    return ancestors_of(next(reversed(layers)), moved)


def ancestors_of(output: str, layers: dict[str, Layer]) -> dict[str, Layer]:
    """Return `output` and the layers that it depends on, in their order.

    A convolution before its batch norm is not among them: the layer of the batch norm has it folded in.
    """
    wanted = {output}
    for name in reversed(layers):
        if name in wanted:
            wanted.update(sources(layers[name]))
    return {name: layer for name, layer in layers.items() if name in wanted}


def sources(layer: Layer) -> tuple[str, ...]:
    """Return the names of what a layer reads."""
    return layer.sources if isinstance(layer, Join) else (layer.source,)
