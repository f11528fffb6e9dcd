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

from mhcln.backbone.graph_file import GraphFile, check_fields, graph_errors
from mhcln.backbone.layers import BatchNorm, Conv, Join, Layer, Network, Pool, Scaling, ancestors_of, check_cost, fold
from mhcln.quiet_tensorflow import tf

OUTPUT = "pool_3"  # published extract_features.py:41 fetches 'pool_3:0'
BLOCK = re.compile(r"mixed(_\d+)?/join")
INPUT = "Mul"  # the image, resized and scaled; `Scaling` holds what comes before it
MAX_ELEMENTS = 2**26  # of all constants and of the kernels with batch norm folded in; the real graph has 44 million
SIDES = range(75, 600)  # of the resized image: from the smallest that reaches pool_3 to twice the 299 of 2015


def read_graph(file: GraphFile) -> Network:
    """Return the network of a graph file, plain, gzipped or `.tgz`; raises UserError if it is not that graph."""
    with graph_errors(file.path):
        check_fields(file.content, tf.compat.v1.GraphDef.DESCRIPTOR)
        network = _Reader(tf.compat.v1.GraphDef.FromString(file.content)).network()
        check_cost(network)
        return network


class _Reader:
    """Follows a GraphDef from `pool_3` back to the image; every surprise is a ValueError that names the node."""

    def __init__(self, graph: tf.compat.v1.GraphDef) -> None:
        self.nodes = {node.name: node for node in graph.node}
        if len(self.nodes) != len(graph.node):
            raise ValueError("it has two nodes of one name")
        self.elements_left = MAX_ELEMENTS
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
        scaled, factor = self._sources(multiply, 2)
        subtract = self._node(scaled, "Sub")
        resized, mean = self._sources(subtract, 2)
        resize = self._node(resized, "ResizeBilinear")
        _image, size = self._sources(resize, 2)
        if resize.attr["align_corners"].b or resize.attr["half_pixel_centers"].b:
            raise ValueError(f"node {resize.name!r}: its resize is not the plain one of 2015")
        sides = self._constant(size, 1, np.int32).tolist()
        if len(sides) != 2 or sides[0] != sides[1] or sides[0] not in SIDES:
            raise ValueError(f"node {resize.name!r} resizes to {sides[:3]}")
        scaling = Scaling((sides[0], sides[1]), False, float(self._constant(mean, 0)), float(self._constant(factor, 0)))
        if not (0 <= scaling.mean <= 255 and 0 < scaling.factor <= 1):
            raise ValueError(f"node {INPUT!r} scales pixels by (x - {scaling.mean}) * {scaling.factor}")
        return scaling

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
        if not 0 <= epsilon <= 1:
            raise ValueError(f"node {node.name!r} has a variance_epsilon of {epsilon}")
        self._take(node.name, conv.kernel.size)
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
        if int(self._constant(axis, 0, np.int32)) not in (3, -1):
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

    def _constant(self, name: str, dimensions: int, kind: type[np.generic] = np.float32) -> NDArray[Any]:
        tensor = self._node(name, "Const").attr["value"].tensor
        shape = [side.size for side in tensor.tensor_shape.dim]
        if len(shape) != dimensions or min(shape, default=1) < 1 or math.prod(shape) > MAX_ELEMENTS:
            raise ValueError(f"constant {name!r} has shape {shape[:5]}")
        self._take(name, math.prod(shape))
        if tensor.dtype != tf.as_dtype(kind).as_datatype_enum:
            raise ValueError(f"constant {name!r} is not of {kind.__name__}")
        value = tf.make_ndarray(tensor)
        if value.shape != tuple(shape) or not np.isfinite(value).all():
            raise ValueError(f"constant {name!r} does not hold finite numbers")
        return value

    def _take(self, name: str, elements: int) -> None:
        """Count elements before memory is taken for them."""
        self.elements_left -= elements
        if self.elements_left < 0:
            raise ValueError(f"with node {name!r} it has more than {MAX_ELEMENTS} weights")

    def _sides(self, node: tf.compat.v1.NodeDef, attribute: str) -> tuple[int, int]:
        sides = list(node.attr[attribute].list.i)
        if len(sides) != 4 or sides[0] != 1 or sides[3] != 1 or not all(1 <= side <= 512 for side in sides):
            raise ValueError(f"node {node.name!r} has {attribute} {sides[:5]}")
        return sides[1], sides[2]

    def _padding(self, node: tf.compat.v1.NodeDef) -> str:
        padding = node.attr["padding"].s.decode()
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"node {node.name!r} has padding {padding!r}")
        return padding
