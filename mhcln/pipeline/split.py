"""Features to `split.npz`: the paths of the training and of the test images."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mhcln.console import Console, UserError
from mhcln.data import duplicates, splits
from mhcln.data.duplicates import Rows
from mhcln.data.published_pickle import read_published
from mhcln.data.split_lists import split_from_lists
from mhcln.storage import layout
from mhcln.storage.features import FILES, Features, file_of, is_there, read_features, shard_sizes, write_features
from mhcln.storage.files import locked
from mhcln.storage.image_table import ImageTable
from mhcln.storage.split import Split, write_split

_COMPARED = 4096  # vectors at a time


@dataclasses.dataclass(frozen=True)
class SplitOptions:
    """Which splits to make, of which features.

    Attributes:
        dump_dir: Folder of `features.npz`.
        ratio: Share of training images of each class; None for the papers' share.
        seeds: Seeds of the draws: one split each; None for seed 0.
        rule: How a split is made, one of `mhcln.data.splits.RULES`; None for the first.
        features: An `.npz` of features of any network, a `features.json`, the folder of either, or a `features.pkl`
            of the published code, to take into the dump folder; None if features are there.
        split_dir: Folder of lists such as `train.txt` and `test.txt`, which make the split.
    """

    dump_dir: Path
    ratio: float | None = None
    seeds: Sequence[int] | None = None
    rule: str | None = None
    features: Path | None = None
    split_dir: Path | None = None


def make_splits(options: SplitOptions, console: Console) -> None:
    """Make the splits, write them, and report leaks and images that are left out."""
    dump_dir = options.dump_dir
    with locked(dump_dir):
        if options.features:
            _import_features(options.features, dump_dir, console)
        features = read_features(dump_dir)
        images = features.images
        if images.skipped:
            name = file_of(dump_dir).name
            console.warn(f"{name} lacks {images.skipped} images that could not be read; see skipped.csv")
        groups = duplicates.equal_images(features.vectors, images.paths)
        made = _splits_of(options, images, groups)
        _write(dump_dir, made, images, console)
    if made[0].rule in (splits.STRATIFIED, splits.RANDOM):
        _report_groups(images, groups, console)
    for split in made:
        _report_leaks(split, images, groups, console)
        _report_unused(split, images, console)


def _report_groups(images: ImageTable, groups: Rows, console: Console) -> None:
    several = duplicates.groups_of_several(groups)
    if not several:
        return
    first, second = several[0][:2].tolist()
    extra = sum(len(rows) - 1 for rows in several)
    console.say(
        f"{extra} images are equal to others, first {images.paths[second]} to {images.paths[first]}; equal images are "
        "on the same side"
    )
    across = [rows for rows in several if len(set(images.labels[rows].tolist())) > 1]
    if across:
        first, *others = across[0].tolist()
        other = next(row for row in others if images.labels[row] != images.labels[first])
        console.warn(
            f"{len(across)} images lie in more than one class, first {images.paths[first]} and {images.paths[other]}"
        )


def _report_leaks(split: Split, images: ImageTable, groups: Rows, console: Console) -> None:
    contaminated = splits.contamination(split)
    if contaminated:
        console.warn(
            f"seed {split.seed}: {contaminated} of {len(split.test_paths)} test images are trained on, as in the "
            "published AID code; every result made from this split is marked as contaminated"
        )
    train, test = (images.rows_of(side) for side in (split.train_paths, split.test_paths))
    pairs = duplicates.equal_across(groups, train, test)
    if pairs:
        tested, trained = pairs[0]
        console.warn(
            f"{len(pairs)} of {len(test)} test images are equal to training images, first {images.paths[tested]} to "
            f"{images.paths[trained]}; every result made from this split says so"
        )


def _report_unused(split: Split, images: ImageTable, console: Console) -> None:
    """Report the images that are neither trained on nor tested."""
    if split.validation_paths:
        console.say(
            f"{len(split.validation_paths)} validation images are not trained on: {layout.TRAIN} --validate=0.1 takes "
            "them, whatever the share, and they have no use without it"
        )
    if split.database_paths:
        console.say(
            f"{len(split.database_paths)} images are the database, which {layout.EVALUATE} --archive=database searches"
        )
    missing = splits.left_out(split, images.paths)
    if missing and split.rule == splits.LISTS:
        console.warn(f"{len(missing)} images are named by no list and left out, first {missing[0]}")


def _write(dump_dir: Path, made: list[Split], images: ImageTable, console: Console) -> None:
    paths = [layout.split_path(dump_dir, split.seed) for split in made] if len(made) > 1 else []
    for stale in layout.split_paths(dump_dir):
        if stale not in paths:
            console.warn(f"{stale} belongs to an earlier set of splits and is removed")
            stale.unlink()
    for path, split in [(dump_dir / layout.SPLIT, made[0]), *zip(paths, made, strict=False)]:
        write_split(path, split)
        validation = f", {len(split.validation_paths)} validation" if split.validation_paths else ""
        console.say(
            f"{images.dataset}: {len(split.train_paths)} training{validation} and {len(split.test_paths)} test images "
            f"of {len(images.class_names) or 'no'} classes, {split.rule}, seed {split.seed} -> {path}"
        )


def _import_features(file: Path, dump_dir: Path, console: Console) -> None:
    """Copy features that were made elsewhere into a dump folder, unless this was done before."""
    given = file.is_dir() or file.suffix in FILES
    features = read_features(file) if given else read_published(file)
    paths = features.images.paths
    if len(set(paths)) < len(paths):
        twice = Counter(paths).most_common(1)[0][0]
        raise UserError(f"{file} has several rows of {twice}; make it again with one row an image")
    if is_there(dump_dir):
        if not _same(features, read_features(dump_dir)):
            raise UserError(f"{dump_dir} has other features already; choose another --dump_dir or leave --features out")
        return
    sizes = shard_sizes(file) if given else []
    write_features(dump_dir, features, max(sizes, default=None))
    console.say(f"{features.images.dataset}: features of {len(features.images)} images from {file}")


def _same(one: Features, other: Features) -> bool:
    first, second = vars(one.images), vars(other.images)
    blocks = [slice(start, start + _COMPARED) for start in range(0, len(one.images), _COMPARED)]
    return all(np.array_equal(first[name], second[name]) for name in first) and all(
        np.array_equal(one.vectors[block], other.vectors[block]) for block in blocks
    )


def _splits_of(options: SplitOptions, images: ImageTable, groups: Rows) -> list[Split]:
    if options.split_dir or options.rule == splits.FOLDERS:
        if options.ratio or options.seeds or (options.split_dir and options.rule):
            raise UserError(
                "--split_dir and --rule=folders take a split that is there; give one of them, without "
                "--train_test_split, --seed and another --rule"
            )
        if options.split_dir:
            return [split_from_lists(options.split_dir, images.paths, images.labels)]
        return [splits.split_from_folders(images.paths)]
    rule, ratio = options.rule or splits.STRATIFIED, options.ratio or splits.RATIO
    if not images.class_names and rule == splits.PUBLISHED_AID:
        raise UserError(f"--rule={rule} draws by class, and the images in {options.dump_dir} have none")
    return [_draw(rule, ratio, seed, images, groups) for seed in options.seeds or (0,)]


def _draw(rule: str, ratio: float, seed: int, images: ImageTable, groups: Rows) -> Split:
    if rule == splits.STRATIFIED:
        split = splits.stratified_split(images.paths, images.labels, ratio, seed, groups)
        advice = "no class has two different images; add images to the class folders and extract them"
    else:
        split = splits.published_aid_split(images.paths, images.labels, ratio, seed)
        advice = "choose a smaller --train_test_split, or add images to the class folders and extract them"
    if not split.train_paths or not split.test_paths:
        sides = f"{len(split.train_paths)} training and {len(split.test_paths)} test images"
        raise UserError(f"the {len(images)} images give {sides}: {advice}")
    return split
