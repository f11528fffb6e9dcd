"""A network as a list of layers, its batch norm folded into the convolutions: what every backbone becomes."""

import dataclasses

import numpy as np

from mhcln.errors import UserError


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

    The products go through `pool`, where there is one, before the bias is added.
    """

    source: str
    kernel: np.ndarray
    bias: np.ndarray
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
    """Layers by name, each after what it reads; the first ones read `input`, the last one is the answer.

    `blocks` names layers by what their means over space are called: "pool_3", "mixed", "mixed_1" to "mixed_10".
    """

    layers: dict[str, Layer]
    input: str
    scaling: Scaling
    blocks: dict[str, str]


def fold(
    kernel: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    beta: np.ndarray,
    gamma: np.ndarray | float,
    epsilon: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a convolution followed by batch norm: gamma (x - mean) / sqrt(variance + epsilon) + beta.

    The products are taken in float64, so that folding itself costs no precision.
    """
    factor = np.asarray(gamma, np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
    bias = beta - mean * factor
    return (kernel * factor).astype(np.float32), bias.astype(np.float32)


def answering(network: Network, blocks: tuple[str, ...]) -> Network:
    """The network cut to answer the means over space of `blocks`, one after another.

    Raises UserError where it has no such block.
    """
    unknown = [block for block in blocks if block not in network.blocks]
    if unknown:
        raise UserError(f"the backbone has no layer {unknown[0]!r}; choose from {', '.join(network.blocks)}")
    means = {f"{block}/mean": Mean(network.blocks[block]) for block in blocks}
    layers = {**network.layers, **means, "answer": Join(tuple(means))}
    return dataclasses.replace(network, layers=needed(layers, "answer"))


def averaged_late(layers: dict[str, Layer]) -> dict[str, Layer]:
    """The same function, with every average that a 1x1 convolution reads taken of that convolution's products.

    Both are linear and so change places; a branch of Inception then averages 32 to 192 channels, not 192 to 2,048.
    """
    moved = dict(layers)
    for name, layer in layers.items():
        pool = layers.get(layer.source) if isinstance(layer, Conv) else None
        averaged = isinstance(pool, Pool) and pool.kind == "average" and layer.pool is None
        if averaged and layer.kernel.shape[:2] == layer.strides == (1, 1):
            moved[name] = dataclasses.replace(layer, source=pool.source, pool=pool)
    return needed(moved, next(reversed(layers)))


def needed(layers: dict[str, Layer], output: str) -> dict[str, Layer]:
    """The layers that `output` rests on, in their order; a convolution before its batch norm is not among them."""
    wanted = {output}
    for name in reversed(layers):
        if name in wanted:
            wanted.update(sources(layers[name]))
    return {name: layer for name, layer in layers.items() if name in wanted}


def sources(layer: Layer) -> tuple[str, ...]:
    """Names of what a layer reads."""
    return layer.sources if isinstance(layer, Join) else (layer.source,)
