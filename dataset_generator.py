"""Features to a train/test split, stratified by class and stored by path.

python dataset_generator.py --train_test_split=0.6
python dataset_generator.py --train_test_split=0.6 --seed=0,1,2
python dataset_generator.py --split_dir=folder_with_train.txt_and_test.txt
python dataset_generator.py --train_test_split=0.6 --features=features.npz
"""

import argparse

from mhcln import cli
from mhcln.console import Console
from mhcln.data import splits
from mhcln.pipeline.split import SplitOptions, make_splits


def parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser("Split the images of features.npz into training and test images.")
    add = parser.add_argument
    add("--train_test_split", type=cli.fraction, help=f"share of each class that trains; if not given, {splits.RATIO}")
    add(
        "--seed",
        type=cli.whole_numbers(0, cli.LARGEST_SEED),
        help="seed of the draw, or several: one split each; if not given, 0",
    )
    add(
        "--rule",
        choices=splits.RULES,
        help="stratified, if not given, draws a share of each class; folders takes the train/, test/ and val/ that the "
        "images lie in; published-aid draws test images without regard to the training images, as the published AID "
        "code did",
    )
    add(
        "--features",
        type=cli.path,
        help=".npz of another network's features, a folder or list of shards, or published features.pkl, to take",
    )
    add(
        "--split_dir",
        type=cli.path,
        help="folder with train.txt and test.txt (or database.txt and query.txt; perhaps val.txt) that name the images",
    )
    return parser


def main(flags: argparse.Namespace, console: Console) -> None:
    """Make the splits that the flags ask for."""
    options = SplitOptions(
        flags.dump_dir, flags.train_test_split, flags.seed, flags.rule, flags.features, flags.split_dir
    )
    make_splits(options, console)


if __name__ == "__main__":
    cli.run(parser(), main)
