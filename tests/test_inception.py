"""Every backbone against what its file computes elsewhere: a version-1 session, or Keras itself."""

import gzip
import io
import itertools
import urllib.error

import graphs
import numpy as np
import pytest
from PIL import Image

from mhcln import inception, keras_weights
from mhcln.errors import UserError
from mhcln.files import sha256_of
from mhcln.layers import Conv, Join, Network, Pool, averaged_late
from mhcln.runtime import keras, tf

RNG = np.random.default_rng(5)


def jpeg(height: int, width: int) -> bytes:
    stream = io.BytesIO()
    small = Image.fromarray(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    small.resize((width, height)).save(stream, "JPEG")
    return stream.getvalue()


def ready(backbone: inception.Backbone, jpegs: list[bytes]) -> np.ndarray:
    return np.stack([backbone.resize(tf.io.decode_jpeg(content, channels=3)) for content in jpegs])


def relative_errors(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)


@pytest.mark.parametrize("scale_after_normalization", [False, True])
def test_a_batch_equals_the_graph_run_one_image_at_a_time(tmp_path, console, scale_after_normalization):
    graph = graphs.small_graph(3, scale_after_normalization)
    graphs.write_graph(tmp_path, graph)
    jpegs = [jpeg(*size) for size in ((256, 256), (247, 256), (60, 90), (75, 75), (1, 1))]
    wanted = graphs.published_way(graph, jpegs)
    backbone = inception.open_backbone(console, tmp_path)
    images = ready(backbone, jpegs)
    assert relative_errors(backbone.features(images), wanted).max() < 1e-5
    assert relative_errors(backbone.features(images[2:3]), wanted[2:3]).max() < 1e-5


def test_gamma_counts_only_where_the_file_says_so(tmp_path, console):
    images = RNG.uniform(-1, 1, (1, graphs.SIDE, graphs.SIDE, 3)).astype(np.float32)
    answers = []
    for scale in (False, True):
        graphs.write_graph(tmp_path, graphs.small_graph(3, scale))
        answers.append(inception.open_backbone(console, tmp_path).features(images))
    assert relative_errors(*answers).max() > 0.1


def test_a_gzipped_graph_is_the_same_graph(tmp_path, console):
    plain = inception.open_backbone(console, graphs.write_graph(tmp_path / "a").parent)
    zipped = inception.open_backbone(console, graphs.write_graph(tmp_path / "b", zipped=True).parent)
    images = ready(plain, [jpeg(80, 70)])
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


KINDS = (
    "pool_3",
    "conv/batchnorm/beta",
    "Mul",
    "cycle",
    "op",
    "huge",
    "nan",
    "variance",
    "width",
    "corners",
    "padding",
)


@pytest.mark.parametrize("kind", [*KINDS, "axis", "output"])
def test_a_graph_with_a_surprise_is_refused(tmp_path, console, kind):
    (tmp_path / "classify_image_graph_def.pb").write_bytes(spoiled(kind))
    with pytest.raises(UserError, match=r"classify_image_graph_def.pb is not the Inception graph"):
        inception.open_backbone(console, tmp_path)


def test_a_graph_whose_layers_do_not_fit_is_refused(tmp_path, console):
    graph = graphs.small_graph()
    nodes = {node.name: node for node in graph.node}
    nodes["mixed/conv/Conv2D"].input[0] = "Mul"
    with pytest.raises(UserError, match="layers of the network do not fit"):
        inception.open_backbone(console, graphs.write_graph(tmp_path, graph).parent)


def test_a_file_that_is_no_graph_is_refused(tmp_path, console):
    whole = gzip.compress(graphs.small_graph().SerializeToString())
    for name, content in itertools.product(inception.GRAPHS, (b"", b"hello world", whole[: len(whole) // 2])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="is not the Inception graph"):
            inception.open_backbone(console, tmp_path)
        (tmp_path / name).unlink()


def test_no_backbone_or_several_are_told(tmp_path, console):
    with pytest.raises(UserError, match="does not exist"):
        inception.open_backbone(console, tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no backbone"):
        inception.open_backbone(console, tmp_path)
    graphs.write_graph(tmp_path)
    (tmp_path / "mine.weights.h5").touch()
    with pytest.raises(UserError, match=r"several backbones \(classify_image_graph_def.pb, mine.weights.h5\)"):
        inception.open_backbone(console, tmp_path)
    with pytest.raises(UserError, match="exclude each other"):
        inception.open_backbone(console, tmp_path, random_seed=0)


@pytest.fixture(scope="module")
def keras_model():
    model = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(299, 299, 3))
    random = np.random.default_rng(1)
    model.set_weights(
        [value if value.ndim > 1 else random.uniform(0.5, 1.5, value.shape) for value in model.get_weights()]
    )
    return model


def test_keras_weights_give_what_keras_gives(tmp_path, console, keras_model):
    keras_model.save_weights(tmp_path / "own.weights.h5")
    backbone = inception.open_backbone(console, tmp_path)
    image = tf.constant(RNG.integers(0, 256, (200, 180, 3), dtype=np.uint8))
    images = backbone.resize(image)[None]
    by_keras = tf.image.resize(image[None], (299, 299)).numpy()
    assert np.abs(images - by_keras).max() < 1e-3
    wanted = keras_model(keras.applications.inception_v3.preprocess_input(by_keras)).numpy().mean(axis=(1, 2))
    assert relative_errors(backbone.features(images), wanted).max() < 1e-5
    assert backbone.extractor.startswith("keras-inception-v3 pool_3; sha256=")
    assert "tiff=pixels" in backbone.extractor


def test_layers_of_keras_are_the_means_of_its_blocks(tmp_path, console, keras_model):
    keras_model.save_weights(tmp_path / "own.weights.h5")
    blocks = keras.Model(keras_model.input, [keras_model.get_layer(name).output for name in ("mixed8", "mixed0")])
    backbone = inception.open_backbone(console, tmp_path, layers=("mixed_8", "mixed"))
    image = RNG.uniform(0, 255, (1, 299, 299, 3)).astype(np.float32)
    outputs = blocks(keras.applications.inception_v3.preprocess_input(image.copy()))
    wanted = np.concatenate([output.numpy().mean(axis=(1, 2)) for output in outputs], axis=1)
    assert relative_errors(backbone.features(image), wanted).max() < 1e-5
    assert backbone.extractor.startswith("keras-inception-v3 mixed_8+mixed; sha256=")


def same_layers(one, other) -> bool:
    ours, theirs = list(one.layers.values()), list(other.layers.values())
    convs = [(a, b) for a, b in zip(ours, theirs, strict=True) if hasattr(a, "kernel")]
    return len(convs) == 94 and all(
        np.array_equal(a.kernel, b.kernel) and np.array_equal(a.bias, b.bias) for a, b in convs
    )


def test_every_keras_format_holds_the_same_network(tmp_path, keras_model):
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    keras_model.save_weights(tmp_path / "own.weights.h5")
    keras_model.save(tmp_path / "own.keras")
    with h5py.File(tmp_path / keras_weights.IMAGENET, "w") as file:  # the format of Keras's own download
        legacy_h5_format.save_weights_to_hdf5_group(file, keras_model)
    first = keras_weights.read_weights(tmp_path / "own.weights.h5")
    assert same_layers(first, keras_weights.read_weights(tmp_path / "own.keras"))
    assert same_layers(first, keras_weights.read_weights(tmp_path / keras_weights.IMAGENET))


def test_weights_of_another_network_are_refused(tmp_path):
    other = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), keras.layers.Flatten()])
    other.save_weights(tmp_path / "other.weights.h5")
    other.save(tmp_path / "other.keras")
    for name in ("empty.keras", "empty.weights.h5"):
        (tmp_path / name).touch()
    for path in tmp_path.iterdir():
        with pytest.raises(UserError, match="does not hold Keras InceptionV3 weights"):
            keras_weights.read_weights(path)


def test_a_keras_file_may_not_run_code(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda value: value + 1)])
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(UserError, match="does not hold"):
        keras_weights.read_weights(tmp_path / "lambda.keras")


def test_imagenet_weights_come_from_the_cache_or_one_line_says_where_to_put_them(tmp_path, console, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def no_network(*_args, **_kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(UserError, match=rf"put {keras_weights.IMAGENET} .* into {tmp_path}/models"):
        inception.open_backbone(console, None)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_args, **_kwargs: io.BytesIO(b"half a file"))
    with pytest.raises(UserError, match="what arrived is not the file"):
        inception.open_backbone(console, None)
    assert not list((tmp_path / "models").iterdir())
    (tmp_path / "models" / keras_weights.IMAGENET).touch()
    assert keras_weights.imagenet_file(console) == tmp_path / "models" / keras_weights.IMAGENET


def test_random_weights_follow_from_the_seed_and_tell_images_apart(console):
    backbone = inception.open_backbone(console, None, random_seed=7)
    assert backbone.extractor.startswith("random-inception-v3 pool_3; seed=7;")
    seven = keras_weights.random_network(7)
    assert same_layers(seven, keras_weights.random_network(7))
    assert not same_layers(seven, keras_weights.random_network(8))
    features = backbone.features(ready(backbone, [jpeg(90, 90) for _ in range(4)]))
    assert 0.01 < features.mean() < 10
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = (directions @ directions.T)[np.triu_indices(4, 1)]
    assert cosines.max() < 0.99


def test_the_eight_views_are_the_flips_and_quarter_turns():
    image = RNG.random((1, 5, 5, 3)).astype(np.float32)
    ours = {inception.turned(tf.constant(image), view).numpy().tobytes() for view in range(8)}
    mirrored = image[:, :, ::-1]
    theirs = {np.rot90(one, turn, (1, 2)).tobytes() for one in (image, mirrored) for turn in range(4)}
    assert len(ours) == 8
    assert ours == theirs


def test_views_average_the_features(tmp_path, console):
    graphs.write_graph(tmp_path)
    one, eight = (inception.open_backbone(console, tmp_path, views=views) for views in (1, 8))
    images = ready(one, [jpeg(75, 90)])
    each = [one.features(inception.turned(tf.constant(images), view).numpy()) for view in range(8)]
    assert relative_errors(eight.features(images), np.mean(each, axis=0)).max() < 1e-6
    assert np.ptp(each, axis=0).max() > 1e-3
    assert "views=8" in eight.extractor


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_stays_close_and_is_recorded(tmp_path, console, precision):
    graphs.write_graph(tmp_path)
    exact = inception.open_backbone(console, tmp_path)
    lower = inception.open_backbone(console, tmp_path, precision=precision)
    images = ready(exact, [jpeg(75, 90), jpeg(30, 30)])
    a, b = exact.features(images), lower.features(images)
    assert b.dtype == np.float32
    assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.999
    assert not np.array_equal(a, b)
    assert f"precision={precision}" in lower.extractor


def test_the_recorded_backbone_is_reopened_and_no_other(tmp_path, console):
    path = graphs.write_graph(tmp_path / "a")
    made = inception.open_backbone(console, path.parent, tiff="pixels", precision="bfloat16", views=8)
    again = inception.backbone_for(console, made.extractor, made.model_file, None)
    assert again.extractor == made.extractor
    moved = graphs.write_graph(tmp_path / "b")
    path.unlink()
    with pytest.raises(UserError, match="is gone; give its folder as --model_dir"):
        inception.backbone_for(console, made.extractor, made.model_file, None)
    again = inception.backbone_for(console, made.extractor, made.model_file, moved.parent)
    assert again.extractor == made.extractor
    graphs.write_graph(tmp_path / "b", graphs.small_graph(seed=1))
    with pytest.raises(UserError, match="is not the backbone that made the archive"):
        inception.backbone_for(console, made.extractor, made.model_file, moved.parent)
    with pytest.raises(UserError, match="cannot reopen"):
        inception.backbone_for(console, "published features.pkl", "", None)


def test_layers_are_means_over_space_of_the_named_nodes(tmp_path, console):
    graph = graphs.small_graph()
    graphs.write_graph(tmp_path, graph)
    backbone = inception.open_backbone(console, tmp_path, layers=("mixed_10", "mixed"))
    jpegs = [jpeg(80, 100), jpeg(75, 75)]
    found = backbone.features(ready(backbone, jpegs))
    pool_3 = graphs.published_way(graph, jpegs)
    assert relative_errors(found[:, : graphs.WIDTH], pool_3).max() < 1e-5
    mixed = graphs.published_way(graph, jpegs, "mixed/join:0").mean(axis=(1, 2))
    assert relative_errors(found[:, graphs.WIDTH :], mixed).max() < 1e-5
    assert relative_errors(found[:, graphs.WIDTH :], pool_3[:, : mixed.shape[1]]).min() > 0.1
    again = inception.backbone_for(console, backbone.extractor, backbone.model_file, None)
    np.testing.assert_array_equal(again.features(ready(again, jpegs)), found)
    with pytest.raises(UserError, match="has no layer 'mixed_3'; choose from pool_3, mixed, mixed_10"):
        inception.open_backbone(console, tmp_path, layers=("mixed", "mixed_3"))


def test_a_random_backbone_is_reopened_by_its_seed(console):
    made = inception.open_backbone(console, None, random_seed=3)
    assert inception.backbone_for(console, made.extractor, made.model_file, None).extractor == made.extractor


def test_the_resize_of_2015_takes_corners_and_keras_pixel_centres():
    image = tf.constant(np.arange(2, dtype=np.uint8).reshape(1, 2, 1) * 100)
    corner = inception.resized(image, inception.Scaling((1, 4), half_pixel=False, mean=0.0, factor=1.0))
    centre = inception.resized(image, inception.Scaling((1, 4), half_pixel=True, mean=0.0, factor=1.0))
    assert corner.numpy().ravel().tolist() == [0, 50, 100, 100]
    assert centre.numpy().ravel().tolist() == [0, 25, 75, 100]


@pytest.mark.parametrize(("padding", "also_read"), [("SAME", False), ("SAME", True), ("VALID", False)])
def test_averages_move_behind_the_pointwise_convolutions_that_read_them(padding, also_read):
    kernel = RNG.standard_normal((1, 1, 3, 2)).astype(np.float32)
    layers = {
        "mean": Pool("image", "average", (3, 3), (1, 1), padding),
        "conv": Conv("mean", kernel, np.float32([0.5, -0.5]), (1, 1), "SAME", relu=True),
        "join": Join(("conv", "mean") if also_read else ("conv",)),
        "last": Pool("join", "max", (2, 2), (1, 1), "VALID"),
    }
    moved = averaged_late(layers)
    assert moved["conv"].source == "image"
    assert ("mean" in moved) == also_read
    scaling = inception.Scaling((7, 5), half_pixel=False, mean=128.0, factor=1 / 128)
    images = RNG.uniform(0, 255, (2, 7, 5, 3)).astype(np.float32)
    plain = tf.nn.avg_pool2d((images - 128) / 128, 3, 1, padding)
    by_hand = tf.nn.relu(tf.nn.conv2d(plain, kernel, 1, "SAME") + layers["conv"].bias)
    if also_read:
        by_hand = tf.concat([by_hand, plain], axis=3)
    wanted = tf.reshape(tf.nn.max_pool2d(by_hand, 2, 1, "VALID"), [2, -1])
    found = inception.compiled(Network(layers, "image", scaling, {}), "float32")(images)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
