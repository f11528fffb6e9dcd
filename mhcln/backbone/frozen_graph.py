"""The layers of the 2015 Inception graph, its batch norm folded into the convolutions.

TF2 functions refuse the graph as it is: its `BatchNormWithGlobalNormalization` was removed from TensorFlow, and its
shapes are fixed to one image. What it computes is small: convolutions with a bias and a ReLU, poolings, joins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone.layers import Conv, Join, Layer, Network, Pool, Scaling, ancestors_of, fold, sources
from mhcln.console import UserError
from mhcln.quiet_tensorflow import tf
from mhcln.storage.files import one_line, sha256_of

GRAPH = "classify_image_graph_def.pb"
GRAPH_ARCHIVE = "inception-2015-12-05.tgz"
GRAPH_ARCHIVE_URL = f"http://download.tensorflow.org/models/image/imagenet/{GRAPH_ARCHIVE}"
GRAPHS = (GRAPH, f"{GRAPH}.gz", GRAPH_ARCHIVE)
MOST_BYTES = 2**28  # of an unpacked file; the archive has 95.9 MB

INPUT = "Mul"  # the image, resized and scaled; `Scaling` holds what comes before it
OUTPUT = "pool_3"  # published extract_features.py:41 fetches 'pool_3:0'
SIDES = range(75, 600)  # of a resized image, from the smallest that reaches pool_3 to twice the 299 of 2015
MIXED = re.compile(r"mixed(_\d+)?/join")


def read_graph(path: Path) -> Network:
    """Return the network of a graph file: a plain or gzipped GraphDef, or the `.tgz` that Google publishes it in."""
    graph = tf.compat.v1.GraphDef()
    with _graph_errors(path):
        graph.ParseFromString(_content(path))
        return _network_of(graph)


def weights_sha256(path: Path) -> str:
    """Return the hex SHA-256 by which a recipe identifies a file of weights.

    For a `.tgz` it is the SHA-256 of the graph inside, so that a graph and the archive of it have the same recipe.
    """
    if path.suffix != ".tgz":
        return sha256_of(path)
    with _graph_errors(path):
        return hashlib.sha256(_content(path)).hexdigest()


@contextlib.contextmanager
def _graph_errors(path: Path) -> Iterator[None]:
    """Raise a UserError if the block fails: a damaged file makes each library raise errors of its own."""
    try:
        yield
    except Exception as error:
        reason = f"it has no node {error}" if isinstance(error, KeyError) else one_line(error)
        raise UserError(
            f"{path} is not the Inception graph of 2015-12-05 ({reason}); take {GRAPH_ARCHIVE_URL}, or its {GRAPH}"
        ) from error


def _content(path: Path) -> bytes:
    """Return the serialised GraphDef that a file holds."""
    with path.open("rb") as handle:
        zipped = handle.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as stream:
        content = stream.read(MOST_BYTES)
    if path.suffix != ".tgz":
        return content
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            if PurePosixPath(member.name).name == GRAPH:
                return content[member.offset_data : member.offset_data + member.size]
    raise ValueError(f"it holds no {GRAPH}")


def _network_of(graph: tf.compat.v1.GraphDef) -> Network:
    constants = {node.name: tf.make_ndarray(node.attr["value"].tensor) for node in graph.node if node.op == "Const"}
    layers: dict[str, Layer] = {}
    names = [node.name for node in graph.node]
    for node in graph.node[names.index(INPUT) + 1 : names.index(OUTPUT) + 1]:  # each after its inputs
        if node.op != "Const":
            layers[node.name] = _layer(node, constants, layers)
    layers = ancestors_of(OUTPUT, layers)
    blocks = {name.removesuffix("/join"): name for name in layers if MIXED.fullmatch(name)}
    (last,) = sources(layers[OUTPUT])
    height, width = constants["ResizeBilinear/size"].tolist()
    if height not in SIDES or width not in SIDES:
        raise ValueError(f"it resizes images to {height}x{width} pixels")
    scaling = Scaling((height, width), False, float(constants["Sub/y"]), float(constants["Mul/y"]))
    return Network(layers, INPUT, scaling, {OUTPUT: last, **blocks})


def _layer(node: tf.compat.v1.NodeDef, constants: dict[str, NDArray[Any]], layers: dict[str, Layer]) -> Layer:
    """Return what a node computes, with the convolution before it where that does both."""
    source, *others = [name for name in node.input if not name.startswith("^")]
    if node.op == "Conv2D":
        kernel = constants[others[0]]
        bias = np.zeros(kernel.shape[3], np.float32)
        return Conv(source, kernel, bias, _sides(node, "strides"), _padding(node), relu=False)
    if node.op in ("MaxPool", "AvgPool"):
        kind = "max" if node.op == "MaxPool" else "average"
        return Pool(source, kind, _sides(node, "ksize"), _sides(node, "strides"), _padding(node))
    if node.op == "Concat":
        return Join(tuple(others))  # the first input is the axis
    conv = layers.get(source)
    if isinstance(conv, Conv):
        if node.op == "BatchNormWithGlobalNormalization":
            mean, variance, beta, gamma = (constants[name] for name in others)
            scale = gamma if node.attr["scale_after_normalization"].b else 1.0
            return fold(conv, mean, variance, beta, scale, node.attr["variance_epsilon"].f)
        if node.op in ("CheckNumerics", "Identity"):
            return conv
        if node.op == "Relu":
            return dataclasses.replace(conv, relu=True)
    raise ValueError(f"node {node.name!r} is a {node.op}, which that graph does not have there")


def _sides(node: tf.compat.v1.NodeDef, attribute: str) -> tuple[int, int]:
    _, height, width, _ = node.attr[attribute].list.i
    return height, width


def _padding(node: tf.compat.v1.NodeDef) -> str:
    return node.attr["padding"].s.decode()
