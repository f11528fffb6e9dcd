"""The 2015 graph: what it computes in a version-1 session, and graphs with a surprise."""

import gzip
import itertools

import graphs
import numpy as np
import pytest
from graphs import random_jpeg

from mhcln.backbone.backbone import open_backbone
from mhcln.backbone.graph_file import GRAPHS
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
}


@pytest.mark.parametrize("kind", REASONS)
def test_a_graph_with_a_surprise_is_refused(tmp_path, console, kind):
    (tmp_path / "classify_image_graph_def.pb").write_bytes(spoiled(kind))
    wanted = rf"classify_image_graph_def.pb is not the Inception graph of 2015-12-05 \(.*{REASONS[kind]}"
    with pytest.raises(UserError, match=wanted):
        open_backbone(BackboneOptions(tmp_path), console)


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
