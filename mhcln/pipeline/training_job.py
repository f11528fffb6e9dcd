"""One training run: what is trained, or computed in closed form, and the files of its folder."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np

from mhcln.console import Console, UserError
from mhcln.device import current_device, explained, tf32, versions
from mhcln.hamming.codes import count_distinct
from mhcln.pipeline.training_setup import TrainingData, codes_of, prepare, solve, trained_network
from mhcln.quiet_tensorflow import keras
from mhcln.storage import formats, layout, runs
from mhcln.storage.checkpoints import Checkpoint, Progress
from mhcln.storage.files import replacing
from mhcln.storage.formats import Activations, Codes
from mhcln.storage.run_record import Outcome, RunRecord
from mhcln.storage.text_files import write_csv
from mhcln.training import loop
from mhcln.training.learner import activations
from mhcln.training.methods import METHODS, ClosedForm, Iterative

NOTHING_TO_FINISH = "{} has no interrupted training to --finish; train it without that flag"


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """A run to train.

    Attributes:
        folder: Its folder.
        record: What it depends on.
        data: Features and split.
        save_seconds: Time between two checkpoints.
        compile_with_xla: Whether XLA compiles the training loop.
    """

    folder: Path
    record: RunRecord
    data: TrainingData
    save_seconds: float
    compile_with_xla: bool

    @property
    def can_go_on(self) -> bool:
        """Whether the state of the finished run is kept, since more iterations can follow."""
        method = METHODS[self.record.config.loss]
        return isinstance(method, Iterative) and method.open_ended

    @property
    def checkpoint(self) -> Checkpoint:
        """Where the state is saved."""
        return Checkpoint(self.folder / layout.CHECKPOINTS, self.record.identity(self.can_go_on), self.save_seconds)


def carry_out(job: TrainingJob, finish: bool, console: Console) -> None:
    """Train the run from where it is, or compute it in closed form, and write its files.

    Args:
        job: The run, whose folder this process holds.
        finish: Whether an interrupted training ends where it stands.
        console: Where progress is shown.

    Raises:
        UserError: The images do not allow the training, there is nothing to finish, or too little memory.
    """
    method = METHODS[job.record.config.loss]
    views = " or fewer --training_views" if job.data.features.views else ""
    if isinstance(method, ClosedForm):
        if finish:
            raise UserError(NOTHING_TO_FINISH.format(job.folder))
        with explained(f"fewer training images{views}", console):
            _solve_run(job, method, console)
    else:
        with explained(f"a smaller --BATCH_SIZE{views}", console):
            _train_run(job, method, finish, console)


def _solve_run(job: TrainingJob, method: ClosedForm, console: Console) -> None:
    """Compute a network in closed form, and write the files of the run: stopped anywhere, it is done again."""
    folder, config, device = job.folder, job.record.config, current_device()
    began = time.perf_counter()
    network = solve(job.data, method, config)
    seconds = time.perf_counter() - began
    runs.write_record(folder, job.record)
    codes = _write_codes(folder, network, job.data)
    images, distinct = len(job.data.train), count_distinct(codes.codes[np.isin(job.data.used, job.data.train)])
    write_csv(folder / layout.HISTORY, ["iteration", "distinct_codes"], [[0, distinct]])
    runs.finish(folder, job.record, Outcome(round(seconds, 3), device.name, **vars(versions(device))))
    console.say(f"closed form in {seconds:.1f} s, {distinct} distinct codes of {images} training images -> {folder}")


def _train_run(job: TrainingJob, method: Iterative, finish: bool, console: Console) -> None:
    """Train or continue a run, or finish it where it stands, and write its files."""
    config, folder, checkpoint, device = job.record.config, job.folder, job.checkpoint, current_device()
    learner, validation = prepare(job.data, method, config, job.compile_with_xla, console)
    progress = loop.resume(learner, checkpoint, console, validation)
    if finish and not learner.iteration:
        raise UserError(NOTHING_TO_FINISH.format(folder))
    runs.write_record(folder, job.record)
    goal = learner.iteration if finish else config.iterations
    with tf32(config.precision == "tf32"):
        loop.train(learner, progress, goal, console, checkpoint, validation, folder.name)
    if job.can_go_on and not finish:
        loop.save(learner, progress, checkpoint, validation)
    network = trained_network(learner, method, config, validation)
    if validation:
        console.say(f"best at iteration {validation.best_iteration}: {validation.best:.4f} mAP@20 of held-back images")
    columns = loop.columns(learner, validation)
    _write_codes(folder, network, job.data)
    _write_history(folder, columns, progress)
    outcome = Outcome(
        seconds=round(progress.seconds, 3),
        device=device.name,
        **vars(versions(device)),
        iterations_done=learner.iteration if finish else None,
        best_iteration=validation.best_iteration if validation else None,
        best_validation=validation.best if validation else None,
    )
    runs.finish(folder, job.record, outcome)
    if not job.can_go_on and not finish:
        checkpoint.remove()
    last = dict(zip(columns, progress.history[-1], strict=True))
    of = "views of training images" if job.data.features.views else "training images"
    console.say(
        f"{learner.iteration} iterations in {progress.seconds:.0f} s, loss {last['total']:.4f}, "
        f"{last['distinct_codes']} distinct codes of {len(learner.labels)} {of} -> {folder}"
    )


def _write_codes(folder: Path, network: keras.Model, data: TrainingData) -> Codes:
    """Write the network and what it makes of all images; return their codes."""
    found = activations(network, data.features.vectors, data.used)
    codes = codes_of(found, data)
    with replacing(folder / layout.MODEL) as path:
        network.save(path)
    formats.write_codes(folder, codes)
    formats.write_activations(folder, Activations(found, codes.paths))
    return codes


def _write_history(folder: Path, columns: list[str], progress: Progress) -> None:
    whole = {"iteration", "distinct_codes"}
    rows = (
        [int(value) if name in whole else f"{value:.9g}" for name, value in zip(columns, row, strict=True)]
        for row in progress.history
    )
    write_csv(folder / layout.HISTORY, columns, rows)
