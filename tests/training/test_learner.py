"""Learning on the device: the published steps, Adam's formula, seeds, and the independence from call lengths."""

import dataclasses
import re

import numpy as np
import pytest
from learners import make_images, make_learner, make_learner_that_diverges, same

from mhcln.quiet_tensorflow import tf
from mhcln.storage.run_record import TrainConfig
from mhcln.training.learner import Learner
from mhcln.training.methods import METHODS
from mhcln.training.samplers import BLOCK
from mhcln.training.trained import activations


def test_ten_steps_are_those_of_the_published_code(shared):
    golden = np.load(shared / "golden/training_steps_k32.npz")
    vectors = np.load(shared / "data/features/ucmd.npz")["features"]
    labels = np.repeat(np.arange(21), 100).astype(np.int32)
    config = TrainConfig(bits=32, alpha=0.2, batch_size=90, iterations=10, seed=0)
    method = METHODS["mhcln"].build(config, labels, 2048)
    np.random.seed(123)  # noqa: NPY002, the published code's own generator and order
    weights = []
    for shape in ((2048, 1024), (1024, 512), (512, 32)):
        limit = np.sqrt(3) * np.sqrt(4 / sum(shape))
        weights += [np.random.uniform(-limit, limit, shape).astype("float32"), np.zeros(shape[1])]  # noqa: NPY002
    method.network.set_weights(weights)
    np.testing.assert_allclose(activations(method.network, vectors[:8]), golden["activations_before"], atol=1e-6)
    batches = tf.constant(golden["batches"])
    learner = Learner(dataclasses.replace(method, sample=lambda _number: batches), vectors, labels)
    losses = [learner.advance(1) for _ in range(10)]
    np.testing.assert_allclose(losses, golden["losses"], atol=1e-4)
    np.testing.assert_allclose(activations(method.network, vectors[:8]), golden["activations_after"], atol=1e-4)


# different networks and samplers, outputs that depend on the iteration, variables that are not saved
@pytest.mark.parametrize("loss", ["mhcln", "semihard", "orthohash", "hashnet", "greedyhash"])
def test_how_many_iterations_a_call_runs_changes_nothing(loss):
    one_by_one, at_once, uneven = (make_learner(loss=loss) for _ in range(3))
    for _ in range(BLOCK + 12):
        one_by_one.advance(1)
    at_once.advance(BLOCK + 12)
    for count in (5, BLOCK, 7):
        uneven.advance(count)
    assert same(one_by_one.state(), at_once.state())
    assert same(one_by_one.state(), uneven.state())
    assert at_once.iteration == BLOCK + 12


@pytest.mark.parametrize("loss", ["mhcln", "orthohash"])  # different networks and samplers
def test_xla_changes_rounding_only(loss):
    compiled, plain = make_learner(loss=loss, compile_with_xla=True), make_learner(loss=loss)
    start, ends = compiled.state(), []
    for counts in ((BLOCK,), (1, BLOCK - 1), (10, BLOCK - 10)):
        compiled.restore(start)
        for count in counts:
            compiled.advance(count)
        ends.append(compiled.state())
    assert same(ends[0], ends[1])
    assert same(ends[0], ends[2])
    compiled.advance(6)
    plain.advance(BLOCK + 6)
    assert compiled.iteration == plain.iteration == BLOCK + 6
    # The bias before orthohash's batch norm has no gradient but rounding, so that Adam moves it at random; measured
    # are 2e-5 and 6e-4 for orthohash, 1e-6 for the others.
    np.testing.assert_allclose(compiled.take_means(BLOCK + 6), plain.take_means(BLOCK + 6), atol=2e-4)
    vectors, _ = make_images()
    outputs = [activations(learner.method.network, vectors) for learner in (compiled, plain)]
    np.testing.assert_allclose(outputs[0], outputs[1], atol=4e-3)


def test_xla_knows_how_many_iterations_a_block_has():
    # else it would wait for a GPU at each of them
    program = make_learner(compile_with_xla=True)._run.experimental_get_compiler_ir(BLOCK)(stage="optimized_hlo")
    assert re.findall(r'known_trip_count":{"n":"(\d+)"', program) == [str(BLOCK)]


@pytest.mark.parametrize(
    "counts",
    [[1] * 85, [85], [200], [10, 190], [64, 64], [70, 60]],
    ids=lambda counts: f"{len(counts)} calls of {counts[-1]}",
)
def test_a_loss_that_is_not_finite_is_found_at_its_iteration_wherever_calls_end(counts):
    learner = make_learner_that_diverges(85)
    losses = [learner.advance(count) for count in counts]
    assert np.isfinite(losses[:-1]).all()
    assert losses[-1] == np.inf
    assert learner.iteration == 85


def test_adam_follows_its_formula():
    learner = make_learner()
    before = learner.state()
    learner.advance(1)
    after = learner.state()
    moved = [name for name in before if name.startswith("variable_") and (before[name] != after[name]).any()]
    assert moved
    for name in moved:
        number = name.removeprefix("variable_")
        gradient = after[f"first_moment_{number}"] / 0.5
        np.testing.assert_allclose(after[f"second_moment_{number}"], 0.1 * gradient**2, rtol=1e-4, atol=1e-30)
        step = 1e-4 * np.sqrt(1 - 0.9) / (1 - 0.5) * after[f"first_moment_{number}"]
        expected = before[name] - step / (np.sqrt(after[f"second_moment_{number}"]) + 1e-8)
        np.testing.assert_allclose(after[name], expected, atol=1e-7)
