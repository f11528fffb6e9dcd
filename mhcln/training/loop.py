"""The training loop: calls of the learner, history, checkpoints, resuming, and warnings if learning goes wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from mhcln.console import Console, UserError, deferred_signals
from mhcln.hamming.codes import count_distinct
from mhcln.storage.checkpoints import Checkpoint, Progress
from mhcln.training.learner import Learner
from mhcln.training.validation import Validation

CALL_SECONDS = 0.5  # of one call of the learner, so that the bar moves and signals are handled
FIRST_CALL = 10  # iterations
HISTORY_ROWS = 50
HISTORY_LEAST = 100  # iterations


def columns(learner: Learner, validation: Validation | None = None) -> list[str]:
    """Return the names of the columns of a history row."""
    return ["iteration", *learner.method.terms, "distinct_codes", *(["validation_mAP@20"] if validation else [])]


def history_every(iterations: int) -> int:
    """Return the iterations between history rows: about 50 rows a run, since each hashes all training images once."""
    return max(HISTORY_LEAST, iterations // HISTORY_ROWS)


def resume(
    learner: Learner, checkpoint: Checkpoint, console: Console, validation: Validation | None = None
) -> Progress:
    """Continue from the checkpoint, if there is one, and report it.

    Args:
        learner: A learner that has not started.
        checkpoint: Where the checkpoint is.
        console: Where it is reported.
        validation: A validation that has not started, if there is one.

    Returns:
        The progress of the checkpoint; an empty one if there is no checkpoint.
    """
    found = checkpoint.load()
    if found is None:
        return Progress()
    state, progress = found
    try:
        learner.restore(state)
        if validation:
            validation.restore(state)
    except (KeyError, ValueError) as error:
        raise UserError(f"{checkpoint.folder} does not fit this network ({error}); delete it and train again") from None
    console.say(f"continuing after iteration {learner.iteration}, found in {checkpoint.folder}")
    return progress


def train(
    learner: Learner,
    progress: Progress,
    iterations: int,
    console: Console,
    checkpoint: Checkpoint | None = None,
    validation: Validation | None = None,
    name: str = "",
) -> None:
    """Train until `iterations` are done, or the validation's patience has run out.

    Ctrl-C and SIGTERM are raised as usual, once the iterations in progress are done and a checkpoint is saved.

    Args:
        learner: The learner, new or resumed.
        progress: History and time so far, to which the loop adds.
        iterations: Iterations when training is complete.
        console: Where the bar and warnings are shown.
        checkpoint: Where checkpoints are saved; None to train in memory.
        validation: Validation images, evaluated at each history row.
        name: Name of the run, shown before the bar.
    """
    every, warned = history_every(iterations), set[str]()
    pace, saved = FIRST_CALL, time.monotonic()
    with (
        deferred_signals() as arrived,
        console.bar(iterations, f"training {name}".rstrip(), "it", done=learner.iteration) as bar,
    ):
        while learner.iteration < iterations and not (validation and validation.should_stop):
            began = time.monotonic()
            row_due = min(iterations, (learner.iteration // every + 1) * every)
            count = min(pace, row_due - learner.iteration)
            loss = learner.advance(count)
            if not np.isfinite(loss):
                kept = "; the last checkpoint before it is kept" if checkpoint else ""
                why = learner.explain_divergence()
                raise UserError(f"the loss is {loss} at iteration {learner.iteration}: {why}{kept}")
            if learner.iteration == row_due:
                row = _history_row(learner, progress, validation)
                progress.history.append(row)
                for kind, line in _doubts(learner, dict(zip(columns(learner, validation), row, strict=True))):
                    if kind not in warned:
                        console.warn(line)
                    warned.add(kind)
            took = time.monotonic() - began
            progress.seconds += took
            pace = int(min(max(count * CALL_SECONDS / max(took, 1e-9), 1), 10 * pace))
            bar.update(count)
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)

            stop = arrived()
            if checkpoint and (stop or time.monotonic() - saved >= checkpoint.every_seconds):
                save(learner, progress, checkpoint, validation)
                saved = time.monotonic()
            if stop:
                if checkpoint:
                    console.say(f"saved at iteration {learner.iteration}; the same command continues from there")
                raise stop
    if not progress.history or progress.history[-1][0] != learner.iteration:  # a run that is finished between two rows
        progress.history.append(_history_row(learner, progress, validation))


def save(learner: Learner, progress: Progress, checkpoint: Checkpoint, validation: Validation | None = None) -> None:
    """Save everything that `resume` needs to go on from here."""
    checkpoint.save({**learner.state(), **(validation.state() if validation else {})}, progress)


def _history_row(learner: Learner, progress: Progress, validation: Validation | None) -> list[float]:
    """Return iteration, means of the terms since the row before, distinct codes of the training images, and mAP@20."""
    iteration = learner.iteration
    before = int(progress.history[-1][0]) if progress.history else 0
    row = [iteration, *learner.take_means(iteration - before), count_distinct(learner.codes())]
    return [*row, validation.evaluate(learner.method.network, iteration)] if validation else row


def _doubts(learner: Learner, row: dict[str, float]) -> Iterator[tuple[str, str]]:
    """Yield kind and text of each warning about a history row: equal codes, a triplet term that stays at its margin."""
    iteration, margin = int(row["iteration"]), learner.method.triplet_margin
    if row["distinct_codes"] == 1:
        yield (
            "codes",
            f"at iteration {iteration} all training images have the same code; are all features equal, or are "
            "there too few iterations?",
        )
    if margin is not None and row.get("active") == 1.0 and abs(row["triplet"] - margin) < 1e-3 * margin:
        yield (
            "margin",
            f"up to iteration {iteration} the triplet term stays at the margin {margin}: the network does not separate "
            "the classes; do the features?",
        )
