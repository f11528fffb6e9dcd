"""The training loop: history, interruption, resuming, checkpoints, warnings, validation; and training in memory."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from learners import make_images, make_learner, make_learner_that_diverges, same

from mhcln.console import Terminated, UserError
from mhcln.storage.checkpoints import Checkpoint, Progress
from mhcln.training import loop
from mhcln.training.validation import Validation

SIGNALS = [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]


def checkpoint(folder: Path, every_seconds: float = 30.0) -> Checkpoint:
    return Checkpoint(folder, "run", every_seconds)


def test_history_rows_are_means_over_their_iterations(tmp_path, console):
    learner, single = make_learner(), make_learner()
    progress = Progress()
    loop.train(learner, progress, 250, console, checkpoint(tmp_path / "part"))
    rows = np.array(progress.history)
    assert rows[:, 0].tolist() == [100, 200, 250]
    losses = np.array([single.advance(1) for _ in range(250)])
    means = [losses[:100].mean(), losses[100:200].mean(), losses[200:].mean()]
    np.testing.assert_allclose(rows[:, 1], means, atol=1e-6)
    assert loop.columns(learner) == ["iteration", "total", "triplet", "push", "balance", "active", "distinct_codes"]
    assert rows[-1, -1] == len({code.tobytes() for code in learner.codes()})


def send_once_it_trains(learner, number: int) -> None:
    """Send this process a signal when the learner has begun: earlier, it would end the tests."""

    def wait_and_send() -> None:
        while not learner.iteration:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait_and_send, daemon=True).start()


@pytest.mark.parametrize(("number", "raised"), SIGNALS)
def test_a_signal_saves_at_once(tmp_path, console, number, raised):
    first, second, progress = make_learner(), make_learner(), Progress()
    handler = signal.getsignal(number)
    with pytest.raises(raised):
        send_once_it_trains(first, number)
        loop.train(first, progress, 10**9, console, checkpoint(tmp_path / "part"))
    assert signal.getsignal(number) == handler
    stopped = first.iteration
    assert stopped > 0
    assert any(f"saved at iteration {stopped}" in line for line in console.said)
    resumed = loop.resume(second, checkpoint(tmp_path / "part"), console)
    assert second.iteration == stopped
    assert resumed.history == progress.history
    assert same(second.state(), first.state())
    assert any(f"after iteration {stopped}" in line for line in console.said)


def test_a_signal_ends_training_in_memory_without_a_word_of_saving(console):
    learner = make_learner()
    with pytest.raises(Terminated):
        send_once_it_trains(learner, signal.SIGTERM)
        loop.train(learner, Progress(), 10**9, console)
    assert console.said == []


def test_every_stopping_place_resumes_to_the_same_end(tmp_path, console):
    whole, undisturbed = make_learner(), Progress()
    loop.train(whole, undisturbed, 130, console)  # in memory
    for stop in (1, 99, 100, 101):
        part, place = Progress(), checkpoint(tmp_path / f"stop_{stop}")
        first = make_learner()
        if stop >= 100:
            loop.train(first, part, 100, console, place)
        first.advance(stop - first.iteration)
        place.save(first.state(), part)
        second = make_learner()
        progress = loop.resume(second, place, console)
        loop.train(second, progress, 130, console, place)
        assert same(second.state(), whole.state())
        assert progress.history == undisturbed.history


def test_checkpoints_come_by_time(tmp_path, console):
    for seconds, found in ((1e9, []), (0, ["state.npz"])):
        place = checkpoint(tmp_path / "part", every_seconds=seconds)
        loop.train(make_learner(), Progress(), 20, console, place)
        assert [file.name for file in (tmp_path / "part").glob("*")] == found
    place.remove()
    assert not (tmp_path / "part").exists()


def test_checkpoint_of_another_network_is_refused(tmp_path, console):
    place = checkpoint(tmp_path)
    place.save(make_learner().state(), Progress())
    with pytest.raises(UserError, match="does not fit"):
        loop.resume(make_learner(bits=9), place, console)


def test_a_loss_that_is_not_a_number_stops_at_its_iteration(tmp_path, console):
    vectors, _ = make_images()
    vectors[4, 2] = np.inf
    learner, place = make_learner(vectors), checkpoint(tmp_path, every_seconds=0)
    place.save(make_learner().state(), Progress())
    kept = (tmp_path / "state.npz").read_bytes()
    with pytest.raises(UserError, match=r"at iteration \d+: the features reach inf.* checkpoint before it is kept"):
        loop.train(learner, Progress(), 100, console, place)
    assert learner.iteration < 10
    assert (tmp_path / "state.npz").read_bytes() == kept
    with pytest.raises(UserError, match=r"at iteration \d+: the features reach inf.*extract them again$"):
        loop.train(make_learner(vectors), Progress(), 100, console)


def test_the_message_names_the_first_iteration_whose_loss_is_not_finite(console):
    with pytest.raises(UserError, match="the loss is inf at iteration 85: the weights"):
        loop.train(make_learner_that_diverges(85), Progress(), 300, console)


def test_constant_features_warn_of_equal_codes_and_of_the_margin_once(tmp_path, console):
    vectors, _ = make_images()
    loop.train(make_learner(np.ones_like(vectors)), Progress(), 250, console, checkpoint(tmp_path))
    assert sum("same code" in line for line in console.warned) == 1
    assert sum("stays at the margin 0.2" in line for line in console.warned) == 1


def test_learning_that_goes_well_warns_of_nothing(tmp_path, console):
    progress = Progress()
    loop.train(make_learner(), progress, 200, console, checkpoint(tmp_path))
    assert progress.history[-1][2] < progress.history[0][2]
    assert console.warned == []


def test_validation_keeps_the_best_network_and_resumes_to_the_same_end(tmp_path, console):
    vectors, labels = make_images(seed=1)
    whole, undisturbed, seen = make_learner(loss="orthohash"), Progress(), Validation(vectors, labels)
    loop.train(whole, undisturbed, 250, console, checkpoint(tmp_path / "whole"), seen)
    scores = [row[-1] for row in undisturbed.history]
    assert (seen.best, seen.best_iteration) == (max(scores), undisturbed.history[int(np.argmax(scores))][0])
    first, part, before = make_learner(loss="orthohash"), Progress(), Validation(vectors, labels)
    place = checkpoint(tmp_path / "part")
    loop.train(first, part, 100, console, place, before)
    first.advance(30)
    place.save({**first.state(), **before.state()}, part)
    second, after = make_learner(loss="orthohash"), Validation(vectors, labels)
    progress = loop.resume(second, place, console, after)
    loop.train(second, progress, 250, console, place, after)
    assert same(second.state(), whole.state())
    assert progress.history == undisturbed.history
    assert same(after.state(), seen.state())


def test_patience_ends_training(tmp_path, console):
    vectors, labels = make_images()
    learner, progress = make_learner(), Progress()
    seen = Validation(vectors[::9], labels[::9] * 0, patience=2)  # one class: every evaluation scores 1
    loop.train(learner, progress, 1000, console, checkpoint(tmp_path), seen)
    assert learner.iteration == 300
    assert (seen.best, seen.best_iteration) == (1.0, 100)
    assert len(progress.history[0]) == len(loop.columns(learner, seen))
