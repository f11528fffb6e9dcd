"""Features and a split to a trained hashing network and the codes of all images.

python trainer.py --HASH_BITS=32 --ALPHA=0.2 --BATCH_SIZE=90 --ITERS=10000 --train_test_split=0.6
python trainer.py --HASH_BITS=16,24,32 --seed=0,1,2
python trainer.py --HASH_BITS=32 --loss=orthohash
python trainer.py --HASH_BITS=32 --loss=itq
"""

import argparse

from mhcln import cli, device
from mhcln.backbone.recipe import ALL_ROTATIONS
from mhcln.console import Console, UserError
from mhcln.pipeline.train import TrainOptions, train_runs
from mhcln.storage.run_record import TrainConfig
from mhcln.training.methods import METHODS, PRECISIONS, Iterative

USUAL = TrainConfig()
LARGEST_BITS = 2**16  # a code as large as 2048 features in float32: beyond it hashing makes nothing smaller
LARGEST_BATCH = 2**20
MOST_ITERATIONS = 10**9  # weeks on any device
LONGEST_PAUSE = 24 * 60 * 60  # seconds


def parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser("Train the hashing network on the training images and write the codes of all images.")
    add = parser.add_argument
    add(
        "--HASH_BITS",
        type=cli.whole_numbers(1, LARGEST_BITS),
        default=[USUAL.bits],
        help="bits of a code, or several: one run each",
    )
    add(
        "--loss",
        choices=METHODS,
        default=USUAL.loss,
        help="mhcln is the paper's, and no other is; semihard mines its triplets in batches of all classes; orthohash "
        "has class targets, sdh fits them by kernel regression in a second; itq (rotated principal components), lsh "
        "(random planes) and sign (of each feature) take images without classes; more in "
        "mhcln/training/methods/README.md",
    )
    add(
        "--ALPHA",
        type=cli.margin,
        help=f"margin of the triplets, or of orthohash's cosine; if not given, {USUAL.alpha}; other losses have none",
    )
    add(
        "--BATCH_SIZE",
        type=cli.whole_number(3, LARGEST_BATCH),
        help=f"images in a batch, for mhcln a multiple of 3; if not given, {USUAL.batch_size}",
    )
    add(
        "--ITERS",
        type=cli.whole_number(1, MOST_ITERATIONS),
        help="iterations; if not given, the number of the data set for mhcln, 2000 for other losses with iterations",
    )
    add(
        "--precision",
        choices=PRECISIONS,
        default=USUAL.precision,
        help="of the matrix products while training, tf32 on NVIDIA cards only; the saved network is float32",
    )
    add("--device", choices=device.CHOICES, default="auto", help="what to train on; auto is a GPU if there is one")
    add(
        "--validate",
        type=cli.fraction,
        help="use this share of the training images for validation: log their mAP@20, keep the best network",
    )
    add(
        "--patience",
        type=cli.whole_number(1, MOST_ITERATIONS),
        help="stop after so many validations without a better one; if not given, never",
    )
    add(
        "--training_views",
        type=cli.whole_number(1, ALL_ROTATIONS),
        default=1,
        metavar="N",
        help="train on so many rotations and flips of each training image, which extract_features.py "
        "--training_views extracted; test images and queries stay as they are",
    )
    add("--train_test_split", type=cli.fraction, help="must be that of the split, if given")
    add(
        "--seed",
        type=cli.whole_numbers(0, cli.LARGEST_SEED),
        default=[USUAL.seed],
        help="seed, or several: one run each",
    )
    add("--finish", action="store_true", help="end an interrupted run where it is, and write its codes")
    add("--run_name", type=cli.folder_name, help="folder of the run in dump_dir; if not given, K<bits>")
    add("--save_seconds", type=cli.whole_number(0, LONGEST_PAUSE), default=30, help="seconds between checkpoints")
    return parser


def training_config(flags: argparse.Namespace) -> TrainConfig:
    """Return the configuration that the flags ask for, 0 for a setting that the method does not use."""
    spec = METHODS[flags.loss]
    iterates = isinstance(spec, Iterative)
    has_margin = isinstance(spec, Iterative) and spec.has_margin
    unused = [] if has_margin else ["ALPHA"]
    unused += [] if iterates else ["BATCH_SIZE", "ITERS", "precision", "validate", "patience"]
    given = [f"--{name}" for name in unused if getattr(flags, name) not in (None, USUAL.precision)]
    if given:
        raise UserError(f"--loss={flags.loss} has no use for {', '.join(given)}; leave that out")
    if flags.patience and not flags.validate:
        raise UserError("--patience waits for a better validation; add --validate=0.1, or leave it out")
    return TrainConfig(
        loss=flags.loss,
        alpha=flags.ALPHA or (USUAL.alpha if has_margin else 0.0),
        batch_size=flags.BATCH_SIZE or (USUAL.batch_size if iterates else 0),
        precision=flags.precision,
        validate=flags.validate or USUAL.validate,
        patience=flags.patience or USUAL.patience,
    )


def main(flags: argparse.Namespace, console: Console) -> None:
    """Train the runs that the flags ask for."""
    options = TrainOptions(
        dump_dir=flags.dump_dir,
        config=training_config(flags),
        bits=tuple(flags.HASH_BITS),
        seeds=tuple(flags.seed),
        iterations=flags.ITERS,
        train_test_split=flags.train_test_split,
        run_name=flags.run_name,
        save_seconds=flags.save_seconds,
        device=flags.device,
        finish=flags.finish,
        training_views=flags.training_views,
    )
    train_runs(options, console)


if __name__ == "__main__":
    cli.run(parser(), main)
