"""`features.npz` to `split.npz`: which images train and which test, stored by path."""

import dataclasses
from pathlib import Path

import numpy as np

from mhcln.console import Console, UserError
from mhcln.data import duplicates, splits
from mhcln.data.duplicates import Rows
from mhcln.data.published_pickle import read_published
from mhcln.data.split_lists import split_from_lists
from mhcln.storage import formats, layout
from mhcln.storage.features import FILES, file_of, is_there, read_features, shard_sizes, write_features
from mhcln.storage.features_file import Features, ImageTable
from mhcln.storage.files import locked
from mhcln.storage.formats import Split

BLOCK = 4096  # vectors that are compared at a time


@dataclasses.dataclass(frozen=True)
class SplitOptions:
    """Which splits to make, of which features.

    Attributes:
        dump_dir: Folder of `features.npz`.
        ratio: Share of each class that trains; None for that of the papers.
        seeds: Seeds of the draws: one split each.
        rule: How a split is drawn, one of `mhcln.data.splits.RULES`.
        features: An `.npz` of features of any network, a `features.json`, the folder of either, or a `features.pkl`
            of the published code, to take into the dump folder; None if features are there.
        lists: Folder of lists such as `train.txt` and `test.txt`; None to draw.
    """

    dump_dir: Path
    ratio: float | None = None
    seeds: tuple[int, ...] = (0,)
    rule: str = splits.STRATIFIED
    features: Path | None = None
    lists: Path | None = None


def make_splits(options: SplitOptions, console: Console) -> None:
    """Make the splits, say what is odd about them, write them.

    Raises:
        UserError: There are no features, or they and the options do not allow it.
    """
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
        _report_places(split, images, console)


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


def _report_places(split: Split, images: ImageTable, console: Console) -> None:
    """Say what becomes of images that are neither trained on nor tested."""
    if split.validation_paths:
        console.say(
            f"{len(split.validation_paths)} validation images are not trained on: they are held back for "
            f"{layout.TRAIN} --validate=0.1, whatever the share, and have no use without it"
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
        formats.write_split(path, split)
        held = f", {len(split.validation_paths)} validation" if split.validation_paths else ""
        console.say(
            f"{images.dataset}: {len(split.train_paths)} training{held} and {len(split.test_paths)} test images of "
            f"{len(images.class_names) or 'no'} classes, {split.rule}, seed {split.seed} -> {path}"
        )


def _import_features(file: Path, dump_dir: Path, console: Console) -> None:
    """Write the features of a dump folder from some that were made elsewhere, unless that was done before."""
    given = file.is_dir() or file.suffix in FILES
    features = read_features(file) if given else read_published(file)
    if is_there(dump_dir):
        if not _same(features, read_features(dump_dir)):
            raise UserError(f"{dump_dir} has other features already; choose another --dump_dir or leave --features out")
        return
    sizes = shard_sizes(file) if given else []
    write_features(dump_dir, features, max(sizes, default=None))
    console.say(f"{features.images.dataset}: features of {len(features.images)} images from {file}")


def _same(one: Features, other: Features) -> bool:
    first, second = vars(one.images), vars(other.images)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(one.images), BLOCK)]
    return all(np.array_equal(first[name], second[name]) for name in first) and all(
        np.array_equal(one.vectors[block], other.vectors[block]) for block in blocks
    )


def _splits_of(options: SplitOptions, images: ImageTable, groups: Rows) -> list[Split]:
    if not images.class_names and options.rule == splits.PUBLISHED_AID:
        raise UserError(f"--rule={options.rule} draws by class, and the images in {options.dump_dir} have none")
    given = options.ratio or options.seeds != (0,)
    if options.rule == splits.FOLDERS and not options.lists:
        if given:
            raise UserError("--rule=folders takes the split that is there; leave --train_test_split and --seed out")
        return [splits.split_from_folders(images.paths)]
    if not options.lists:
        return [_draw(options.rule, options.ratio or splits.RATIO, seed, images, groups) for seed in options.seeds]
    if given or options.rule != splits.STRATIFIED:
        raise UserError("--split_dir brings its own split; leave --train_test_split, --seed and --rule out")
    return [split_from_lists(options.lists, images.paths, images.labels, images.class_names)]


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
