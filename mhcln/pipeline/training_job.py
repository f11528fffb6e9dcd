"""One training run: a network that is trained, or computed in closed form, and the files of the run's folder."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np

from mhcln.console import Console, UserError
from mhcln.device import device_name, explained, tf32, versions
from mhcln.hamming.codes import count_distinct
from mhcln.pipeline.training_setup import TrainingData, codes_of, prepare, solve, trained_network
from mhcln.quiet_tensorflow import keras
from mhcln.storage import layout, runs
from mhcln.storage.checkpoints import Checkpoint, Progress
from mhcln.storage.coded_images import CodedImages, write_codes
from mhcln.storage.files import locked, replacing
from mhcln.storage.run_record import Outcome, RunRecord
from mhcln.storage.text_files import write_csv
from mhcln.storage.vectors import write_activations
from mhcln.training import loop
from mhcln.training.methods import ClosedForm, Iterative, MethodSpec
from mhcln.training.trained import activations

NOTHING_TO_FINISH = "{} has no interrupted training to --finish; train it without that flag"


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """One run to train.

    Attributes:
        folder: Folder of the run.
        record: Everything that the run depends on.
        data: Features and split.
        spec: The method.
    """

    folder: Path
    record: RunRecord
    data: TrainingData
    spec: MethodSpec


def carry_out(job: TrainingJob, save_seconds: float, finish: bool, compile_with_xla: bool, console: Console) -> None:
    """Train or continue a run, or report that it is done.

    Args:
        job: The run.
        save_seconds: Seconds between two checkpoints.
        finish: Whether an interrupted training ends where it is.
        compile_with_xla: Whether XLA compiles the training loop.
        console: Where progress is shown.
    """
    folder, config, spec = job.folder, job.record.config, job.spec
    open_ended = isinstance(spec, Iterative) and spec.open_ended
    rotations = " or fewer --training_views" if job.data.features.rotations else ""
    with locked(folder):
        outcome = runs.find_finished(folder, job.record, open_ended)
        if outcome and (finish or not outcome.can_go_on):
            done = outcome.iterations_done or config.iterations
            console.say(f"{folder} is done already{f': {done} iterations' if done else ''}, nothing to do")
        elif isinstance(spec, ClosedForm):
            if finish:
                raise UserError(NOTHING_TO_FINISH.format(folder))
            with explained(f"fewer training images{rotations}"):
                _solve(job, spec, console)
        else:
            checkpoint = Checkpoint(folder / layout.CHECKPOINTS, job.record.identity(open_ended), save_seconds)
            with explained(f"a smaller --BATCH_SIZE{rotations}"):
                _train(job, spec, checkpoint, finish, compile_with_xla, console)


def _solve(job: TrainingJob, spec: ClosedForm, console: Console) -> None:
    """Compute a network in closed form, and write the files of the run: stopped anywhere, it is done again."""
    folder, data, began = job.folder, job.data, time.perf_counter()
    network = solve(data, spec, job.record.config)
    seconds = time.perf_counter() - began
    runs.write_record(folder, job.record)
    codes = _write_codes(folder, network, data)
    images, distinct = len(data.train), count_distinct(codes.codes[np.isin(data.used, data.train)])
    write_csv(folder / layout.HISTORY, ["iteration", "distinct_codes"], [[0, distinct]])
    runs.finish(folder, job.record, Outcome(round(seconds, 3), device_name(), **versions()))
    console.say(f"closed form in {seconds:.1f} s, {distinct} distinct codes of {images} training images -> {folder}")


def _train(
    job: TrainingJob, spec: Iterative, checkpoint: Checkpoint, finish: bool, compile_with_xla: bool, console: Console
) -> None:
    """Train or continue a run by iterations, and write its files; the checkpoint stays if the run can go on."""
    folder, record, data = job.folder, job.record, job.data
    config = record.config
    learner, validation = prepare(data, spec, config, compile_with_xla, console)
    progress = loop.resume(learner, checkpoint, console, validation)
    if finish and not learner.iteration:
        raise UserError(NOTHING_TO_FINISH.format(folder))
    runs.write_record(folder, record)
    goal = learner.iteration if finish else config.iterations
    with tf32(config.precision == "tf32"):
        loop.train(learner, progress, goal, console, checkpoint, validation, folder.name)
    if spec.open_ended and not finish:
        loop.save(learner, progress, checkpoint, validation)
    if validation:
        console.say(f"best at iteration {validation.best_iteration}: {validation.best:.4f} mAP@20 of validation images")
    columns = loop.columns(learner, validation)
    _write_codes(folder, trained_network(learner, spec, config, validation), data)
    _write_history(folder, columns, progress)
    done = learner.iteration
    outcome = Outcome(
        seconds=round(progress.seconds, 3),
        device=device_name(),
        **versions(),
        iterations_done=done if done != config.iterations else None,
        can_go_on=finish and done != config.iterations,
        best_iteration=validation.best_iteration if validation else None,
    )
    runs.finish(folder, record, outcome)
    if not spec.open_ended and not finish:
        checkpoint.remove()
    last = dict(zip(columns, progress.history[-1], strict=True))
    of = "rotations of training images" if data.features.rotations else "training images"
    console.say(
        f"{done} iterations in {progress.seconds:.0f} s, loss {last['total']:.4f}, "
        f"{last['distinct_codes']} distinct codes of {len(learner.labels)} {of} -> {folder}"
    )


def _write_codes(folder: Path, network: keras.Model, data: TrainingData) -> CodedImages:
    """Write the network, and the codes and activations of all images; return the codes."""
    found = activations(network, data.features.vectors, data.used)
    codes = codes_of(found, data)
    with replacing(folder / layout.MODEL) as path:
        network.save(path)
    write_codes(folder, codes)
    write_activations(folder, found, list(codes.paths))
    return codes


def _write_history(folder: Path, columns: list[str], progress: Progress) -> None:
    whole = {"iteration", "distinct_codes"}
    rows = (
        [int(value) if name in whole else f"{value:.9g}" for name, value in zip(columns, row, strict=True)]
        for row in progress.history
    )
    write_csv(folder / layout.HISTORY, columns, rows)
