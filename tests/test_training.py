"""Learning: the published steps, the independence from call lengths, interruption, resuming, and warnings."""

import dataclasses
import os
import signal
import threading

import numpy as np
import pytest

from mhcln import training
from mhcln.checkpoints import Progress
from mhcln.cli import Terminated
from mhcln.errors import UserError
from mhcln.learner import Learner, activations
from mhcln.methods import METHODS, Task
from mhcln.runtime import tf
from mhcln.sampling import BLOCK
from mhcln.validation import Validation

CLASSES, PER_CLASS, WIDTH = 3, 6, 8


def images(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), PER_CLASS).astype(np.int32)
    centres = rng.normal(size=(CLASSES, WIDTH))
    return (centres[labels] + 0.3 * rng.normal(size=(len(labels), WIDTH))).astype(np.float32), labels


def learner(features: np.ndarray | None = None, seed: int = 0, method: str = "mhcln") -> Learner:
    made, labels = images()
    task = Task(labels, WIDTH, bits=5, alpha=0.2, batch_size=6, iterations=250, seed=seed)
    return Learner(METHODS[method](task), made if features is None else features, labels)


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all((first[name] == second[name]).all() for name in first)


def test_ten_steps_of_the_published_code(shared):
    golden = np.load(shared / "golden/training_steps_k32.npz")
    features = np.load(shared / "data/features/ucmd.npz")["features"]
    labels = np.repeat(np.arange(21), 100).astype(np.int32)
    method = METHODS["mhcln"](Task(labels, 2048, bits=32, alpha=0.2, batch_size=90, iterations=10, seed=0))
    np.random.seed(123)  # noqa: NPY002, the published code's own generator and order
    weights = []
    for shape in ((2048, 1024), (1024, 512), (512, 32)):
        limit = np.sqrt(3) * np.sqrt(4 / sum(shape))
        weights += [np.random.uniform(-limit, limit, shape).astype("float32"), np.zeros(shape[1])]  # noqa: NPY002
    method.network.set_weights(weights)
    np.testing.assert_allclose(activations(method.network, features[:8]), golden["activations_before"], atol=1e-6)
    batches = tf.constant(golden["batches"])
    pupil = Learner(dataclasses.replace(method, sample=lambda _number: batches), features, labels)
    losses = [pupil.advance(1) for _ in range(10)]
    np.testing.assert_allclose(losses, golden["losses"], atol=1e-4)
    np.testing.assert_allclose(activations(method.network, features[:8]), golden["activations_after"], atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_how_many_iterations_a_call_runs_changes_nothing(method):
    one_by_one, at_once, uneven = (learner(method=method) for _ in range(3))
    for _ in range(BLOCK + 12):
        one_by_one.advance(1)
    at_once.advance(BLOCK + 12)
    for count in (5, BLOCK, 7):
        uneven.advance(count)
    assert same(one_by_one.state(), at_once.state())
    assert same(one_by_one.state(), uneven.state())
    assert at_once.iteration == BLOCK + 12


def test_seed_decides_the_outcome():
    first, again, other = learner(seed=1), learner(seed=1), learner(seed=2)
    for pupil in (first, again, other):
        pupil.advance(5)
    assert same(first.state(), again.state())
    assert not same(first.state(), other.state())


def test_adam_follows_its_formula():
    pupil = learner()
    before = pupil.state()
    pupil.advance(1)
    after = pupil.state()
    moved = [name for name in before if name.startswith("variable_") and (before[name] != after[name]).any()]
    assert moved
    for name in moved:
        number = name.removeprefix("variable_")
        gradient = after[f"first_moment_{number}"] / 0.5
        np.testing.assert_allclose(after[f"second_moment_{number}"], 0.1 * gradient**2, rtol=1e-4, atol=1e-30)
        step = 1e-4 * np.sqrt(1 - 0.9) / (1 - 0.5) * after[f"first_moment_{number}"]
        expected = before[name] - step / (np.sqrt(after[f"second_moment_{number}"]) + 1e-8)
        np.testing.assert_allclose(after[name], expected, atol=1e-7)


def test_history_rows_are_means_over_their_iterations(tmp_path, console):
    pupil, single = learner(), learner()
    progress = Progress()
    training.train(pupil, progress, 250, tmp_path / "part", "run", console)
    rows = np.array(progress.history)
    assert rows[:, 0].tolist() == [100, 200, 250]
    losses = np.array([single.advance(1) for _ in range(250)])
    means = [losses[:100].mean(), losses[100:200].mean(), losses[200:].mean()]
    np.testing.assert_allclose(rows[:, 1], means, atol=1e-6)
    assert training.columns(pupil) == ["iteration", "total", "triplet", "push", "balance", "active", "distinct_codes"]
    assert rows[-1, -1] == len({code.tobytes() for code in pupil.codes()})


def test_history_has_about_fifty_rows():
    assert [training.history_every(n) for n in (50, 2000, 10_000, 25_000)] == [100, 100, 200, 500]


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_saves_at_once_and_the_rest_is_as_if_it_never_came(tmp_path, console, number, raised):
    whole, first, second = learner(), learner(), learner()
    undisturbed, progress = Progress(), Progress()
    training.train(whole, undisturbed, 250, tmp_path / "whole", "run", console)
    handler = signal.getsignal(number)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), number))
    with pytest.raises(raised):
        timer.start()
        training.train(first, progress, 10**9, tmp_path / "part", "run", console)
    assert signal.getsignal(number) == handler
    stopped = first.iteration
    assert stopped > 0
    resumed = training.resume(second, tmp_path / "part", "run", console)
    assert second.iteration == stopped
    assert resumed.history == progress.history
    assert same(second.state(), first.state())
    assert any(f"after iteration {stopped}" in line for line in console.said)


def test_every_stopping_place_resumes_to_the_same_end(tmp_path, console):
    whole, undisturbed = learner(), Progress()
    training.train(whole, undisturbed, 130, tmp_path / "whole", "run", console, save_seconds=1e9)
    assert not (tmp_path / "whole").exists()
    for stop in (1, 10, 99, 100, 101, 129):
        part, folder = Progress(), tmp_path / f"stop_{stop}"
        first = learner()
        if stop >= 100:
            training.train(first, part, 100, folder, "run", console)
        first.advance(stop - first.iteration)
        training.checkpoints.save(folder, first.state(), part, "run")
        second = learner()
        progress = training.resume(second, folder, "run", console)
        training.train(second, progress, 130, folder, "run", console)
        assert same(second.state(), whole.state())
        assert progress.history == undisturbed.history


def test_checkpoints_come_by_time(tmp_path, console):
    pupil = learner()
    training.train(pupil, Progress(), 20, tmp_path / "part", "run", console, save_seconds=0)
    assert [file.name for file in (tmp_path / "part").iterdir()] == ["state.npz"]
    training.checkpoints.remove(tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_checkpoints_of_another_run_or_damaged_are_refused(tmp_path, console):
    folder = tmp_path / "part"
    training.checkpoints.save(folder, learner().state(), Progress(), "run")
    with pytest.raises(UserError, match="another configuration"):
        training.resume(learner(), folder, "other", console)
    path = folder / "state.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        training.resume(learner(), folder, "run", console)


def test_checkpoint_of_another_network_is_refused(tmp_path, console):
    made, labels = images()
    task = Task(labels, WIDTH, bits=9, alpha=0.2, batch_size=6, iterations=250, seed=0)
    training.checkpoints.save(tmp_path, learner().state(), Progress(), "run")
    with pytest.raises(UserError, match="does not fit"):
        training.resume(Learner(METHODS["mhcln"](task), made, labels), tmp_path, "run", console)


def test_a_loss_that_is_no_number_stops_at_its_iteration(tmp_path, console):
    features, _ = images()
    features[4, 2] = np.inf
    pupil = learner(features)
    training.checkpoints.save(tmp_path, learner().state(), Progress(), "run")
    kept = (tmp_path / "state.npz").read_bytes()
    with pytest.raises(UserError, match=r"at iteration \d+: the features reach inf"):
        training.train(pupil, Progress(), 100, tmp_path, "run", console, save_seconds=0)
    assert pupil.iteration < 10
    assert (tmp_path / "state.npz").read_bytes() == kept


def test_constant_features_warn_of_equal_codes_and_of_the_margin_once(tmp_path, console):
    features, _ = images()
    pupil = learner(np.ones_like(features))
    training.train(pupil, Progress(), 250, tmp_path, "run", console)
    assert sum("same code" in line for line in console.warned) == 1
    assert sum("ALPHA=0.2" in line for line in console.warned) == 1


def test_learning_that_goes_well_warns_of_nothing(tmp_path, console):
    progress = Progress()
    training.train(learner(), progress, 200, tmp_path, "run", console)
    assert progress.history[-1][2] < progress.history[0][2]
    assert console.warned == []


def test_activations_do_not_depend_on_the_block_they_come_in(monkeypatch):
    features, _ = images()
    network = learner().method.network
    whole = activations(network, features)
    monkeypatch.setattr("mhcln.learner.ROWS_PER_CALL", 5)
    np.testing.assert_allclose(activations(network, features), whole, atol=1e-6)
    assert whole.shape == (len(features), 5)


@pytest.mark.parametrize("stop", [100, 130, 200])
def test_validation_keeps_the_best_network_and_resumes_to_the_same_end(tmp_path, console, stop):
    features, labels = images(seed=1)

    def watched() -> Validation:
        return Validation(features, labels)

    whole, undisturbed, seen = learner(method="orthohash"), Progress(), watched()
    training.train(whole, undisturbed, 250, tmp_path / "whole", "run", console, validation=seen)
    scores = [row[-1] for row in undisturbed.history]
    assert (seen.best, seen.best_iteration) == (max(scores), undisturbed.history[int(np.argmax(scores))][0])
    first, part, before = learner(method="orthohash"), Progress(), watched()
    training.train(first, part, stop // 100 * 100, tmp_path / "part", "run", console, validation=before)
    first.advance(stop - first.iteration)
    training.checkpoints.save(tmp_path / "part", {**first.state(), **before.state()}, part, "run")
    second, after = learner(method="orthohash"), watched()
    progress = training.resume(second, tmp_path / "part", "run", console, after)
    training.train(second, progress, 250, tmp_path / "part", "run", console, validation=after)
    assert same(second.state(), whole.state())
    assert progress.history == undisturbed.history
    assert same(after.state(), seen.state())


def test_patience_ends_training(tmp_path, console):
    features, labels = images()
    pupil, progress = learner(), Progress()
    seen = Validation(features[::9], labels[::9] * 0, patience=2)  # one class: every look scores 1
    training.train(pupil, progress, 1000, tmp_path, "run", console, validation=seen)
    assert pupil.iteration == 300
    assert (seen.best, seen.best_iteration) == (1.0, 100)
    assert len(progress.history[0]) == len(training.columns(pupil, seen))


def test_watched_weights_are_those_of_the_best_look():
    features, labels = images()
    pupil, seen = learner(), Validation(features, labels)
    seen.look(pupil.method.network, 0)
    kept = [weight.copy() for weight in seen.weights]
    seen.best = 2.0  # nothing can be better
    pupil.advance(5)
    seen.look(pupil.method.network, 5)
    assert seen.looks_since == 1
    assert all((a == b).all() for a, b in zip(seen.weights, kept, strict=True))
    assert any((a != b).any() for a, b in zip(kept, pupil.method.network.get_weights(), strict=True))
