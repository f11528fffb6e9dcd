"""The hashing networks: layers, initial weights, seeds, precisions."""

import numpy as np
import pytest

from mhcln.quiet_tensorflow import keras, tf
from mhcln.training.networks import masked_network, published_network, shared_network


def by_hand(weights: list[np.ndarray], features: np.ndarray) -> np.ndarray:
    hidden = features.astype(np.float64)
    for kernel, bias in zip(weights[:4:2], weights[1:4:2], strict=True):
        hidden = hidden @ kernel + bias
        hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    return 1 / (1 + np.exp(-(hidden @ weights[4] + weights[5])))


def test_layers_are_those_of_the_paper():
    network = published_network(7, 5)
    assert [w.shape for w in network.get_weights()] == [(7, 1024), (1024,), (1024, 512), (512,), (512, 5), (5,)]
    features = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    np.testing.assert_allclose(network(features).numpy(), by_hand(network.get_weights(), features), atol=1e-6)


def test_initial_weights_fill_the_published_limits():
    weights = published_network(2048, 32, seed=3).get_weights()
    for kernel, bias, limit in zip(weights[::2], weights[1::2], (0.0625, 0.088388, 0.148522), strict=True):
        assert np.abs(kernel).max() == pytest.approx(limit, rel=1e-3)
        assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)
        assert not bias.any()


def test_seed_decides_the_weights():
    first, again, other = (published_network(16, 8, seed).get_weights() for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    for layer in (0, 2, 4):
        assert not np.isclose(first[layer], other[layer]).all()
    # layers of one network do not repeat one stream either
    assert not np.isclose(first[0].ravel()[:64] * np.sqrt(16 + 1024), first[2].ravel()[:64] * np.sqrt(1536)).any()


@pytest.mark.parametrize("build", [published_network, shared_network])
def test_saved_model_loads_in_safe_mode_with_nothing_but_keras(tmp_path, build):
    network = build(6, 4)
    network.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    features = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    assert (loaded(features).numpy() == network(features).numpy()).all()


def test_the_masked_network_shares_its_layers_and_puts_the_bit_at_one_half():
    network = shared_network(6, 4)
    trained, rng = masked_network(network), np.random.default_rng(1)
    features = rng.normal(size=(50, 6)).astype(np.float32)
    for _ in range(60):  # the running statistics of batch norm reach those of the batch
        mask = (rng.random((50, 512)) > 0.3).astype(np.float32) / np.float32(0.7)
        before = trained([features, mask], training=True)
    assert np.abs(before.numpy().mean(axis=0)).max() < 1e-5
    outputs, activations = trained([features, np.ones_like(mask)]).numpy(), network(features).numpy()
    assert ((outputs > 0) == (activations > 0.5)).all()
    assert (np.abs(outputs.mean(axis=0)) < 0.5).all()  # near 0; dropout moved the running mean a little


@pytest.mark.parametrize(("precision", "tolerated"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_the_mask_multiplies_the_hidden_layer(precision, tolerated):
    network = shared_network(6, 4, 0, precision)
    trained, rng = masked_network(network), np.random.default_rng(1)
    features, mask = rng.normal(size=(20, 6)).astype(np.float32), rng.integers(0, 2, (20, 512)) * np.float32(2)
    kernel, bias, to_bits, *_ = network.get_weights()  # the bits' bias is 0, batch norm's mean 0 and its variance 1
    hidden = features @ kernel + bias
    expected = (np.where(hidden > 0, hidden, 0.2 * hidden) * mask) @ to_bits / np.sqrt(1 + 1e-3)
    outputs = trained([tf.constant(features), tf.constant(mask, trained.inputs[1].dtype)])
    assert trained.inputs[1].dtype == precision
    np.testing.assert_allclose(outputs.numpy(), expected, atol=tolerated * np.abs(expected).max())


@pytest.mark.parametrize("build", [published_network, shared_network])
def test_bfloat16_keeps_float32_weights_and_comes_close(build):
    exact, rough = build(16, 8, 0, "float32"), build(16, 8, 0, "bfloat16")
    assert {str(weight.dtype) for weight in rough.get_weights()} == {"float32"}
    features = np.random.default_rng(1).normal(size=(20, 16)).astype(np.float32)
    difference = np.abs(rough(features).numpy() - exact(features).numpy()).max()
    assert 0 < difference < 0.02
