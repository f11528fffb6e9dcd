"""Draws: uniform, the same with and without XLA, a function of seed and counter alone."""

import numpy as np
import pytest

from mhcln.quiet_tensorflow import tf
from mhcln.training.draws import dropout_mask, integers


def number(value: int) -> tf.Tensor:
    return tf.constant(value, tf.int64)


def mask(iteration: int, seed: int = 5, shape: tuple[int, int] = (90, 512), dtype: str = "float32") -> tf.Tensor:
    return dropout_mask(shape, 0.3, seed, number(iteration), dtype)


@pytest.mark.parametrize(
    "draw",
    [
        lambda counter: integers((64, 33), 3, counter),
        lambda counter: integers((64, 33), 3, counter, below=1260),
        lambda counter: dropout_mask((90, 512), 0.3, 3, counter, "float32"),
        lambda counter: dropout_mask((90, 512), 0.3, 3, counter, "bfloat16"),
    ],
    ids=["bits", "below", "mask", "bfloat16 mask"],
)
def test_xla_draws_the_same(draw):
    with_xla, without = (tf.function(draw, jit_compile=jit) for jit in (True, False))
    for counter in (0, 1, 2**40):
        drawn = draw(number(counter)).numpy()
        assert (with_xla(number(counter)).numpy() == drawn).all()
        assert (without(number(counter)).numpy() == drawn).all()


def test_integers_are_uniform_over_all_of_int32():
    drawn = integers((200, 100), 1, number(7)).numpy()
    counts, _ = np.histogram(drawn, bins=16, range=(-(2**31), 2**31))
    assert ((counts - 1250) ** 2 / 1250).sum() < 37.7  # 15 degrees of freedom, p = 0.001; the draw is seeded
    below = integers((200, 100), 1, number(7), below=16).numpy()
    counts = np.bincount(below.ravel(), minlength=16)
    assert ((counts - 1250) ** 2 / 1250).sum() < 37.7


def test_a_mask_drops_its_share_and_keeps_the_mean():
    masks = np.stack([mask(iteration).numpy() for iteration in range(40)])
    assert set(np.unique(masks)) == {np.float32(0), np.float32(1 / 0.7)}
    # four standard deviations, of the share among all values and among those of each hidden unit
    assert abs((masks == 0).mean() - 0.3) < 4 * np.sqrt(0.21 / masks.size)
    assert np.abs((masks == 0).mean(axis=(0, 1)) - 0.3).max() < 4 * np.sqrt(0.21 / 3600)
    assert masks.mean() == pytest.approx(1, abs=0.002)


def test_seed_and_iteration_decide_the_mask():
    drawn = mask(9).numpy()
    assert (drawn == mask(9).numpy()).all()
    # two masks of 0.3 agree in 0.58 of their values
    for other in (mask(10), mask(9 + 64), mask(9, seed=6)):
        assert abs((drawn == other.numpy()).mean() - 0.58) < 0.02


def test_a_mask_has_the_type_of_the_hidden_layer_and_drops_the_same_in_each():
    rough = mask(3, dtype="bfloat16")
    assert rough.dtype == tf.bfloat16
    assert ((rough.numpy() == 0) == (mask(3).numpy() == 0)).all()


@pytest.mark.parametrize("counter", [0, 1, 63])
def test_masks_share_no_stream_with_batches(counter):
    kept = mask(counter, shape=(64, 122)).numpy() > 0
    for block in range(64):
        batch = integers((64, 122), 5, number(block)).numpy() >= -(2**31) + round(0.3 * 2**32)
        assert abs((kept == batch).mean() - 0.58) < 0.05
