"""Features and a split to run folders, one for every bit length and seed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from mhcln.console import Console, UserError
from mhcln.data import splits
from mhcln.data.duplicates import Rows, equal_images
from mhcln.device import check_precision, open_device, trains_with_xla
from mhcln.pipeline.rotations import read_rotations
from mhcln.pipeline.training_job import TrainingJob, carry_out
from mhcln.pipeline.training_setup import TrainingData, choose_method, usual_iterations
from mhcln.storage import layout
from mhcln.storage.features import Features, file_of
from mhcln.storage.run_record import RunInputs, RunRecord, TrainConfig
from mhcln.storage.split import split_for_seed
from mhcln.training.methods import MethodSpec


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Which runs to train in a dump folder: one for every bit length and seed.

    Attributes:
        dump_dir: Folder of features and splits, and of the runs.
        config: How every run is trained; its bits and seed, and iterations if not given, are filled in.
        bits: Bit lengths.
        seeds: Seeds.
        iterations: Iterations of the optimiser; None for the usual number.
        train_test_split: The share of training images that the split must have; None for any.
        run_name: Folder of a single run; None for the usual name.
        save_seconds: Time between two checkpoints.
        device: What to train on, one of `mhcln.device.CHOICES`.
        finish: Whether an interrupted run ends where it is.
        training_views: Rotations of each training image that are trained on, 1 to 8.
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
    """Train every bit length with every seed, except for runs that are done already."""
    count = len(options.bits) * len(options.seeds)
    if options.run_name and count > 1:
        raise UserError(f"--run_name names one folder, but these flags ask for {count} runs; leave it out")
    features = read_rotations(options.dump_dir, options.training_views)
    if features.images.skipped:
        name = file_of(options.dump_dir).name
        console.warn(f"{name} lacks {features.images.skipped} images that could not be read; see skipped.csv")
    spec = choose_method(options.config.loss, features.images)
    iterations = options.iterations or usual_iterations(spec, features.images)
    device = open_device(options.device, console)
    check_precision(options.config.precision)
    compile_with_xla = trains_with_xla(console)
    console.say(f"device: {device}, {options.config.precision}{', XLA' if compile_with_xla else ''}")
    groups = equal_images(features.vectors, features.images.paths)
    for bits in options.bits:
        for seed in options.seeds:
            config = dataclasses.replace(options.config, bits=bits, seed=seed, iterations=iterations)
            _train_one(options, spec, config, features, groups, compile_with_xla, console)


def _train_one(
    options: TrainOptions,
    spec: MethodSpec,
    config: TrainConfig,
    features: Features,
    groups: Rows,
    compile_with_xla: bool,
    console: Console,
) -> None:
    """Train one run, or say that this was done before."""
    split_file, split, split_sha256 = split_for_seed(options.dump_dir, config.seed)
    ratio = options.train_test_split
    if ratio is not None and not math.isclose(ratio, split.train_test_split, abs_tol=1e-6):
        raise UserError(
            f"--train_test_split={ratio:g}, but {split_file} was made with {split.train_test_split:g}; leave the flag "
            f"out to take that, or make the split again with dataset_generator.py --train_test_split={ratio:g}"
        )
    contaminated = splits.check(split, features.images.paths, split_file)
    if split.rule == splits.LISTS and (missing := splits.left_out(split, features.images.paths)):
        console.warn(f"{split_file} leaves out {len(missing)} images, first {missing[0]}")
    data = TrainingData.of(features, split, groups)
    inputs = RunInputs(
        dataset=features.images.dataset,
        images_dir=features.images.images_dir,
        extractor=features.images.extractor,
        features_sha256=features.sha256,
        feature_width=features.vectors.shape[1],
        skipped=features.images.skipped,
        split_file=split_file.name,
        split_rule=split.rule,
        split_ratio=split.train_test_split,
        split_seed=split.seed,
        split_sha256=split_sha256,
        contaminated=contaminated,
        train_images=len(data.train),
        test_images=len(data.test),
        train_test_duplicates=data.test_duplicates,
        training_views=options.training_views if features.rotations else None,
        views_sha256=features.rotations_sha256,
    )
    seed = config.seed if len(options.seeds) > 1 else None
    name = options.run_name or layout.run_name(config.bits, config.loss, seed, options.training_views)
    job = TrainingJob(options.dump_dir / name, RunRecord(inputs, config), data, spec)
    carry_out(job, options.save_seconds, options.finish, compile_with_xla, console)
