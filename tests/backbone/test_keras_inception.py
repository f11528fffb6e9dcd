"""Keras's InceptionV3: what Keras computes with the same weights, its files, its download and random weights."""

import hashlib
import http.client
import io
import json
import os
import urllib.error
import urllib.response
import zipfile
from email.message import Message
from pathlib import Path

import graphs
import h5py
import numpy as np
import pytest
from graphs import random_jpeg

from mhcln.backbone import keras_inception
from mhcln.backbone.backbone import open_backbone, recipe_of
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import Terminated, UserError
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
def keras_file(tmp_path_factory, keras_model) -> Path:
    path = tmp_path_factory.mktemp("keras") / "own.keras"
    keras_model.save(path)
    return path


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory, keras_model) -> Path:
    path = tmp_path_factory.mktemp("keras") / "own.weights.h5"
    keras_model.save_weights(path)
    return path


@pytest.fixture(scope="module")
def legacy_file(tmp_path_factory, keras_model) -> Path:
    path = tmp_path_factory.mktemp("keras") / keras_inception.IMAGENET
    save_legacy_weights(keras_model, path)
    return path


def test_keras_weights_give_what_keras_gives(console, keras_model, weights_file):
    backbone = open_backbone(BackboneOptions(weights_file), console)
    image = tf.constant(RNG.integers(0, 256, (200, 180, 3), dtype=np.uint8))
    images = backbone.resize(image)[None]
    by_keras = tf.image.resize(image[None], (299, 299)).numpy()
    assert np.abs(images - by_keras).max() < 1e-3
    wanted = keras_model(keras.applications.inception_v3.preprocess_input(by_keras)).numpy().mean(axis=(1, 2))
    assert graphs.relative_errors(backbone.features(images), wanted).max() < 1e-5
    assert backbone.extractor.startswith("keras-inception-v3 pool_3; sha256=")
    assert "tiff=pixels" in backbone.extractor


def test_layers_of_keras_are_the_means_of_its_blocks(console, keras_model, weights_file):
    blocks = keras.Model(keras_model.input, [keras_model.get_layer(name).output for name in ("mixed8", "mixed0")])
    backbone = open_backbone(BackboneOptions(weights_file, layers=("mixed_8", "mixed")), console)
    image = RNG.uniform(0, 255, (1, 299, 299, 3)).astype(np.float32)
    outputs = blocks(keras.applications.inception_v3.preprocess_input(image.copy()))
    wanted = np.concatenate([output.numpy().mean(axis=(1, 2)) for output in outputs], axis=1)
    assert graphs.relative_errors(backbone.features(image), wanted).max() < 1e-5
    assert backbone.extractor.startswith("keras-inception-v3 mixed_8+mixed; sha256=")


def same_layers(one, other) -> bool:
    ours, theirs = list(one.layers.values()), list(other.layers.values())
    convs = [(a, b) for a, b in zip(ours, theirs, strict=True) if hasattr(a, "kernel")]
    return len(convs) == 94 and all(
        np.array_equal(a.kernel, b.kernel) and np.array_equal(a.bias, b.bias) for a, b in convs
    )


def fix_lengths(group: h5py.Group) -> None:
    """Give lists of names a fixed length, as h5py wrote them at the time of Keras 2."""
    for each, name in [(group, "layer_names"), *((layer, "weight_names") for layer in group.values())]:
        if name in each.attrs:
            each.attrs[name] = np.array([text.encode() for text in each.attrs[name]], "S80")


def save_legacy_weights(model: keras.Model, path: Path) -> None:
    """Write the format of Keras's own download."""
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
        fix_lengths(file)


def test_every_keras_format_holds_the_same_network(keras_file, weights_file, legacy_file):
    first = keras_inception.read_weights(weights_file)
    assert same_layers(first, keras_inception.read_weights(keras_file))
    assert same_layers(first, keras_inception.read_weights(legacy_file))


def with_top(model: keras.Model) -> keras.Model:
    """The network behind which a classifier was trained."""
    pooled = keras.layers.GlobalAveragePooling2D()(model.output)
    return keras.Model(model.input, keras.layers.Dense(7)(pooled))


def test_files_of_any_name_are_recognised_by_what_they_hold(tmp_path, keras_model, keras_file, weights_file):
    wanted = keras_inception.read_weights(weights_file)
    (tmp_path / "a.bin").write_bytes(weights_file.read_bytes())
    save_legacy_weights(with_top(keras_model), tmp_path / "b.hdf5")
    (tmp_path / "c.h5").write_bytes(keras_file.read_bytes())
    for name in ("a.bin", "b.hdf5", "c.h5"):
        assert recipe_of(tmp_path / name, BackboneOptions()).family == "keras-inception-v3"
        assert same_layers(keras_inception.read_weights(tmp_path / name), wanted), name


def test_whole_models_in_h5_are_read_or_told_how_to_save_them_again(tmp_path, console, keras_model, keras_file):
    with_top(keras_model).save(tmp_path / "whole.h5")
    with pytest.raises(UserError) as caught:
        open_backbone(BackboneOptions(tmp_path), console)
    words = (
        f"{tmp_path / 'whole.h5'} is an HDF5 file of Keras, but its layer_names is not a list of names of fixed length"
    )
    assert str(caught.value).startswith(f"{words}; load it with Keras, save that model again by model.save(")
    wanted = keras_inception.read_weights(keras_file)
    keras.models.load_model(tmp_path / "whole.h5").save(tmp_path / "inception.keras")  # as advised
    assert same_layers(keras_inception.read_weights(tmp_path / "inception.keras"), wanted)
    with h5py.File(tmp_path / "whole.h5", "a") as file:
        fix_lengths(file["model_weights"])
    assert same_layers(keras_inception.read_weights(tmp_path / "whole.h5"), wanted)


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5", "a.h5", "a.bin"])
def test_an_interrupted_download_of_weights_is_one_line(tmp_path, console, keras_file, weights_file, legacy_file, name):
    path, whole = tmp_path / name, {"a.keras": keras_file, "a.weights.h5": weights_file}.get(name, legacy_file)
    content = whole.read_bytes()
    for size in (0, 5, 1000, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match=f"{name} (does not hold Keras|is not the Inception graph)") as caught:
            open_backbone(BackboneOptions(path), console)
        assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path):
    other = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), keras.layers.Flatten()])
    other.save_weights(tmp_path / "other.weights.h5")
    other.save(tmp_path / "other.keras")
    for name in ("empty.keras", "empty.weights.h5"):
        (tmp_path / name).touch()
    for path in tmp_path.iterdir():
        with pytest.raises(UserError, match="does not hold Keras InceptionV3 weights"):
            keras_inception.read_weights(path)


def with_layers(path: Path, change) -> Path:
    """The `.keras` file with the list of its layers changed by a function; return its path."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    change(config["config"]["layers"])
    content["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path.with_name("changed.keras"), "w") as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    return path.with_name("changed.keras")


def option(layer: int, name: str, value):
    def change(layers):
        layers[layer]["config"][name] = value

    return change


def reads(layer: int, other: int):
    def change(layers):
        history = layers[layer]["inbound_nodes"][0]["args"][0]["config"]["keras_history"]
        history[0] = layers[other]["config"]["name"]

    return change


def kind(layer: int, name: str, module: str = "keras.layers"):
    def change(layers):
        layers[layer]["class_name"], layers[layer]["module"] = name, module

    return change


def without(layer: int):
    def change(layers):
        del layers[layer]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (option(1, "strides", [1, 1]), "is not the Conv2D that InceptionV3 has there"),
        (option(1, "filters", 10**9), "is not the Conv2D"),
        (option(1, "use_bias", True), "is not the Conv2D"),
        (option(2, "epsilon", 0.5), "is not the BatchNormalization"),
        (option(3, "activation", "gelu"), "is not the Activation"),
        (option(10, "pool_size", [2, 2]), "is not the MaxPooling2D"),
        (kind(3, "Lambda"), "is not the Activation"),
        (kind(3, "system", "os"), "is not the Activation"),
        (reads(4, 2), "is not the Conv2D"),
        (without(300), "it has 310 layers, not 311"),
        (lambda layers: layers.insert(1, layers[1]), "names a layer twice"),
        (lambda layers: layers.reverse(), "is not the InputLayer"),
    ],
)
def test_a_network_that_computes_something_else_is_refused(keras_file, change, words):
    with pytest.raises(UserError, match=words):
        keras_inception.read_weights(with_layers(keras_file, change))


def test_layers_behind_the_last_block_are_left_alone(keras_file):
    def change(layers):
        node = {"class_name": "__keras_tensor__", "config": {"keras_history": ["mixed10", 0, 0]}}
        layers.append(
            {"class_name": "Lambda", "config": {"name": "run"}, "inbound_nodes": [{"args": [node], "kwargs": {}}]}
        )
        layers[1]["config"]["kernel_initializer"] = {"module": "os", "class_name": "system", "config": "touch ran"}

    read = keras_inception.read_weights(with_layers(keras_file, change))
    assert same_layers(read, keras_inception.read_weights(keras_file))


def test_a_variance_that_is_not_positive_is_refused(tmp_path, weights_file):
    (tmp_path / "own.weights.h5").write_bytes(weights_file.read_bytes())
    with h5py.File(tmp_path / "own.weights.h5", "a") as file:
        file["layers/batch_normalization_3/vars/2"][0] = -1
    with pytest.raises(UserError, match="has a variance that is not positive"):
        keras_inception.read_weights(tmp_path / "own.weights.h5")


def test_a_keras_file_may_not_run_code(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda value: value + 1)])
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(UserError, match="does not hold"):
        keras_inception.read_weights(tmp_path / "lambda.keras")


class Server:
    """Takes the place of the network: sends some bytes, or fails."""

    def __init__(self, content: bytes = b"", error: BaseException | None = None) -> None:
        self.content = content
        self.error = error
        self.requests: list[tuple[str, float | None]] = []

    def urlopen(self, url, timeout=None):
        self.requests.append((url, timeout))
        if self.error is not None:
            raise self.error
        return urllib.response.addinfourl(io.BytesIO(self.content), {"Content-Length": str(len(self.content))}, url)


WEIGHTS = b"the weights"


@pytest.fixture
def cached(tmp_path, monkeypatch) -> Path:
    """Where the download goes, not there yet; WEIGHTS are the right content."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(keras_inception, "IMAGENET_MD5", hashlib.md5(WEIGHTS).hexdigest())
    return tmp_path / "keras" / "models" / keras_inception.IMAGENET


def serving(monkeypatch, content: bytes = b"", error: BaseException | None = None) -> Server:
    server = Server(content, error)
    monkeypatch.setattr("urllib.request.urlopen", server.urlopen)
    return server


def test_imagenet_weights_are_downloaded_once_and_quietly(cached, console, monkeypatch, capfd):
    server = serving(monkeypatch, WEIGHTS)
    for _ in range(2):
        assert keras_inception.imagenet_file(console) == cached
    assert cached.read_bytes() == WEIGHTS
    assert [path.name for path in cached.parent.iterdir()] == [cached.name]
    assert server.requests == [(keras_inception.IMAGENET_URL, keras_inception.DOWNLOAD_SECONDS)]
    assert console.said == [f"downloading Keras's ImageNet weights to {cached} (once, 88 MB)"]
    assert capfd.readouterr() == ("", "")


def test_cached_imagenet_weights_need_no_network(cached, console, monkeypatch):
    server = serving(monkeypatch, error=AssertionError("no network"))
    cached.parent.mkdir(parents=True)
    cached.write_bytes(WEIGHTS)
    assert keras_inception.imagenet_file(console) == cached
    assert not server.requests
    assert not console.said


@pytest.mark.parametrize("content", [b"", WEIGHTS[:-1], b"other weights"])
def test_cached_imagenet_weights_that_are_damaged_are_downloaded_again(cached, console, monkeypatch, content):
    serving(monkeypatch, WEIGHTS)
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    assert keras_inception.imagenet_file(console) == cached
    assert cached.read_bytes() == WEIGHTS


def test_damaged_cached_weights_are_not_taken_without_a_network(cached, console, monkeypatch):
    serving(monkeypatch, error=urllib.error.URLError("no network"))
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"half")
    with pytest.raises(UserError, match="cannot be downloaded"):
        open_backbone(BackboneOptions(), console)


def test_a_damaged_download_is_refused_and_leaves_nothing(cached, console, monkeypatch):
    serving(monkeypatch, b"half a file")
    with pytest.raises(UserError, match="what arrived is not the file"):
        open_backbone(BackboneOptions(), console)
    assert not list(cached.parent.iterdir())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (urllib.error.URLError("no network"), "no network"),
        (urllib.error.HTTPError("url", 404, "Not Found", Message(), None), "404: Not Found"),
        (TimeoutError("timed out"), "timed out"),
        (ConnectionResetError(104, "Connection reset by peer"), "reset by peer"),
        (http.client.IncompleteRead(b""), "IncompleteRead"),
    ],
)
def test_a_failed_download_is_one_line_that_says_where_to_put_the_file(cached, console, monkeypatch, error, words):
    serving(monkeypatch, error=error)
    with pytest.raises(UserError, match=rf"put {keras_inception.IMAGENET} .* into {cached.parent}") as caught:
        open_backbone(BackboneOptions(), console)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(cached.parent.iterdir())


def test_an_interrupted_download_leaves_nothing(cached, console, monkeypatch):
    for interruption in (KeyboardInterrupt(), Terminated()):
        serving(monkeypatch, error=interruption)
        with pytest.raises(type(interruption)):
            keras_inception.imagenet_file(console)
        assert not list(cached.parent.iterdir())


def test_without_a_home_folder_the_weights_need_another_place(cached, console, monkeypatch):
    serving(monkeypatch, WEIGHTS)
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setattr(os.path, "expanduser", str)  # as it does where a foreign user id has no HOME
    with pytest.raises(
        UserError, match=r"where your home folder is.*; set KERAS_HOME to a folder, or give --model_dir"
    ):
        keras_inception.imagenet_file(console)
    monkeypatch.setenv("KERAS_HOME", str(cached.parents[1]))
    assert keras_inception.imagenet_file(console) == cached


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path, console, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be downloaded"):
        keras_inception.imagenet_file(console)


def test_random_weights_depend_on_the_seed_alone_and_distinguish_images(console):
    backbone = open_backbone(BackboneOptions(random_seed=7), console)
    assert backbone.extractor.startswith("random-inception-v3 pool_3; seed=7;")
    seven = keras_inception.random_network(7)
    assert same_layers(seven, keras_inception.random_network(7))
    assert not same_layers(seven, keras_inception.random_network(8))
    features = backbone.features(graphs.resized(backbone, [random_jpeg(RNG, 90, 90) for _ in range(4)]))
    assert 0.01 < features.mean() < 10
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = (directions @ directions.T)[np.triu_indices(4, 1)]
    assert cosines.max() < 0.99
