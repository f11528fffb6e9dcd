"""SDH: the regression by a plain loop, and its network."""

import math

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.storage.run_record import TrainConfig
from mhcln.training.class_codes import class_codes
from mhcln.training.methods import METHODS, sdh
from mhcln.training.trained import activations

BITS, CLASSES, PER_CLASS, WIDTH = 6, 4, 10, 12


def make_images(positive: bool = True, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), PER_CLASS).astype(np.int32)
    vectors = np.random.default_rng(9).normal(size=(CLASSES, WIDTH))[labels] + 0.3 * random.normal(size=(40, WIDTH))
    return (np.abs(vectors) if positive else vectors).astype(np.float32), labels


def solve(vectors, labels, bits=BITS, seed=0):
    return METHODS["sdh"].solve(TrainConfig(bits=bits, loss="sdh", seed=seed), vectors, labels)


def by_hand(vectors, labels, queries, positive) -> np.ndarray:
    """The regression as the formulas say, one number at a time."""
    train, asked = (
        [[math.sqrt(x) if positive else x for x in map(float, row)] for row in rows] for rows in (vectors, queries)
    )
    mean = [math.fsum(column) / len(train) for column in zip(*train, strict=True)]

    def unit(row):
        moved = [x - m for x, m in zip(row, mean, strict=True)]
        length = math.sqrt(math.fsum(x * x for x in moved))
        return [x / length for x in moved]

    train, asked = [unit(row) for row in train], [unit(row) for row in asked]
    square = [[math.dist(a, b) ** 2 for b in train] for a in train]
    pairs = sorted(square[i][j] for i in range(len(train)) for j in range(i))
    middle = len(pairs) // 2
    spread = 2 * (pairs[middle] if len(pairs) % 2 else (pairs[middle - 1] + pairs[middle]) / 2)
    gram = np.array(
        [[math.exp(-d / spread) + (0.001 if i == j else 0) for j, d in enumerate(row)] for i, row in enumerate(square)]
    )
    targets = class_codes(CLASSES, BITS, 0)[labels]
    solved = np.linalg.inv(gram) @ targets
    near = np.array([[math.exp(-(math.dist(a, b) ** 2) / spread) for b in train] for a in asked])
    return near @ solved


@pytest.mark.parametrize("positive", [True, False])
def test_the_network_is_the_regression_of_a_plain_loop(positive):
    vectors, labels = make_images(positive)
    queries, _ = make_images(positive, seed=1)
    found = activations(solve(vectors, labels), queries)
    np.testing.assert_allclose(np.log(found / (1 - found)), by_hand(vectors, labels, queries, positive), atol=2e-3)


def test_training_images_have_the_codes_of_their_classes():
    vectors, labels = make_images()
    bits = activations(solve(vectors, labels), vectors) > 0.5
    assert (bits == (class_codes(CLASSES, BITS, 0)[labels] > 0)).all()


def test_anchors_that_are_all_images_give_the_same_regression():
    vectors, labels = make_images()
    units, _ = sdh.normalised(vectors, None, root=True)
    targets = class_codes(CLASSES, BITS, 0)[labels].astype(float)
    direct = sdh.coefficients(units, targets, 2.0)
    nystroem = sdh.nystroem_coefficients([(units[:7], targets[:7]), (units[7:], targets[7:])], units, 2.0)
    near = sdh.kernel(units, units, 2.0)
    np.testing.assert_allclose(near @ nystroem, near @ direct, atol=1e-4)


@pytest.mark.parametrize("positive", [True, False])
def test_of_many_images_some_are_anchors_and_a_block_at_a_time_is_normalised(monkeypatch, positive):
    vectors, labels = make_images(positive)
    sizes, real = [], sdh.normalised
    monkeypatch.setattr(sdh, "normalised", lambda some, *more: sizes.append(len(some)) or real(some, *more))
    for name, value in (("ROW_BLOCK", 7), ("MOST_ANCHORS", 39), ("NYSTROEM_ANCHORS", 20), ("MEDIAN_IMAGES", 15)):
        monkeypatch.setattr(sdh, name, value)
    np.testing.assert_allclose(sdh.mean_in_blocks(vectors, positive), real(vectors, None, positive)[1], rtol=1e-12)
    first, again, other = solve(vectors, labels), solve(vectors, labels), solve(vectors, labels, seed=1)
    assert max(sizes) == first.get_layer("kernels").units == 20
    assert all((a == b).all() for a, b in zip(first.get_weights(), again.get_weights(), strict=True))
    kernels = [network.get_layer("kernels").get_weights()[0] for network in (first, other)]
    assert (kernels[0] != kernels[1]).any()
    bits = activations(first, vectors) > 0.5
    assert (bits == (class_codes(CLASSES, BITS, 0)[labels] > 0)).mean() > 0.9


@pytest.mark.parametrize("most_anchors", [sdh.MOST_ANCHORS, 39])
def test_images_that_repeat_at_the_distance_of_the_sample_are_told_apart(monkeypatch, most_anchors):
    vectors, labels = make_images()
    vectors[::2], labels[::2] = vectors[0], 0  # of 40 images every second is sampled
    monkeypatch.setattr(sdh, "MEDIAN_IMAGES", 20)
    monkeypatch.setattr(sdh, "MOST_ANCHORS", most_anchors)
    monkeypatch.setattr(sdh, "NYSTROEM_ANCHORS", 30)
    bits = activations(solve(vectors, labels), vectors) > 0.5
    assert (bits == (class_codes(CLASSES, BITS, 0)[labels] > 0)).mean() > 0.9


def test_equal_features_or_too_few_bits_are_refused():
    vectors, labels = make_images()
    with pytest.raises(UserError, match="are equal"):
        solve(np.ones_like(vectors), labels)
    with pytest.raises(UserError, match="too few for 4 classes"):
        solve(vectors, labels, bits=1)
