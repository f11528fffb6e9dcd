"""Features and a split to run folders, one for every bit length and seed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from mhcln.console import Console, UserError
from mhcln.data import datasets, splits
from mhcln.device import check_precision, open_device, trains_with_xla
from mhcln.pipeline.training_job import TrainingJob, carry_out
from mhcln.pipeline.training_setup import TrainingData, choose_method
from mhcln.pipeline.views import read_views, views_sha256
from mhcln.storage import formats, layout, runs
from mhcln.storage.features import file_of
from mhcln.storage.features_file import Features, ImageTable
from mhcln.storage.files import locked
from mhcln.storage.formats import Split
from mhcln.storage.run_record import RunInputs, RunRecord, TrainConfig
from mhcln.training.methods import METHODS, ClosedForm, MethodSpec
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
    job = TrainingJob(folder, record, data, options.save_seconds, compile_with_xla)
    with locked(folder):
        outcome = runs.find_finished(folder, record, job.can_go_on)
        done = outcome and (outcome.iterations_done or config.iterations)
        if outcome and (options.finish or done == config.iterations):
            console.say(f"{folder} is done already: {done} iterations, nothing to do")
            return
        carry_out(job, options.finish, console)


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
