"""The 2015 graph: what it computes in a version-1 session, its files, and what is refused."""

import gzip
import io
import tarfile

import graphs
import numpy as np
import pytest
from graphs import opened, random_jpeg

from mhcln.backbone.backbone import reopen_backbone
from mhcln.backbone.frozen_graph import GRAPH, GRAPH_ARCHIVE, GRAPH_ARCHIVE_URL, read_graph
from mhcln.console import UserError
from mhcln.quiet_tensorflow import tf
from mhcln.storage.files import sha256_of

RNG = np.random.default_rng(5)


def random_images() -> np.ndarray:
    return RNG.uniform(0, 255, (2, graphs.SIDE, graphs.SIDE, 3)).astype(np.float32)


def archive_of(members: dict[str, bytes]) -> bytes:
    """The content of a gzipped tar file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), mtime=0)


@pytest.mark.parametrize("scale_after_normalization", [False, True])
def test_a_batch_equals_the_graph_run_one_image_at_a_time(tmp_path, scale_after_normalization):
    graph = graphs.small_graph(3, scale_after_normalization)
    jpegs = [random_jpeg(RNG, *size) for size in ((256, 256), (247, 256), (60, 90), (75, 75), (1, 1))]
    wanted = graphs.published_way(graph, jpegs)
    backbone = opened(graphs.write_graph(tmp_path, graph))
    images = graphs.resized(backbone, jpegs)
    assert graphs.relative_errors(backbone.features(images), wanted).max() < 1e-5
    assert graphs.relative_errors(backbone.features(images[2:3]), wanted[2:3]).max() < 1e-5


def test_every_file_of_a_graph_gives_its_features_and_an_archive_its_recipe(tmp_path):
    plain = graphs.write_graph(tmp_path / "plain")
    zipped = graphs.write_graph(tmp_path / "zipped", zipped=True)
    archive, nested = tmp_path / GRAPH_ARCHIVE, tmp_path / "inception-2015-12-05 (1).tgz"
    archive.write_bytes(archive_of({GRAPH: plain.read_bytes(), "LICENSE": b"Apache"}))
    others = {f"{GRAPH}.txt": b"text", f"not_{GRAPH}": b"x", f"/etc/{GRAPH}/x": b"x"}
    nested.write_bytes(archive_of({**others, f"./2015/{GRAPH}": plain.read_bytes()}))
    made, images = opened(plain), random_images()
    assert sha256_of(plain) in made.extractor
    assert sha256_of(zipped) in opened(zipped).extractor
    for file in (zipped, archive, nested):
        assert np.array_equal(opened(file).features(images), made.features(images))
    for file in (archive, nested):
        assert opened(file).recipe == made.recipe
        assert reopen_backbone(made.recipe, str(file), None).model_file == str(file)
        assert reopen_backbone(made.recipe, str(file), plain.parent).model_file == str(plain)
    archive.write_bytes(archive_of({GRAPH: graphs.small_graph(1).SerializeToString()}))
    with pytest.raises(UserError, match="is not the backbone that made the archive"):
        reopen_backbone(made.recipe, str(plain), archive)


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        opened(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is not the Inception graph of 2015-12-05 (")
    assert message.endswith(f"); take {GRAPH_ARCHIVE_URL}, or its {GRAPH}")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", [GRAPH, f"{GRAPH}.gz", GRAPH_ARCHIVE])
def test_a_damaged_file_is_refused(tmp_path, name):
    graph = graphs.small_graph().SerializeToString()
    path = tmp_path / name
    whole = {GRAPH: graph, GRAPH_ARCHIVE: archive_of({GRAPH: graph})}.get(name, gzip.compress(graph))
    for size in [0, 1, 2, 9, *range(10, len(whole), len(whole) // 30), len(whole) - 1]:
        path.write_bytes(whole[:size])
        refusal(path)
    path.write_bytes(b"<html>not found</html>")
    refusal(path)
    if name == GRAPH:
        return  # has no checksum
    for place in [0, 2, *range(10, len(whole), len(whole) // 30), len(whole) - 8, len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        refusal(path)


def test_an_archive_of_anything_else_is_refused(tmp_path):
    for content in (archive_of({}), archive_of({"LICENSE": b"Apache", f"{GRAPH}/x": b"x"})):
        (tmp_path / GRAPH_ARCHIVE).write_bytes(content)
        assert f"it holds no {GRAPH}" in refusal(tmp_path / GRAPH_ARCHIVE)


def without(name: str):
    def change(graph, nodes):
        graph.node.remove(nodes[name])

    return change


def other_op(name: str, op: str):
    def change(_graph, nodes):
        nodes[name].op = op

    return change


def other_value(name: str, value):
    def change(_graph, nodes):
        nodes[name].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))

    return change


def one_input(name: str):
    def change(_graph, nodes):
        del nodes[name].input[1:]

    return change


KERNEL = (3, 3, 3, 6)  # of "conv"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("pool_3"), "'pool_3' is not in list"),
        (without("Mul"), "'Mul' is not in list"),
        (without("Sub/y"), "it has no node 'Sub/y'"),
        (without("conv/batchnorm/beta"), "it has no node 'conv/batchnorm/beta'"),
        (other_op("conv", "Sigmoid"), "node 'conv' is a Sigmoid"),
        (other_op("conv/Conv2D", "ReadFile"), "node 'conv/Conv2D' is a ReadFile"),
        (other_op("mixed/join", "Relu"), "node 'mixed/join' is a Relu, which that graph does not have there"),
        (other_value("ResizeBilinear/size", np.array([75, -75], np.int32)), "it resizes images to 75x-75 pixels"),
        (one_input("conv/batchnorm"), "not enough values to unpack"),
        (other_value("conv/conv2d_params", np.full(KERNEL, np.nan, np.float32)), "weights that are not finite"),
        (other_value("conv/conv2d_params", np.full(KERNEL, 3e38, np.float32)), "weights that are not finite"),
        (other_value("conv/batchnorm/beta", np.full(6, np.inf, np.float32)), "weights that are not finite"),
        (other_value("conv/batchnorm/beta", np.ones(5, np.float32)), "could not be broadcast"),
        (other_value("conv/batchnorm/moving_variance", np.full(6, -1, np.float32)), "a variance that is not positive"),
    ],
)
def test_another_graph_is_refused(tmp_path, change, reason):
    graph = graphs.small_graph()
    change(graph, {node.name: node for node in graph.node})
    assert reason in refusal(graphs.write_graph(tmp_path, graph))


@pytest.mark.parametrize("source", ["Mul", "Sub"])
def test_layers_that_do_not_fit_are_refused(tmp_path, source):
    graph = graphs.small_graph()
    next(node for node in graph.node if node.name == "mixed/conv/Conv2D").input[0] = source
    with pytest.raises(UserError, match="layers of the network do not fit"):
        opened(graphs.write_graph(tmp_path, graph))


def test_operations_that_no_layer_reads_do_not_run(tmp_path):
    graph = graphs.small_graph()
    graph.node.add(name="path", op="Const").attr["value"].tensor.CopyFrom(tf.make_tensor_proto(str(tmp_path / "made")))
    graph.node.add(name="write", op="WriteFile", input=["path", "path"])
    next(node for node in graph.node if node.name == "pool_3").input.append("^write")
    images = random_images()
    found = opened(graphs.write_graph(tmp_path, graph)).features(images)
    assert np.array_equal(found, opened(graphs.write_graph(tmp_path / "plain")).features(images))
    assert not (tmp_path / "made").exists()


def test_the_graph_of_2015_has_its_blocks(shared):
    network = read_graph(next((shared / "models").glob("classify_image_graph_def.pb*")))
    assert list(network.blocks) == ["pool_3", "mixed", *(f"mixed_{number}" for number in range(1, 11))]
    assert network.scaling.size == (299, 299)
    assert (network.scaling.mean, network.scaling.factor) == (128, 1 / 128)
