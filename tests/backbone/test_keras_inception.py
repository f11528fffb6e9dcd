"""Keras's InceptionV3: what Keras computes with the same weights, its files, its download and random weights."""

import hashlib
from pathlib import Path

import graphs
import h5py
import numpy as np
import pytest
from graphs import random_jpeg

from mhcln.backbone import keras_inception
from mhcln.backbone.backbone import Backbone, open_backbone, recipe_of
from mhcln.backbone.compiled import compiled
from mhcln.backbone.layers import Conv, with_outputs
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import UserError
from mhcln.quiet_tensorflow import keras, tf

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def keras_model():
    model = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(299, 299, 3))
    random = np.random.default_rng(1)
    model.set_weights(
        [value if value.ndim > 1 else random.uniform(0.5, 1.5, value.shape) for value in model.get_weights()]
    )
    return model


@pytest.fixture(scope="module")
def with_top(keras_model):
    """The network behind which a classifier was trained."""
    pooled = keras.layers.GlobalAveragePooling2D()(keras_model.output)
    return keras.Model(keras_model.input, keras.layers.Dense(7)(keras.layers.Dense(64)(pooled)))


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory, keras_model) -> Path:
    path = tmp_path_factory.mktemp("keras") / "own.weights.h5"
    keras_model.save_weights(path)
    return path


@pytest.fixture(scope="module")
def network(weights_file):
    return keras_inception.read_weights(weights_file)


@pytest.fixture
def one_model(monkeypatch):
    """Let all files be loaded into one network: to build it takes a second."""
    model = keras_inception._inception()
    monkeypatch.setattr(keras_inception, "_inception", lambda: model)


def test_keras_weights_give_what_keras_gives(keras_model, network):
    names = ("mixed8", "mixed0", "mixed10")
    blocks = keras.Model(keras_model.input, [keras_model.get_layer(name).output for name in names])
    image = tf.constant(RNG.integers(0, 256, (200, 180, 3), dtype=np.uint8))
    images = Backbone(None, "", network.scaling, None).resize(image)[None]
    by_keras = tf.image.resize(image[None], (299, 299)).numpy()
    assert np.abs(images - by_keras).max() < 1e-3
    outputs = blocks(keras.applications.inception_v3.preprocess_input(by_keras))
    wanted = [output.numpy().mean(axis=(1, 2)) for output in outputs]
    assert graphs.relative_errors(compiled(network, "float32")(images).numpy(), wanted[2]).max() < 1e-5
    layers = compiled(with_outputs(network, ("mixed_8", "mixed")), "float32")(images).numpy()
    assert graphs.relative_errors(layers, np.concatenate(wanted[:2], axis=1)).max() < 1e-5


def test_the_recipe_names_the_file(weights_file):
    recipe = str(recipe_of(weights_file, BackboneOptions(weights_file)))
    digest = hashlib.sha256(weights_file.read_bytes()).hexdigest()
    assert recipe == f"keras-inception-v3 pool_3; sha256={digest}; tiff=pixels; precision=float32; views=1"


def assert_same(one, other) -> None:
    assert list(one.blocks) == list(other.blocks)
    assert len(one.layers) == len(other.layers) == 123
    for ours, theirs in zip(one.layers.values(), other.layers.values(), strict=True):
        assert type(ours) is type(theirs)
        if isinstance(ours, Conv):
            assert np.array_equal(ours.kernel, theirs.kernel)
            assert np.array_equal(ours.bias, theirs.bias)


def save_download(model: keras.Model, path: Path) -> None:
    """Write the format of Keras's own download: lists of names of fixed length, as in the time of Keras 2."""
    with h5py.File(path, "w") as file:
        layers = [layer for layer in model.layers if layer.weights]
        file.attrs["layer_names"] = np.array(["input", *(layer.name for layer in layers)], "S")
        file.create_group("input").attrs["weight_names"] = np.zeros(0)
        for layer in layers:
            names = [f"{layer.name}/{number}:0" for number in range(len(layer.weights))]
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = np.array(names, "S")
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name] = value


def save_2_13(model: keras.Model, path: Path) -> None:
    """Write the names of the `.keras` files of Keras 2.13."""
    model.save_weights(path.with_name("as_now.weights.h5"))
    with h5py.File(path.with_name("as_now.weights.h5")) as now, h5py.File(path, "w") as file:
        now.copy("layers", file, "_layer_checkpoint_dependencies")


def save_whole(model: keras.Model, path: Path) -> None:
    model.save(path)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("own.keras", save_whole),
        ("whole.h5", save_whole),
        ("of_keras_2.weights.h5", save_download),
        ("of_2_13.weights.h5", save_2_13),
    ],
)
def test_every_format_holds_the_same_network_also_behind_a_classifier(tmp_path, with_top, network, name, save):
    save(with_top, tmp_path / name)
    assert_same(keras_inception.read_weights(tmp_path / name), network)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        keras_inception.read_weights(path)
    message = str(caught.value)
    assert message.startswith(f"{path} does not hold Keras InceptionV3 weights (")
    assert message.endswith(f"); take {keras_inception.IMAGENET}, or save such a Keras model to a file")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["own.keras", "own.weights.h5", "own.h5"])
@pytest.mark.usefixtures("one_model")
def test_an_interrupted_download_is_one_line(tmp_path, keras_model, name):
    path = tmp_path / name
    (keras_model.save_weights if name == "own.weights.h5" else keras_model.save)(path)
    content = path.read_bytes()
    for size in (0, 5, 1000, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        refusal(path)


@pytest.mark.parametrize("name", ["other.keras", "other.weights.h5", "other.h5"])
@pytest.mark.usefixtures("one_model")
def test_weights_of_another_network_are_one_line(tmp_path, name):
    """A Lambda, which Keras runs when it makes the model that a file describes, is not made."""
    other = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), keras.layers.Lambda(lambda value: value + 1)]
    )
    (other.save_weights if name == "other.weights.h5" else other.save)(tmp_path / name)
    refusal(tmp_path / name)


@pytest.mark.usefixtures("one_model")
def test_a_nested_network_is_one_line(tmp_path, keras_model):
    nested = keras.Sequential([keras.Input((299, 299, 3)), keras_model, keras.layers.GlobalAveragePooling2D()])
    nested.save(tmp_path / "nested.keras")
    nested.save(tmp_path / "nested.h5")
    assert "could not be loaded" in refusal(tmp_path / "nested.keras")
    assert "it has 1 layers with weights, not 188" in refusal(tmp_path / "nested.h5")


@pytest.mark.usefixtures("one_model")
def test_a_variance_that_is_not_positive_is_refused(tmp_path, weights_file):
    path = tmp_path / "own.weights.h5"
    path.write_bytes(weights_file.read_bytes())
    with h5py.File(path, "a") as file:
        file["layers/batch_normalization_3/vars/2"][0] = -1
    assert "has a variance that is not positive" in refusal(path)


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """A file in the place of the one on the network, and an empty cache of Keras."""
    source = tmp_path / "there.h5"
    source.write_bytes(b"the weights")
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    monkeypatch.setattr(keras_inception, "IMAGENET_URL", source.as_uri())
    monkeypatch.setattr(keras_inception, "IMAGENET_MD5", hashlib.md5(b"the weights").hexdigest())
    return source


def test_imagenet_weights_are_downloaded_once_and_again_if_they_are_damaged(source, capsys):
    path = keras_inception.imagenet_file()
    assert capsys.readouterr().out == ""  # no bar, where there is no terminal
    assert path == source.parent / "models" / keras_inception.IMAGENET
    path.write_bytes(b"half")
    assert keras_inception.imagenet_file().read_bytes() == b"the weights"
    source.unlink()
    assert keras_inception.imagenet_file() == path


def test_a_damaged_and_a_failed_download_are_one_line(source):
    source.write_bytes(b"half")
    wanted = r"^Keras's ImageNet weights cannot be downloaded \([^\n]*; get file:[^\n]* another way, and give that file"
    with pytest.raises(UserError, match=wanted):
        open_backbone(BackboneOptions())
    source.unlink()
    with pytest.raises(UserError, match=wanted):
        open_backbone(BackboneOptions())


@pytest.mark.usefixtures("one_model")
def test_random_weights_depend_on_the_seed_alone_and_distinguish_images():
    seven = keras_inception.random_network(7)
    assert_same(seven, keras_inception.random_network(7))
    with pytest.raises(AssertionError):
        assert_same(seven, keras_inception.random_network(8))
    backbone = Backbone(None, "", seven.scaling, compiled(seven, "float32"))
    images = graphs.resized(backbone, [random_jpeg(RNG, 90, 90) for _ in range(4)])
    features = backbone.network(images).numpy()
    assert 0.01 < features.mean() < 10
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = (directions @ directions.T)[np.triu_indices(4, 1)]
    assert cosines.max() < 0.99
