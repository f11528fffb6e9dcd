"""The 2015 graph: what it computes in a version-1 session, and graphs with a surprise."""

import gzip
import itertools
import resource

import graphs
import numpy as np
import pytest
from graphs import random_jpeg

from mhcln.backbone.backbone import open_backbone
from mhcln.backbone.frozen_graph import read_graph
from mhcln.backbone.graph_file import GRAPHS, GraphFile
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import UserError
from mhcln.quiet_tensorflow import tf
from mhcln.storage.files import sha256_of

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("scale_after_normalization", [False, True])
def test_a_batch_equals_the_graph_run_one_image_at_a_time(tmp_path, console, scale_after_normalization):
    graph = graphs.small_graph(3, scale_after_normalization)
    graphs.write_graph(tmp_path, graph)
    jpegs = [random_jpeg(RNG, *size) for size in ((256, 256), (247, 256), (60, 90), (75, 75), (1, 1))]
    wanted = graphs.published_way(graph, jpegs)
    backbone = open_backbone(BackboneOptions(tmp_path), console)
    images = graphs.resized(backbone, jpegs)
    assert graphs.relative_errors(backbone.features(images), wanted).max() < 1e-5
    assert graphs.relative_errors(backbone.features(images[2:3]), wanted[2:3]).max() < 1e-5


def test_gamma_counts_only_if_the_file_says_so(tmp_path, console):
    images = RNG.uniform(-1, 1, (1, graphs.SIDE, graphs.SIDE, 3)).astype(np.float32)
    features = []
    for scale in (False, True):
        graphs.write_graph(tmp_path, graphs.small_graph(3, scale))
        features.append(open_backbone(BackboneOptions(tmp_path), console).features(images))
    assert graphs.relative_errors(*features).max() > 0.1


def test_a_gzipped_graph_is_the_same_graph(tmp_path, console):
    plain = open_backbone(BackboneOptions(graphs.write_graph(tmp_path / "a").parent), console)
    zipped = open_backbone(BackboneOptions(graphs.write_graph(tmp_path / "b", zipped=True).parent), console)
    images = graphs.resized(plain, [random_jpeg(RNG, 80, 70)])
    assert np.array_equal(plain.features(images), zipped.features(images))
    assert sha256_of(tmp_path / "b" / "classify_image_graph_def.pb.gz") in zipped.extractor
    assert zipped.extractor.startswith("inception-2015-12-05 pool_3; sha256=")
    assert zipped.extractor.endswith("; tiff=jpeg100; precision=float32; views=1")


def without(graph, name: str):
    kept = [node for node in graph.node if node.name != name]
    del graph.node[:]
    graph.node.extend(kept)


def chain(graph, count: int, kernel: np.ndarray, size: np.ndarray | None = None) -> None:
    """Put convolutions between the image and the network."""
    nodes = {node.name: node for node in graph.node}
    tensor = tf.make_tensor_proto(kernel)
    graph.node.add(name="kernel", op="Const").attr["value"].tensor.CopyFrom(tensor)
    before = "Mul"
    for number in range(count):
        node = graph.node.add(name=f"chain_{number}", op="Conv2D", input=[before, "kernel"])
        node.attr["strides"].list.i.extend([1, 1, 1, 1])
        node.attr["padding"].s = b"SAME"
        before = node.name
    nodes["conv/Conv2D"].input[0] = before
    if size is not None:
        nodes["ResizeBilinear/size"].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(size))


def chain_batch_norms(graph, count: int) -> None:
    """Put one large convolution and many batch norms, each of which would keep a copy of its kernel, at the start."""
    chain(graph, 1, np.ones((7, 7, 3, 2048), np.float32))
    nodes = {node.name: node for node in graph.node}
    names = [f"long/{name}" for name in ("mean", "variance", "beta", "gamma")]
    for name in names:
        value = tf.make_tensor_proto(np.ones(2048, np.float32))
        graph.node.add(name=name, op="Const").attr["value"].tensor.CopyFrom(value)
    before = "chain_0"
    for number in range(count):
        graph.node.add(name=f"norm_{number}", op="BatchNormWithGlobalNormalization", input=[before, *names])
        before = f"norm_{number}"
    nodes["conv/Conv2D"].input[0] = before


CONSTANTS = {
    "resize to 4096": ("ResizeBilinear/size", np.array([4096, 4096], np.int32)),
    "resize to 74": ("ResizeBilinear/size", np.array([74, 74], np.int32)),
    "not square": ("ResizeBilinear/size", np.array([75, 76], np.int32)),
    "one side": ("ResizeBilinear/size", np.array([75], np.int32)),
    "resize to a fraction": ("ResizeBilinear/size", np.array([75, 75], np.float32)),
    "factor inf": ("Mul/y", np.float32(np.inf)),
    "factor nan": ("Mul/y", np.float32(np.nan)),
    "factor 1e30": ("Mul/y", np.float32(1e30)),
    "factor 0": ("Mul/y", np.float32(0)),
    "mean inf": ("Sub/y", np.float32(-np.inf)),
    "mean 1e30": ("Sub/y", np.float32(1e30)),
    "kernel inf": ("conv/conv2d_params", np.full((3, 3, 3, 6), np.inf, np.float32)),
    "kernel of integers": ("conv/conv2d_params", np.ones((3, 3, 3, 6), np.int32)),
    "kernel of text": ("conv/conv2d_params", np.full((3, 3, 3, 6), b"x")),
    "kernel 3e38": ("conv/conv2d_params", np.full((3, 3, 3, 6), 3e38, np.float32)),
}


def spoiled(kind: str):
    graph = graphs.small_graph()
    nodes = {node.name: node for node in graph.node}
    if kind in ("pool_3", "conv/batchnorm/beta", "Mul"):
        without(graph, kind)
    elif kind == "cycle":
        nodes["conv/Conv2D"].input[0] = "mixed/join"
    elif kind == "op":
        nodes["conv"].op = "Sigmoid"
    elif kind == "huge":
        del nodes["conv/conv2d_params"].attr["value"].tensor.tensor_shape.dim[:]
        for _ in range(4):
            nodes["conv/conv2d_params"].attr["value"].tensor.tensor_shape.dim.add(size=10**5)
    elif kind == "nan":
        nodes["conv/batchnorm/beta"].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.full(6, np.nan, np.float32)))
    elif kind == "variance":
        values = np.full(6, -1, np.float32)
        nodes["conv/batchnorm/moving_variance"].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values))
    elif kind == "width":
        nodes["conv_1/batchnorm"].input[1] = "conv/batchnorm/moving_mean"
    elif kind == "corners":
        nodes["ResizeBilinear"].attr["align_corners"].b = True
    elif kind == "output":
        nodes["pool_3"].op = "Relu"
        nodes["pool_3"].input[0] = "conv_1"
    elif kind == "padding":
        nodes["pool"].attr["padding"].s = b"EXPLICIT"
    elif kind == "axis":
        nodes["mixed/join/concat_dim"].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.int32(1)))
    elif kind.startswith("one input of "):
        del nodes[kind.removeprefix("one input of ")].input[1:]
    elif kind in CONSTANTS:
        name, value = CONSTANTS[kind]
        nodes[name].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    elif kind == "resource":
        nodes["conv/batchnorm/beta"].attr["value"].tensor.dtype = tf.resource.as_datatype_enum
    elif kind.startswith("epsilon "):
        nodes["conv/batchnorm"].attr["variance_epsilon"].f = float(kind.removeprefix("epsilon "))
    elif kind == "twice":
        graph.node.add().CopyFrom(nodes["conv"])
    elif kind == "claims":
        tensor = nodes["conv/conv2d_params"].attr["value"].tensor
        for place, side in enumerate((1, 1, 10**6, 10**6)):
            tensor.tensor_shape.dim[place].size = side
    elif kind == "splat":  # one number that claims to be 2^25, read three times
        chain(graph, 3, np.ones((1, 1, 1, 1), np.float32))
        shape = graph.node[-4].attr["value"].tensor.tensor_shape
        shape.dim[2].size, shape.dim[3].size = 2**12, 2**13
    elif kind == "norms":
        chain_batch_norms(graph, 300)
    elif kind == "layers":
        chain(graph, 1200, np.eye(3, dtype=np.float32)[None, None])
    elif kind == "products":
        chain(graph, 600, np.ones((7, 7, 3, 3), np.float32), np.array([599, 599], np.int32))
    elif kind == "values":
        chain(graph, 1, np.ones((1, 1, 3, 2048), np.float32))
    elif kind in ("ReadFile", "PyFunc", "WriteFile"):
        nodes["conv/Conv2D"].op = kind
    return graph.SerializeToString()


REASONS = {
    "pool_3": "it has no node 'pool_3'",
    "conv/batchnorm/beta": "it has no node 'conv/batchnorm/beta'",
    "Mul": "it has no node 'Mul'",
    "cycle": "reads its own output",
    "op": "node 'conv' is a Sigmoid",
    "huge": "constant 'conv/conv2d_params' has shape",
    "nan": "does not hold finite numbers",
    "variance": "has a variance that is not positive",
    "width": "does not fit its convolution",
    "corners": "its resize is not the plain one",
    "padding": "node 'pool' has padding 'EXPLICIT'",
    "axis": "does not join channels",
    "output": "node 'pool_3' is not a pooling",
    "one input of ResizeBilinear": "node 'ResizeBilinear' reads 1 nodes, not 2",
    "one input of Sub": "node 'Sub' reads 1 nodes, not 2",
    "one input of Mul": "node 'Mul' reads 1 nodes, not 2",
    "one input of conv/Conv2D": "node 'conv/Conv2D' reads 1 nodes, not 2",
    "one input of conv/batchnorm": "node 'conv/batchnorm' reads 1 nodes, not 5",
    "resource": "constant 'conv/batchnorm/beta' is not of float32",
    "resize to 4096": r"node 'ResizeBilinear' resizes to \[4096, 4096\]",
    "resize to 74": r"node 'ResizeBilinear' resizes to \[74, 74\]",
    "not square": r"node 'ResizeBilinear' resizes to \[75, 76\]",
    "one side": r"node 'ResizeBilinear' resizes to \[75\]",
    "resize to a fraction": "constant 'ResizeBilinear/size' is not of int32",
    "factor inf": "constant 'Mul/y' does not hold finite numbers",
    "factor nan": "constant 'Mul/y' does not hold finite numbers",
    "factor 1e30": "node 'Mul' scales pixels by",
    "factor 0": "node 'Mul' scales pixels by",
    "mean inf": "constant 'Sub/y' does not hold finite numbers",
    "mean 1e30": "node 'Mul' scales pixels by",
    "epsilon inf": "node 'conv/batchnorm' has a variance_epsilon of inf",
    "epsilon nan": "node 'conv/batchnorm' has a variance_epsilon of nan",
    "epsilon -0.1": "node 'conv/batchnorm' has a variance_epsilon of -0.1",
    "kernel inf": "constant 'conv/conv2d_params' does not hold finite numbers",
    "kernel of integers": "constant 'conv/conv2d_params' is not of float32",
    "kernel of text": "constant 'conv/conv2d_params' is not of float32",
    "kernel 3e38": "batch norm behind 'Mul' gives weights that are not finite",
    "twice": "two nodes of one name",
    "claims": "constant 'conv/conv2d_params' has shape",
    "splat": "it has more than 67108864 weights",
    "norms": "it has more than 67108864 weights",
    "layers": "it has 1215 layers",
    "products": "an image takes [0-9]+ multiplications",
    "values": "layer 'chain_0' gives 75x75x2048 values for each image",
    "ReadFile": "node 'conv/Conv2D' is a ReadFile",
    "WriteFile": "node 'conv/Conv2D' is a WriteFile",
    "PyFunc": "node 'conv/Conv2D' is a PyFunc",
}


@pytest.mark.parametrize("kind", REASONS)
def test_a_graph_with_a_surprise_is_refused(tmp_path, console, kind):
    (tmp_path / "classify_image_graph_def.pb").write_bytes(spoiled(kind))
    wanted = rf"classify_image_graph_def.pb is not the Inception graph of 2015-12-05 \(.*{REASONS[kind]}"
    with pytest.raises(UserError, match=wanted):
        open_backbone(BackboneOptions(tmp_path), console)


def test_operations_and_constants_that_no_layer_reads_are_left_alone(tmp_path, console):
    graph = graphs.small_graph()
    graph.node.add(name="path", op="Const").attr["value"].tensor.CopyFrom(tf.make_tensor_proto(str(tmp_path / "made")))
    graph.node.add(name="read", op="ReadFile", input=["path"])
    graph.node.add(name="write", op="WriteFile", input=["path", "path"])
    graph.node.add(name="call", op="PyFunc", input=["path"])
    claims = graph.node.add(name="claims", op="Const").attr["value"].tensor
    claims.CopyFrom(tf.make_tensor_proto(np.float32(1)))
    claims.tensor_shape.dim.add(size=10**12)
    waits = ["^read", "^write", "^call", "^claims"]
    next(node for node in graph.node if node.name == "pool_3").input.extend(waits)
    backbone = open_backbone(BackboneOptions(graphs.write_graph(tmp_path, graph).parent), console)
    plain = open_backbone(BackboneOptions(graphs.write_graph(tmp_path / "plain").parent), console)
    images = RNG.uniform(0, 255, (1, graphs.SIDE, graphs.SIDE, 3)).astype(np.float32)
    assert np.array_equal(backbone.features(images), plain.features(images))
    assert not (tmp_path / "made").exists()


def length_delimited(field: int, content: bytes) -> bytes:
    size = len(content)
    return (
        bytes([field << 3 | 2, size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21]) + content
    )


MANY = 2**21
BOMBS = {
    "nodes": b"\x0a\0" * MANY,
    "inputs": length_delimited(1, b"\x1a\0" * MANY),
    "handles": length_delimited(1, length_delimited(5, length_delimited(2, length_delimited(8, b"\x72\0" * MANY)))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_of_many_messages_is_refused_before_it_is_parsed(tmp_path, name):
    (tmp_path / "graph.pb").write_bytes(BOMBS[name])
    before = resident_bytes()
    with pytest.raises(UserError, match=r"graph\.pb is not the Inception graph .*more than 524288 fields"):
        read_graph(GraphFile(tmp_path / "graph.pb"))
    assert resident_bytes() - before < 2**26


def resident_bytes() -> int:
    """Memory of this process at its peak."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("content", [b"\x0a", b"\x0a\xff", b"\xff" * 20, b"\x0b\x0c", b"\x0a\xff\xff\xff\x7f"])
def test_a_graph_of_broken_encoding_is_refused(tmp_path, content):
    (tmp_path / "graph.pb").write_bytes(content)
    with pytest.raises(UserError, match=r"graph\.pb is not the Inception graph"):
        read_graph(GraphFile(tmp_path / "graph.pb"))


def test_a_graph_whose_layers_do_not_fit_is_refused(tmp_path, console):
    graph = graphs.small_graph()
    nodes = {node.name: node for node in graph.node}
    nodes["mixed/conv/Conv2D"].input[0] = "Mul"
    with pytest.raises(UserError, match="layers of the network do not fit"):
        open_backbone(BackboneOptions(graphs.write_graph(tmp_path, graph).parent), console)


def test_a_file_that_is_not_a_graph_is_refused(tmp_path, console):
    whole = gzip.compress(graphs.small_graph().SerializeToString())
    for name, content in itertools.product(GRAPHS, (b"", b"hello world", whole[: len(whole) // 2])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="is not the Inception graph"):
            open_backbone(BackboneOptions(tmp_path), console)
        (tmp_path / name).unlink()
