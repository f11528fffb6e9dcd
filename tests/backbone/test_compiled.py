"""The layers as one function: what TF32 does to them where no card has it."""

import graphs
import numpy as np
import pytest
from graphs import opened

from mhcln import device
from mhcln.backbone.compiled import rounded_to_tf32
from mhcln.quiet_tensorflow import tf

PLACE = 2.0**-10  # the last of the 10 bits behind the point


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (2, graphs.SIDE, graphs.SIDE, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (1 + PLACE / 2, 1),
        (1 + PLACE / 2 + 2**-23, 1 + PLACE),
        (1 + 3 * PLACE / 2, 1 + 2 * PLACE),
        (-1 - 3 * PLACE / 2, -1 - 2 * PLACE),
        (2 - 2**-23, 2),
        (2.0**-140, 0),
        (np.inf, np.inf),
    ],
)
def test_tf32_keeps_ten_bits_and_rounds_halves_to_even(value, rounded):
    assert rounded_to_tf32(tf.constant([value], tf.float32)).numpy() == rounded


def test_tf32_moves_features_by_about_its_rounding(model_dir, image):
    exact, rough = (opened(model_dir, precision=precision) for precision in ("float32", "tf32"))
    assert "precision=tf32" in rough.extractor
    moved = np.linalg.norm(rough.features(image) - exact.features(image)) / np.linalg.norm(exact.features(image))
    assert PLACE / 32 < moved < 4 * PLACE


def test_a_card_rounds_by_itself(model_dir, image, monkeypatch):
    monkeypatch.setattr(device, "has_tf32", lambda: True)
    exact, on_card = (opened(model_dir, precision=precision) for precision in ("float32", "tf32"))
    assert (on_card.features(image) == exact.features(image)).all()  # this processor stands in for the card


def test_tf32_is_on_only_while_its_network_runs(model_dir, image, monkeypatch):
    seen = []

    def record(wanted: bool):
        seen.append(wanted)
        return switch(wanted)

    switch = device.tf32
    monkeypatch.setattr(device, "tf32", record)
    for precision in ("tf32", "float32"):
        opened(model_dir, precision=precision).features(image)
    assert seen == [True, False]
