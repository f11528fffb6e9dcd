"""The training loop: calls of the learner, history, checkpoints, resuming, and noticing when learning goes wrong."""

import time
from pathlib import Path

import numpy as np

from mhcln import checkpoints, interrupts
from mhcln.checkpoints import Progress
from mhcln.cli import Console
from mhcln.codehealth import distinct
from mhcln.errors import UserError
from mhcln.learner import Learner
from mhcln.validation import Validation

CALL_SECONDS = 0.5  # how long one call of the learner should take, so that the bar moves and signals are answered
HISTORY_ROWS = 50
HISTORY_LEAST = 100  # iterations


def columns(learner: Learner, validation: Validation | None = None) -> list[str]:
    """Names of the columns of a history row."""
    return ["iteration", *learner.method.terms, "distinct_codes", *(["validation_mAP@20"] if validation else [])]


def history_every(iterations: int) -> int:
    """Iterations between history rows: about 50 rows a run, since each hashes all training images once."""
    return max(HISTORY_LEAST, iterations // HISTORY_ROWS)


def resume(
    learner: Learner, folder: Path, run: str, console: Console, validation: Validation | None = None
) -> Progress:
    """Put `learner` where the checkpoint in `folder` left off, and say so; a fresh start where there is none."""
    found = checkpoints.load(folder, run)
    if found is None:
        return Progress()
    state, progress = found
    try:
        learner.restore(state)
        if validation:
            validation.restore(state)
    except (KeyError, ValueError) as error:
        raise UserError(f"{folder} does not fit this network ({error}); delete it and train again") from None
    console.say(f"continuing after iteration {learner.iteration}, found in {folder}")
    return progress


def train(
    learner: Learner,
    progress: Progress,
    iterations: int,
    folder: Path,
    run: str,
    console: Console,
    save_seconds: float = 30.0,
    validation: Validation | None = None,
) -> None:
    """Bring `learner` to `iterations`, filling `progress`, with a checkpoint in `folder` every `save_seconds`.

    A history row holds the means of the terms over the iterations since the row before, and the number of distinct
    codes that the training images have at its iteration; with `validation`, also the mAP@20 of its images, and the
    loop ends where its patience does. Ctrl-C and SIGTERM save at once, then leave as usual.
    Raises UserError where the loss is no longer finite; the checkpoint before it is kept.
    """
    watch = Watch(learner, console)
    every = history_every(iterations)
    count, saved = 10, time.monotonic()
    with (
        interrupts.held() as pending,
        console.bar(iterations, f"training {folder.parent.name}", "it", done=learner.iteration) as bar,
    ):
        while (done := learner.iteration) < iterations and not (validation and validation.exhausted):
            edge = min(iterations, (done // every + 1) * every)
            began = time.monotonic()
            ran = min(count, edge - done)
            loss = learner.advance(ran)
            watch.loss(loss)
            if learner.iteration == edge:
                _add_row(learner, progress, edge)
                watch.row(dict(zip(columns(learner), progress.history[-1], strict=True)))
                if validation:
                    progress.history[-1].append(validation.look(learner.method.network, edge))
            took = time.monotonic() - began
            progress.seconds += took
            count = int(min(max(ran * CALL_SECONDS / max(took, 1e-9), 1), 10 * count))
            bar.update(ran)
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            stop = pending()
            if stop or time.monotonic() - saved >= save_seconds:
                state = {**learner.state(), **(validation.state() if validation else {})}
                checkpoints.save(folder, state, progress, run)
                saved = time.monotonic()
            if stop:
                console.say(f"saved at iteration {learner.iteration}; the same command continues from there")
                raise stop


def _add_row(learner: Learner, progress: Progress, iteration: int) -> None:
    before = int(progress.history[-1][0]) if progress.history else 0
    means = learner.take_means(iteration - before)
    progress.history.append([iteration, *means, distinct(learner.codes())])


class Watch:
    """Notices learning that goes wrong: stops at a loss that is no number, warns once of anything that looks stuck."""

    def __init__(self, learner: Learner, console: Console) -> None:
        self._learner, self._console = learner, console
        self._warned: set[str] = set()

    def loss(self, value: float) -> None:
        """Raise UserError where the loss of the last iteration is NaN or infinite."""
        if not np.isfinite(value):
            raise UserError(
                f"the loss is {value} at iteration {self._learner.iteration}: {self._learner.cause()}; the last "
                "checkpoint before it is kept"
            )

    def row(self, row: dict[str, float]) -> None:
        """Warn where a history row shows codes that are all equal, or a triplet loss that stays at its margin."""
        iteration = int(row["iteration"])
        if row["distinct_codes"] == 1:
            self._warn(
                "codes",
                f"at iteration {iteration} all training images have the same code; are the features "
                "all alike, or ITERS too small?",
            )
        stuck = self._learner.method.stuck_at
        if stuck is not None and row.get("active") == 1.0 and abs(row["triplet"] - stuck) < 1e-3 * stuck:
            self._warn(
                "margin",
                f"up to iteration {iteration} the triplet term stays at the margin ALPHA={stuck}: "
                "the network does not tell the classes apart; do the features?",
            )

    def _warn(self, kind: str, line: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            self._console.warn(line)
