"""Features to a train/test split, stratified by class and stored by path.

python dataset_generator.py --train_test_split=0.6
python dataset_generator.py --train_test_split=0.6 --seed=0,1,2
python dataset_generator.py --split_dir=folder_with_train.txt_and_test.txt
python dataset_generator.py --train_test_split=0.6 --features=features.pkl
"""

import argparse
from typing import TYPE_CHECKING

from mhcln import cli

if TYPE_CHECKING:
    from mhcln.artifacts import Features, Split

RATIO = 0.6  # of both papers


def parser() -> cli.Parser:
    """The flags of this script."""
    parser = cli.Parser("Split the images of features.npz into training and test images.")
    parser.add_argument(
        "--train_test_split", type=cli.fraction, help=f"share of each class that trains ({RATIO} if unsaid)"
    )
    parser.add_argument(
        "--seed", type=cli.whole_numbers(0), default=[0], help="seed of the draw, or several: one split each"
    )
    parser.add_argument(
        "--rule",
        choices=("stratified", "published-aid"),
        default="stratified",
        help="published-aid draws test images without regard to the training images, as the published AID code did",
    )
    parser.add_argument("--features", type=cli.Path, help="features.pkl of the published code, to make features.npz of")
    parser.add_argument("--split_dir", type=cli.Path, help="folder with train.txt and test.txt that name the images")
    return parser


def main(flags: argparse.Namespace, console: cli.Console) -> None:
    """Make the splits, check them, write them."""
    from mhcln import artifacts, files, splits

    with files.locked(flags.dump_dir):
        if flags.features:
            take_over(flags.features, flags.dump_dir, console)
        features = artifacts.read_features(flags.dump_dir, vectors=False)
        if features.skipped:
            console.warn(f"features.npz lacks {features.skipped} images that could not be read; see skipped.csv")
        made = draw(flags, features)
        contaminated = [splits.check(split, features.paths, flags.dump_dir / "split.npz") for split in made]
        paths = [splits.split_path(flags.dump_dir, split.seed) for split in made] if len(made) > 1 else []
        for stale in sorted(set(flags.dump_dir.glob("split_seed*.npz")) - set(paths)):
            console.warn(f"{stale} belongs to an earlier set of splits and is removed")
            stale.unlink()
        for path, split in [(flags.dump_dir / "split.npz", made[0]), *zip(paths, made, strict=False)]:
            artifacts.write_split(path, split)
            console.say(
                f"{features.dataset}: {len(split.train_paths)} training and {len(split.test_paths)} test images of "
                f"{len(features.class_names)} classes, {split.rule}, seed {split.seed} -> {path}"
            )
    for split, count in zip(made, contaminated, strict=True):
        if count:
            console.warn(
                f"seed {split.seed}: {count} of {len(split.test_paths)} test images are trained on, as in the "
                "published AID code; every result made from this split is marked as contaminated"
            )


def take_over(pickled: cli.Path, dump_dir: cli.Path, console: cli.Console) -> None:
    """Write features.npz from a features.pkl of the published code, unless that was done before."""
    from mhcln import artifacts, pickles
    from mhcln.errors import UserError

    taken = pickles.read_published(pickled)
    if (dump_dir / "features.npz").exists():
        if artifacts.read_features(dump_dir, vectors=False).extractor != taken.extractor:
            raise UserError(f"{dump_dir} has other features already; choose another --dump_dir or leave --features out")
        return
    artifacts.write_features(dump_dir, taken)
    console.say(f"{taken.dataset}: features of {len(taken.paths)} images from {pickled}")


def draw(flags: argparse.Namespace, features: "Features") -> "list[Split]":
    """The splits that the flags ask for."""
    from mhcln import splits
    from mhcln.errors import UserError

    if not features.class_names:
        raise UserError(f"the images in {flags.dump_dir} have no classes: they can be searched, not trained on")
    if not flags.split_dir:
        rule = splits.stratified if flags.rule == splits.STRATIFIED else splits.published_aid
        ratio = flags.train_test_split or RATIO
        return [rule(features.paths, features.labels, ratio, seed) for seed in flags.seed]
    if flags.train_test_split or flags.seed != [0] or flags.rule != splits.STRATIFIED:
        raise UserError("--split_dir brings its own split; leave --train_test_split, --seed and --rule out")
    return [splits.from_lists(flags.split_dir, features.paths, features.labels)]


if __name__ == "__main__":
    cli.run(parser(), main)
