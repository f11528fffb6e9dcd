"""The layers of the 2015 Inception graph, its batch norm folded into the convolutions.

TF2 functions refuse the graph as it is: its `BatchNormWithGlobalNormalization` was removed from TensorFlow, and its
shapes are fixed to one image. What it computes is small: convolutions with a bias and a ReLU, poolings, joins.
"""

from __future__ import annotations

import dataclasses
import graphlib
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone.graph_file import GraphFile, graph_errors
from mhcln.backbone.layers import BatchNorm, Conv, Join, Layer, Network, Pool, Scaling, ancestors_of, fold
from mhcln.quiet_tensorflow import tf

OUTPUT = "pool_3"  # published extract_features.py:41 fetches 'pool_3:0'
BLOCK = re.compile(r"mixed(_\d+)?/join")
INPUT = "Mul"  # the image, resized and scaled; `Scaling` holds what comes before it
MAX_ELEMENTS = 2**26  # of a constant; the largest kernel has 1.5 million


def read_graph(file: GraphFile) -> Network:
    """Return the network of a graph file, plain, gzipped or `.tgz`; raises UserError if it is not that graph."""
    with graph_errors(file.path):
        return _Reader(tf.compat.v1.GraphDef.FromString(file.content)).network()


class _Reader:
    """Follows a GraphDef from `pool_3` back to the image; every surprise is a ValueError that names the node."""

    def __init__(self, graph: tf.compat.v1.GraphDef) -> None:
        self.nodes = {node.name: node for node in graph.node}
        self.layers: dict[str, Layer] = {}

    def network(self) -> Network:
        scaling = self._scaling()
        for node in self._order():
            self.layers[node.name] = self._layer(node)
        output = self.layers.get(OUTPUT)
        if not isinstance(output, Pool):
            raise ValueError(f"node {OUTPUT!r} is not a pooling")
        layers = ancestors_of(OUTPUT, self.layers)
        blocks = {name.removesuffix("/join"): name for name in layers if BLOCK.fullmatch(name)}
        return Network(layers, INPUT, scaling, {OUTPUT: output.source, **blocks})

    def _scaling(self) -> Scaling:
        multiply = self._node(INPUT, "Mul")
        subtract = self._node(self._sources(multiply)[0], "Sub")
        resize = self._node(self._sources(subtract)[0], "ResizeBilinear")
        if resize.attr["align_corners"].b or resize.attr["half_pixel_centers"].b:
            raise ValueError("its resize is not the plain one of 2015")
        height, width = (int(side) for side in self._constant(self._sources(resize)[1], 1))
        if not (1 <= height <= 4096 and 1 <= width <= 4096):
            raise ValueError(f"it resizes to {height}x{width}")
        mean = float(self._constant(self._sources(subtract)[1], 0))
        factor = float(self._constant(self._sources(multiply)[1], 0))
        return Scaling((height, width), half_pixel=False, mean=mean, factor=factor)

    def _order(self) -> list[tf.compat.v1.NodeDef]:
        """Return the nodes from the image, which is left out, to `pool_3`, each after its sources."""
        sources: dict[str, list[str]] = {INPUT: []}
        waiting = [OUTPUT]
        while waiting:
            name = waiting.pop()
            if name not in sources:
                sources[name] = self._image_sources(self._node(name))
                waiting += sources[name]
        try:
            return [self.nodes[name] for name in graphlib.TopologicalSorter(sources).static_order() if name != INPUT]
        except graphlib.CycleError as error:
            raise ValueError(f"node {error.args[1][0]!r} reads its own output") from None

    def _image_sources(self, node: tf.compat.v1.NodeDef) -> list[str]:
        """Return the names of the images that a node reads, without its constants."""
        sources = self._sources(node)
        if node.op == "Concat":
            return sources[1:]
        return sources[:-1] if node.op == "ConcatV2" else sources[:1]

    def _layer(self, node: tf.compat.v1.NodeDef) -> Layer:
        make: dict[str, Callable[[tf.compat.v1.NodeDef], Layer]] = {
            "Conv2D": self._convolution,
            "BatchNormWithGlobalNormalization": self._batch_norm,
            "CheckNumerics": self._conv_before,
            "Identity": self._conv_before,
            "Relu": self._relu,
            "MaxPool": self._pool,
            "AvgPool": self._pool,
            "Concat": self._join,
            "ConcatV2": self._join,
        }
        if node.op not in make:
            raise ValueError(f"node {node.name!r} is a {node.op}, which that graph does not have")
        return make[node.op](node)

    def _convolution(self, node: tf.compat.v1.NodeDef) -> Conv:
        source, weights = self._sources(node, 2)
        if node.attr["data_format"].s not in (b"", b"NHWC") or set(node.attr["dilations"].list.i) - {1}:
            raise ValueError(f"node {node.name!r} is a convolution of another kind")
        kernel = self._constant(weights, 4)
        bias = np.zeros(kernel.shape[3], np.float32)
        return Conv(source, kernel, bias, self._sides(node, "strides"), self._padding(node), relu=False)

    def _batch_norm(self, node: tf.compat.v1.NodeDef) -> Conv:
        conv = self._conv_before(node, 5)
        mean, variance, beta, gamma = (self._constant(name, 1) for name in self._sources(node)[1:])
        if not len(mean) == len(variance) == len(beta) == len(gamma) == len(conv.bias) or conv.relu:
            raise ValueError(f"node {node.name!r} does not fit its convolution")
        epsilon = node.attr["variance_epsilon"].f
        if not (variance + epsilon > 0).all():
            raise ValueError(f"node {node.name!r} has a variance that is not positive")
        scale = gamma if node.attr["scale_after_normalization"].b else 1.0
        return fold(conv, BatchNorm(mean, variance, beta, scale, epsilon))

    def _relu(self, node: tf.compat.v1.NodeDef) -> Conv:
        return dataclasses.replace(self._conv_before(node), relu=True)

    def _pool(self, node: tf.compat.v1.NodeDef) -> Pool:
        kind = "max" if node.op == "MaxPool" else "average"
        (source,) = self._sources(node, 1)
        size, strides = self._sides(node, "ksize"), self._sides(node, "strides")
        return Pool(source, kind, size, strides, self._padding(node))

    def _join(self, node: tf.compat.v1.NodeDef) -> Join:
        axis = self._sources(node)[0 if node.op == "Concat" else -1]
        if int(self._constant(axis, 0)) not in (3, -1):
            raise ValueError(f"node {node.name!r} does not join channels")
        return Join(tuple(self._image_sources(node)))

    def _conv_before(self, node: tf.compat.v1.NodeDef, inputs: int = 1) -> Conv:
        """Return the convolution that a node of so many inputs reads first."""
        layer = self.layers.get(self._sources(node, inputs)[0])
        if not isinstance(layer, Conv):
            raise ValueError(f"node {node.name!r} does not follow a convolution")
        return layer

    def _node(self, name: str, op: str | None = None) -> tf.compat.v1.NodeDef:
        node = self.nodes.get(name)
        if node is None:
            raise ValueError(f"it has no node {name!r}")
        if op is not None and node.op != op:
            raise ValueError(f"node {name!r} is a {node.op}, not a {op}")
        return node

    def _sources(self, node: tf.compat.v1.NodeDef, count: int | None = None) -> list[str]:
        names = [source.removesuffix(":0") for source in node.input if not source.startswith("^")]
        if not names or count not in (None, len(names)):
            raise ValueError(f"node {node.name!r} reads {len(names)} nodes, not {count or 'any'}")
        return names

    def _constant(self, name: str, dimensions: int) -> NDArray[Any]:
        tensor = self._node(name, "Const").attr["value"].tensor
        shape = [side.size for side in tensor.tensor_shape.dim]
        # before TensorFlow takes the memory that the shape claims
        if len(shape) != dimensions or min(shape, default=1) < 1 or math.prod(shape) > MAX_ELEMENTS:
            raise ValueError(f"constant {name!r} has shape {shape}")
        value = tf.make_ndarray(tensor)
        if value.dtype not in (np.float32, np.int32) or value.shape != tuple(shape) or not np.isfinite(value).all():
            raise ValueError(f"constant {name!r} does not hold finite numbers")
        return value

    def _sides(self, node: tf.compat.v1.NodeDef, attribute: str) -> tuple[int, int]:
        sides = list(node.attr[attribute].list.i)
        if len(sides) != 4 or sides[0] != 1 or sides[3] != 1 or not all(1 <= side <= 512 for side in sides):
            raise ValueError(f"node {node.name!r} has {attribute} {sides}")
        return sides[1], sides[2]

    def _padding(self, node: tf.compat.v1.NodeDef) -> str:
        padding = node.attr["padding"].s.decode()
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"node {node.name!r} has padding {padding!r}")
        return padding
