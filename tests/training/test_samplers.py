"""Triplets: right classes, no image as its own positive, every pair reachable, reproducible from (seed, iteration)."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mhcln.console import UserError
from mhcln.quiet_tensorflow import tf
from mhcln.training.samplers import BLOCK, triplet_sampler, uniform_sampler


def draw(sampler, iteration: int) -> np.ndarray:
    return sampler(tf.constant(iteration // BLOCK, tf.int64)).numpy()[iteration % BLOCK]


def parts(rows: np.ndarray) -> list[np.ndarray]:
    return np.split(rows, 3)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=5).filter(lambda counts: max(counts) >= 2),
    third=st.integers(1, 25),
    seed=st.integers(0, 2**31),
)
def test_any_class_sizes_make_correct_triplets(counts, third, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)) * 3 + 1, counts))
    sampler = triplet_sampler(labels, 3 * third, seed)
    for iteration in range(3):
        anchors, positives, negatives = parts(draw(sampler, iteration))
        assert len(anchors) == len(positives) == len(negatives) == third
        assert len(set(labels[anchors]) | set(labels[positives])) == 1
        assert len(set(labels[negatives])) == 1
        assert labels[anchors[0]] != labels[negatives[0]]
        assert (anchors != positives).all()
        n = int((labels == labels[anchors[0]]).sum())
        assert len(set(anchors)) == min(third, n)
        if n >= 2 * third:
            assert not set(anchors) & set(positives)


def test_a_class_of_sixty_is_used_whole_as_in_the_published_code():
    sampler = triplet_sampler(np.repeat([0, 1], 60), 90, seed=0)
    anchors, positives, negatives = parts(draw(sampler, 5))
    assert len({*anchors, *positives}) == 60
    assert len(set(negatives)) == 30


def test_small_classes_pair_each_anchor_with_several_positives():
    labels = np.array([0] * 4 + [1] * 4)
    anchors, positives, _ = parts(draw(triplet_sampler(labels, 36, seed=0), 0))
    pairs = Counter(zip(anchors.tolist(), positives.tolist(), strict=True))
    assert len(pairs) == 12  # 4 images with 3 partners each
    assert set(pairs.values()) == {1}


def test_ordered_pairs_of_classes_are_uniform_and_a_single_image_is_never_an_anchor():
    labels = np.array([0, 0, 1, 1, 1, 2, 3, 3])
    sampler = triplet_sampler(labels, 3, seed=7)
    rows = np.concatenate([sampler(tf.constant(number, tf.int64)).numpy() for number in range(47)])[:3000]
    seen = Counter(zip(labels[rows[:, 0]].tolist(), labels[rows[:, 2]].tolist(), strict=True))
    assert set(seen) == {(a, n) for a in (0, 1, 3) for n in (0, 1, 2, 3) if a != n}
    chi_square = sum((count - 3000 / 9) ** 2 / (3000 / 9) for count in seen.values())
    assert chi_square < 26.1  # 8 degrees of freedom, p = 0.001; the draw is seeded
    negatives_of_three = Counter(rows[labels[rows[:, 2]] == 1, 2].tolist())
    assert set(negatives_of_three) == {2, 3, 4}


def test_seed_and_iteration_decide_the_batch():
    labels = np.repeat(np.arange(5), 20)
    first, again, other = (triplet_sampler(labels, 30, seed) for seed in (1, 1, 2))
    assert (draw(first, 9) == draw(again, 9)).all()
    assert (draw(first, 9) != draw(first, 10)).any()
    assert (draw(first, 9) != draw(first, 9 + BLOCK)).any()
    assert (draw(first, 9) != draw(other, 9)).any()


def test_batch_size_must_be_a_multiple_of_three():
    for batch_size, advice in ((1, "3 or 6"), (91, "90 or 93")):
        with pytest.raises(UserError, match=f"{batch_size} images is not a multiple of 3 .* take {advice}"):
            triplet_sampler(np.array([0, 0, 1]), batch_size, seed=0)


def test_uniform_batches_reach_every_image_about_equally():
    sampler = uniform_sampler(np.arange(10), 25, seed=3)
    rows = np.concatenate([sampler(tf.constant(number, tf.int64)).numpy() for number in range(4)])
    assert rows.shape == (4 * BLOCK, 25)
    counts = np.bincount(rows.ravel(), minlength=10)
    expected = rows.size / 10
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # 9 degrees of freedom, p = 0.001; the draw is seeded
    assert (rows[:BLOCK] != rows[BLOCK : 2 * BLOCK]).any()
    assert (draw(sampler, 70) == draw(uniform_sampler(np.arange(10), 25, seed=3), 70)).all()
    assert (draw(sampler, 70) != draw(uniform_sampler(np.arange(10), 25, seed=4), 70)).any()


@pytest.mark.parametrize("build", [triplet_sampler, uniform_sampler])
@pytest.mark.parametrize("counts", [[60] * 21, [1, 2, 3, 50]], ids=["equal", "uneven"])
def test_xla_draws_the_same_batches(build, counts):
    sampler = build(np.repeat(np.arange(len(counts)), counts), 30, seed=3)
    with_xla, without = (tf.function(sampler, jit_compile=jit) for jit in (True, False))
    for number in (0, 1, 157):
        drawn = sampler(tf.constant(number, tf.int64)).numpy()
        assert (with_xla(tf.constant(number, tf.int64)).numpy() == drawn).all()
        assert (without(tf.constant(number, tf.int64)).numpy() == drawn).all()


@pytest.mark.parametrize("values", [[0], [-(2**31)], [2**31 - 1], [-(2**31), 0, 2**31 - 1]], ids=str)
def test_equal_and_extreme_keys_still_make_correct_triplets_and_the_same_with_xla(monkeypatch, values):
    keys = np.random.default_rng(0).choice(np.array(values, np.int32), (BLOCK, 2 + 2 * 9))
    monkeypatch.setattr("mhcln.training.samplers.integers", lambda *_: tf.constant(keys))
    labels = np.repeat(np.arange(3), [2, 5, 9])
    sampler = triplet_sampler(labels, 12, seed=0)
    rows = sampler(tf.constant(0, tf.int64)).numpy()
    assert (tf.function(sampler, jit_compile=True)(tf.constant(0, tf.int64)).numpy() == rows).all()
    for batch in rows:
        anchors, positives, negatives = parts(batch)
        assert len({*labels[anchors], *labels[positives]}) == len({*labels[negatives]}) == 1
        assert labels[anchors[0]] != labels[negatives[0]]
        assert (anchors != positives).all()
        assert len({*anchors}) == min(4, (labels == labels[anchors[0]]).sum())


def test_every_order_of_a_class_is_as_likely_as_any_other():
    sampler = triplet_sampler(np.array([0, 0, 0, 1]), 9, seed=2)
    rows = np.concatenate([sampler(tf.constant(number, tf.int64)).numpy() for number in range(94)])[:6000]
    seen = Counter(tuple(anchors) for anchors in rows[:, :3].tolist())
    assert len(seen) == 6
    assert sum((count - 1000) ** 2 / 1000 for count in seen.values()) < 20.5  # 5 degrees of freedom, p = 0.001
