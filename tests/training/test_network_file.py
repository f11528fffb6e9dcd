"""model.keras read back: the same activations as by Keras, and files that describe anything but a hashing network."""

import json
import os
import zipfile

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.quiet_tensorflow import keras
from mhcln.training.network_file import read_network
from mhcln.training.networks import (
    kernel_network,
    linear_network,
    orthohash_network,
    published_network,
    threshold_network,
)

FEATURES = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)


def with_dropout() -> keras.Model:
    """The network of orthohash as earlier versions saved it."""
    network, _ = orthohash_network(6, 4, seed=0)
    inputs = values = keras.Input((6,), name="features")
    for layer in network.layers[1:]:
        values = layer(values)
        if layer.name == "leaky":
            values = keras.layers.Dropout(0.3, name="dropout")(values, training=False)
    return keras.Model(inputs, values)


@pytest.mark.parametrize(
    "build",
    [
        lambda: published_network(6, 4, seed=0),
        lambda: orthohash_network(6, 4, seed=0)[0],
        with_dropout,
        lambda: linear_network(np.ones((6, 4)), np.ones(4)),
        lambda: threshold_network(np.ones(4), 0.5),
        lambda: kernel_network(np.ones(6), np.ones((5, 6)), 2.0, np.ones((5, 4)), root=True),
        lambda: kernel_network(np.ones(6), np.ones((5, 6)), 2.0, np.ones((5, 4)), root=False),
    ],
    ids=["published", "orthohash", "dropout", "linear", "thresholds", "kernels of roots", "kernels"],
)
def test_a_network_computes_what_it_computed_when_it_was_saved(tmp_path, build):
    network, random = build(), np.random.default_rng(1)
    network.set_weights([random.uniform(0.1, 1, value.shape) for value in network.get_weights()])
    network.save(tmp_path / "model.keras")
    loaded = read_network(tmp_path / "model.keras")
    assert (loaded.input_shape, loaded.output_shape) == (network.input_shape, (None, 4))
    features = FEATURES[:, : network.input_shape[1]]
    assert np.array_equal(loaded(features, training=False), network(features, training=False))
    plain = keras.models.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    assert np.array_equal(plain(features, training=False), network(features, training=False))


@pytest.fixture
def saved(tmp_path):
    published_network(6, 4, seed=0).save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def change(path, edit) -> None:
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    edit(config["config"]["layers"])
    content["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, value)


def option(place: int, name: str, value):
    return lambda layers: layers[place]["config"].update({name: value})


def kind(place: int, name: str, module: str = "keras.layers"):
    return lambda layers: layers[place].update({"class_name": name, "module": module})


def many_layers(layers) -> None:
    """Put dropouts behind one another to the end."""
    for number in range(100):
        layer = json.loads(json.dumps(layers[2]))
        layer["class_name"], layer["config"]["name"] = "Dropout", f"dropout_{number}"
        history = layer["inbound_nodes"][0]["args"][0]["config"]["keras_history"]
        history[0] = layers[-1]["config"]["name"]
        layers.append(layer)


@pytest.mark.parametrize(
    "edit",
    [
        many_layers,
        option(1, "units", 10**12),
        option(1, "units", "1024"),
        option(1, "units", None),
        option(1, "units", 1023),
        option(1, "activation", "relu"),
        option(1, "use_bias", False),
        option(0, "batch_shape", [None, 10**12]),
        option(0, "batch_shape", [None, None]),
        option(0, "batch_shape", 6),
        option(0, "batch_shape", [None, 3, 2]),
        option(2, "negative_slope", float("nan")),
        option(2, "negative_slope", "0.2"),
        option(2, "negative_slope", 10**400),
        option(6, "activation", "tanh"),
        option(6, "activation", {"module": "os", "class_name": "function", "config": "system"}),
        kind(2, "Lambda"),
        kind(2, "system", "os"),
        kind(1, "TFSMLayer"),
        lambda layers: layers.pop(2),
        lambda layers: layers.reverse(),
        lambda layers: layers.clear(),
        lambda layers: layers.__delitem__(slice(1, None)),
        lambda layers: layers.extend([layers[2]] * 100),
    ],
)
def test_a_description_of_anything_else_is_refused(saved, edit):
    change(saved, edit)
    with pytest.raises(UserError, match=r"model\.keras is not a hashing network \(.*\); make it again with trainer"):
        read_network(saved)


def test_a_lambda_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chain = [keras.Input((2,)), keras.layers.Lambda(lambda value: os.system("touch ran") or value)]
    keras.Sequential(chain).save("model.keras")
    (tmp_path / "ran").unlink(missing_ok=True)  # Keras runs it once to learn its shape
    with pytest.raises(UserError, match="is not a hashing network"):
        read_network(tmp_path / "model.keras")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK", b"hello world" * 100])
def test_what_is_not_an_archive_is_refused(tmp_path, content):
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(UserError, match="is not a hashing network"):
        read_network(tmp_path / "model.keras")


def test_an_archive_cut_anywhere_is_refused(saved):
    content = saved.read_bytes()
    for size in range(0, len(content), len(content) // 40):
        saved.write_bytes(content[:size])
        with pytest.raises(UserError, match="is not a hashing network"):
            read_network(saved)
