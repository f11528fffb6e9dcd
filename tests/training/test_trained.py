"""A trained network read back from model.keras: the same activations, and files that hold anything else."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.quiet_tensorflow import keras
from mhcln.training import networks
from mhcln.training.methods import METHODS
from mhcln.training.trained import activations, read_network

WIDTH, BITS = 6, 4
FEATURES = np.random.default_rng(0).random((9, WIDTH), np.float32)
SAVED = Path(__file__).parent / "saved"  # by Keras 3.15, whose models an older one cannot load; random weights


def with_random_weights(network: keras.Model) -> keras.Model:
    random = np.random.default_rng(1)
    network.set_weights([random.uniform(0.1, 1, weights.shape) for weights in network.get_weights()])
    return network


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("loss", ["mhcln", "orthohash", "lsh", "sign", "sdh"])
def test_a_network_computes_what_it_computed_when_it_was_saved(tmp_path, loss, root):
    sizes = {"anchors": 5, "root": root} if loss == "sdh" else {}
    bits = WIDTH if loss == "sign" else BITS
    network = with_random_weights(METHODS[loss].network(WIDTH, bits, **sizes))
    network.save(tmp_path / "model.keras")
    loaded = read_network(tmp_path / "model.keras", loss, WIDTH, bits)
    assert (activations(loaded, FEATURES) == activations(network, FEATURES)).all()


@pytest.mark.parametrize("loss", ["lsh", "sdh"])
def test_any_keras_reads_what_another_one_saved(loss):
    with np.load(SAVED / "activations.npz") as stored:
        network = read_network(SAVED / f"{loss}.keras", loss, WIDTH, BITS)
        np.testing.assert_allclose(activations(network, stored["features"]), stored[loss], atol=1e-6)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def without_weights(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)


@pytest.mark.parametrize(
    ("loss", "width", "bits", "damage"),
    [
        ("lsh", WIDTH, BITS, lambda path: path.write_bytes(b"")),
        ("lsh", WIDTH, BITS, lambda path: path.write_bytes(b"hello world" * 100)),
        ("lsh", WIDTH, BITS, cut),
        ("lsh", WIDTH, BITS, without_weights),
        ("lsh", WIDTH + 1, BITS, None),
        ("lsh", WIDTH, BITS + 1, None),
        ("mhcln", WIDTH, BITS, None),
        ("sdh", WIDTH, BITS, None),
        ("softmax", WIDTH, BITS, None),
    ],
)
def test_what_is_not_that_network_is_refused(tmp_path, loss, width, bits, damage):
    with_random_weights(networks.linear_network(WIDTH, BITS)).save(tmp_path / "model.keras")
    if damage:
        damage(tmp_path / "model.keras")
    with pytest.raises(
        UserError, match=rf"model\.keras is not a network of loss {loss} .*; make it again with trainer"
    ):
        read_network(tmp_path / "model.keras", loss, width, bits)


def test_more_layers_than_the_network_has_are_refused(tmp_path):
    network = networks.linear_network(WIDTH, BITS)
    keras.Model(network.input, keras.layers.Dense(2)(network.output)).save(tmp_path / "model.keras")
    with pytest.raises(UserError, match="its layers are InputLayer, Dense, Activation, Dense"):
        read_network(tmp_path / "model.keras", "lsh", WIDTH, BITS)


def test_a_lambda_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chain = [keras.Input((2,)), keras.layers.Lambda(lambda value: os.system("touch ran") or value)]
    keras.Sequential(chain).save("model.keras")
    (tmp_path / "ran").unlink(missing_ok=True)  # Keras runs it once to learn its shape
    with pytest.raises(UserError, match="is not a network of loss lsh"):
        read_network(tmp_path / "model.keras", "lsh", 2, 2)
    assert not (tmp_path / "ran").exists()


def test_activations_do_not_depend_on_the_block_they_come_in(monkeypatch):
    network = with_random_weights(networks.linear_network(WIDTH, BITS))
    whole = activations(network, FEATURES)
    monkeypatch.setattr("mhcln.training.trained.ROWS_PER_CALL", 4)
    np.testing.assert_allclose(activations(network, FEATURES), whole, atol=1e-6)
    np.testing.assert_allclose(activations(network, FEATURES, np.array([5, 2])), whole[[5, 2]], atol=1e-6)
    assert activations(network, FEATURES[:0]).shape == (0, BITS)
