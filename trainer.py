"""Features and a split to a trained hashing network and the codes of all images.

python trainer.py --HASH_BITS=32 --ALPHA=0.2 --BATCH_SIZE=90 --ITERS=10000 --train_test_split=0.6
python trainer.py --HASH_BITS=16,24,32 --seed=0,1,2
python trainer.py --HASH_BITS=32 --loss=orthohash
"""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mhcln import cli

if TYPE_CHECKING:
    from mhcln.artifacts import Features

QUICK_ITERATIONS = 2000  # of the losses that see all classes in a batch


def parser() -> cli.Parser:
    """The flags of this script."""
    parser = cli.Parser("Train the hashing network on the training images and write the codes of all images.")
    parser.add_argument(
        "--HASH_BITS", type=cli.whole_numbers(1), default=[32], help="bits of a code, or several: one run each"
    )
    parser.add_argument(
        "--loss",
        choices=("mhcln", "semihard", "orthohash"),
        default="mhcln",
        help="mhcln is the paper's; semihard mines its triplets in batches of all classes; orthohash has class targets",
    )
    parser.add_argument("--ALPHA", type=margin, default=0.2, help="margin of the triplets, or of orthohash's cosine")
    parser.add_argument(
        "--BATCH_SIZE", type=cli.whole_number(3), default=90, help="images in a batch, for mhcln a multiple of 3"
    )
    parser.add_argument(
        "--ITERS",
        type=cli.whole_number(1),
        help=f"iterations (those of the data set if unsaid, {QUICK_ITERATIONS} for the other losses)",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the matrix products while training; the saved network is float32",
    )
    parser.add_argument(
        "--validate",
        type=cli.fraction,
        help="hold back this share of the training images, log their mAP@20, keep the network that serves them best",
    )
    parser.add_argument(
        "--patience",
        type=cli.whole_number(1),
        help="stop after so many looks at the held-back images without a better one (never if unsaid)",
    )
    parser.add_argument("--train_test_split", type=cli.fraction, help="must be that of the split, if given")
    parser.add_argument("--seed", type=cli.whole_numbers(0), default=[0], help="seed, or several: one run each")
    parser.add_argument("--run_name", type=run_name, help="folder of the run in dump_dir (K<bits> if unsaid)")
    parser.add_argument("--save_seconds", type=cli.whole_number(0), default=30, help="seconds between checkpoints")
    return parser


def margin(text: str) -> float:
    """A flag's type: a number above 0, and at most 2, the largest squared distance of two activations."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a margin above 0 and at most 2")
    return value


def run_name(text: str) -> str:
    """A flag's type: the name of a folder inside the dump folder."""
    if text in ("", ".", "..") or Path(text).name != text:
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a folder")
    return text


def main(flags: argparse.Namespace, console: cli.Console) -> None:
    """Train every bit length with every seed; what is done already is left alone."""
    from mhcln import artifacts
    from mhcln.errors import UserError

    pairs = [(bits, seed) for bits in flags.HASH_BITS for seed in flags.seed]
    if flags.run_name and len(pairs) > 1:
        raise UserError(f"--run_name names one folder, but these flags ask for {len(pairs)} runs; leave it out")
    if flags.patience and not flags.validate:
        raise UserError("--patience waits for held-back images to get better; add --validate=0.1, or leave it out")
    if flags.loss == "mhcln" and flags.BATCH_SIZE % 3:
        raise UserError(
            f"BATCH_SIZE {flags.BATCH_SIZE} is not a multiple of 3 (anchors, positives, negatives); "
            f"try {flags.BATCH_SIZE // 3 * 3} or {flags.BATCH_SIZE // 3 * 3 + 3}"
        )
    features = artifacts.read_features(flags.dump_dir)
    if features.skipped:
        console.warn(f"features.npz lacks {features.skipped} images that could not be read; see skipped.csv")
    for bits, seed in pairs:
        one(flags, bits, seed, features, console)


def one(flags: argparse.Namespace, bits: int, seed: int, features: "Features", console: cli.Console) -> None:
    """Train one bit length with one seed, or say that this was done before."""
    from mhcln import checkpoints, files, runs, splits

    split_file, split = splits.split_for(flags.dump_dir, seed)
    check_ratio(flags.train_test_split, split.train_test_split, split_file)
    inputs, contaminated = runs.read_inputs(features, split_file, split)
    run = runs.describe(flags.dump_dir, inputs, split_file, contaminated, settings(flags, bits, seed, features))
    folder = flags.dump_dir / (flags.run_name or default_name(flags.loss, bits, seed if len(flags.seed) > 1 else None))
    with files.locked(folder):
        if runs.is_done(folder, run):
            checkpoints.remove(folder / "checkpoints")
            console.say(f"{folder} is done already: {run['iterations']} iterations, nothing to do")
            return
        from mhcln import experiment  # TensorFlow takes seconds to load: only where something is left to do

        experiment.run(run, inputs, folder, flags.save_seconds, console)


def default_name(loss: str, bits: int, seed: int | None) -> str:
    """Name of a run's folder: K32, and what sets it apart from the paper's one run."""
    return f"K{bits}" + (f"_{loss}" if loss != "mhcln" else "") + (f"_seed{seed}" if seed is not None else "")


def check_ratio(asked: float | None, recorded: float, split_file: Path) -> None:
    """Raise UserError where the flag asks for another share of training images than the split was made with."""
    from mhcln.errors import UserError

    if asked is not None and not math.isclose(asked, recorded, abs_tol=1e-6):
        raise UserError(
            f"--train_test_split={asked:g}, but {split_file} was made with {recorded:g}; leave the flag out to take "
            f"that, or make the split again with dataset_generator.py --train_test_split={asked:g}"
        )


def settings(flags: argparse.Namespace, bits: int, seed: int, features: "Features") -> dict[str, Any]:
    """The part of a run's configuration that the flags decide."""
    from mhcln import datasets

    usual = datasets.load(features.dataset).iterations if flags.loss == "mhcln" else QUICK_ITERATIONS
    return {
        "bits": bits,
        "loss": flags.loss,
        "alpha": flags.ALPHA,
        "batch_size": flags.BATCH_SIZE,
        "iterations": flags.ITERS or usual,
        "seed": seed,
        "precision": flags.precision,
        "validate": flags.validate or 0.0,
        "patience": flags.patience or 0,
    }


if __name__ == "__main__":
    cli.run(parser(), main)
