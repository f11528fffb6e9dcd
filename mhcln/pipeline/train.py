"""Features and a split to run folders: trained network, codes of all images, history."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import numpy as np

from mhcln.console import Console, UserError
from mhcln.data import datasets, splits
from mhcln.device import check_precision, current_device, explained, open_device, tf32, trains_with_xla, versions
from mhcln.hamming.codes import count_distinct
from mhcln.pipeline.training_setup import TrainingData, choose_method, codes_of, prepare, solve, trained_network
from mhcln.pipeline.views import read_views, views_sha256
from mhcln.quiet_tensorflow import keras
from mhcln.storage import formats, layout, runs
from mhcln.storage.checkpoints import Checkpoint, Progress
from mhcln.storage.features import file_of
from mhcln.storage.features_file import Features, ImageTable
from mhcln.storage.files import locked, replacing
from mhcln.storage.formats import Activations, Codes, Split
from mhcln.storage.run_record import Outcome, RunInputs, RunRecord, TrainConfig
from mhcln.storage.text_files import write_csv
from mhcln.training import loop
from mhcln.training.learner import activations
from mhcln.training.methods import METHODS, ClosedForm, Iterative, MethodSpec
from mhcln.training.samplers import check_triplet_batch


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Which runs to train in a dump folder: one for every bit length and seed.

    Attributes:
        dump_dir: Folder of features and splits, and of the runs.
        config: How every run is trained, 0 for what its method has no use for; its bits and seed, and iterations if
            not given, are filled in.
        bits: Bit lengths.
        seeds: Seeds.
        iterations: Iterations of the optimiser; None for the usual number.
        train_test_split: What the split's share of training images must be; None for any.
        run_name: Folder of a single run; None for the usual name.
        save_seconds: Time between two checkpoints.
        device: What to train on, one of `mhcln.device.CHOICES`.
        finish: Whether an interrupted run ends where it stands.
        training_views: Views of each training image that are trained on, 1 to 8.
    """

    dump_dir: Path
    config: TrainConfig
    bits: tuple[int, ...] = (32,)
    seeds: tuple[int, ...] = (0,)
    iterations: int | None = None
    train_test_split: float | None = None
    run_name: str | None = None
    save_seconds: float = 30
    device: str = "auto"
    finish: bool = False
    training_views: int = 1


def train_runs(options: TrainOptions, console: Console) -> None:
    """Train every bit length with every seed; leave alone what is done already.

    Raises:
        UserError: The options contradict each other, or the images do not allow the training.
    """
    _check_options(options)
    features = read_views(options.dump_dir, options.training_views)
    if features.images.skipped:
        name = file_of(options.dump_dir).name
        console.warn(f"{name} lacks {features.images.skipped} images that could not be read; see skipped.csv")
    choose_method(options.config.loss, features.images)
    iterations = options.iterations or usual_iterations(options.config.loss, features.images)
    device = open_device(options.device, console)
    check_precision(options.config.precision)
    compile_with_xla = trains_with_xla(console)
    console.say(f"device: {device}, {options.config.precision}{', XLA' if compile_with_xla else ''}")
    for bits in options.bits:
        for seed in options.seeds:
            config = dataclasses.replace(options.config, bits=bits, seed=seed, iterations=iterations)
            _train_one(options, config, features, compile_with_xla, console)


def usual_iterations(loss: str, images: ImageTable) -> int:
    """Return the iterations of a method: its own number, that of the data set's published training, 0 for no loop."""
    method = METHODS[loss]
    if isinstance(method, ClosedForm):
        return 0
    return method.iterations or datasets.load(images.dataset, images.class_names).iterations


def _check_options(options: TrainOptions) -> None:
    count = len(options.bits) * len(options.seeds)
    if options.run_name and count > 1:
        raise UserError(f"--run_name names one folder, but these flags ask for {count} runs; leave it out")
    if unused := _unused_flags(options, METHODS[options.config.loss]):
        raise UserError(f"--loss={options.config.loss} has no use for {', '.join(unused)}; leave that out")
    if options.config.patience and not options.config.validate:
        raise UserError("--patience waits for held-back images to get better; add --validate=0.1, or leave it out")
    if options.config.loss == "mhcln":
        check_triplet_batch(options.config.batch_size)


def _unused_flags(options: TrainOptions, method: MethodSpec) -> list[str]:
    """Return the flags that ask for something that the method has not."""
    config = options.config
    asked = {"--ALPHA": config.alpha} if isinstance(method, ClosedForm) or not method.has_margin else {}
    if isinstance(method, ClosedForm):
        asked |= {
            "--BATCH_SIZE": config.batch_size,
            "--ITERS": options.iterations or 0,
            "--precision": config.precision != TrainConfig.precision,
            "--validate": config.validate,
            "--patience": config.patience,
        }
    return [flag for flag, value in asked.items() if value]


def _train_one(
    options: TrainOptions, config: TrainConfig, features: Features, compile_with_xla: bool, console: Console
) -> None:
    """Train one run, or say that this was done before."""
    split_file, split, split_sha256 = formats.split_for_seed(options.dump_dir, config.seed)
    _check_ratio(options.train_test_split, split.train_test_split, split_file)
    contaminated = splits.check(split, features.images.paths, split_file)
    if split.rule == splits.LISTS and (missing := splits.left_out(split, features.images.paths)):
        console.warn(f"{split_file} leaves out {len(missing)} images, first {missing[0]}")
    data = TrainingData.of(features, split)
    inputs = dataclasses.replace(
        _describe_inputs(data, split), split_file=split_file.name, split_sha256=split_sha256, contaminated=contaminated
    )
    record = RunRecord(inputs, config)
    seed = config.seed if len(options.seeds) > 1 else None
    folder = options.dump_dir / (
        options.run_name or layout.run_name(config.bits, config.loss, seed, options.training_views)
    )
    job = _Job(folder, record, data, options.save_seconds, compile_with_xla)
    with locked(folder):
        outcome = runs.find_finished(folder, record, job.can_go_on)
        done = outcome and (outcome.iterations_done or config.iterations)
        if outcome and (options.finish or done == config.iterations):
            console.say(f"{folder} is done already: {done} iterations, nothing to do")
            return
        method = METHODS[config.loss]
        if isinstance(method, ClosedForm):
            if options.finish:
                raise UserError(_NOTHING_TO_FINISH.format(folder))
            with explained(f"fewer {'--training_views' if options.training_views > 1 else 'training images'}", console):
                _solve_run(job, method, console)
        else:
            with explained("a smaller --BATCH_SIZE", console):
                _train_run(job, method, options.finish, console)


@dataclasses.dataclass(frozen=True)
class _Job:
    """A run to train: where, what, on which data, how often its state is saved, and whether XLA compiles its loop."""

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


def _check_ratio(asked: float | None, recorded: float, split_file: Path) -> None:
    if asked is not None and not math.isclose(asked, recorded, abs_tol=1e-6):
        raise UserError(
            f"--train_test_split={asked:g}, but {split_file} was made with {recorded:g}; leave the flag out to take "
            f"that, or make the split again with dataset_generator.py --train_test_split={asked:g}"
        )


def _describe_inputs(data: TrainingData, split: Split) -> RunInputs:
    images = data.features.images
    return RunInputs(
        dataset=images.dataset,
        images_dir=images.images_dir,
        extractor=images.extractor,
        features_sha256=data.features.sha256,
        feature_width=data.features.vectors.shape[1],
        skipped=images.skipped,
        split_rule=split.rule,
        split_ratio=split.train_test_split,
        split_seed=split.seed,
        train_images=len(data.train),
        test_images=len(data.test),
        train_test_duplicates=data.test_duplicates,
        training_views=len(data.features.views) + 1 if data.features.views else None,
        views_sha256=views_sha256(data.features),
    )


_NOTHING_TO_FINISH = "{} has no interrupted training to --finish; train it without that flag"


def _solve_run(job: _Job, method: ClosedForm, console: Console) -> None:
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


def _train_run(job: _Job, method: Iterative, finish: bool, console: Console) -> None:
    """Train or continue a run, or finish it where it stands, and write its files."""
    config, folder, checkpoint, device = job.record.config, job.folder, job.checkpoint, current_device()
    learner, validation = prepare(job.data, method, config, job.compile_with_xla, console)
    progress = loop.resume(learner, checkpoint, console, validation)
    if finish and not learner.iteration:
        raise UserError(_NOTHING_TO_FINISH.format(folder))
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
