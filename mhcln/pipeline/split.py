"""`features.npz` to `split.npz`: which images train and which test, stored by path."""

import dataclasses
from pathlib import Path

import numpy as np

from mhcln.console import Console, UserError
from mhcln.data import splits
from mhcln.data.published_pickle import read_published
from mhcln.storage import formats, layout
from mhcln.storage.files import locked
from mhcln.storage.formats import Features, ImageTable, Split


@dataclasses.dataclass(frozen=True)
class SplitOptions:
    """Which splits to make, of which features.

    Attributes:
        dump_dir: Folder of `features.npz`.
        ratio: Share of each class that trains; None for that of the papers.
        seeds: Seeds of the draws: one split each.
        rule: How a split is drawn, one of `mhcln.data.splits.RULES`.
        features: An `.npz` of features of any network, or a `features.pkl` of the published code, to make
            `features.npz` of; None if that exists.
        lists: Folder of `train.txt` and `test.txt`; None to draw.
    """

    dump_dir: Path
    ratio: float | None = None
    seeds: tuple[int, ...] = (0,)
    rule: str = splits.STRATIFIED
    features: Path | None = None
    lists: Path | None = None


def make_splits(options: SplitOptions, console: Console) -> None:
    """Make the splits, check them, write them.

    Raises:
        UserError: There are no features, or they and the options do not allow it.
    """
    dump_dir = options.dump_dir
    with locked(dump_dir):
        if options.features:
            _import_features(options.features, dump_dir, console)
        images = formats.read_image_table(dump_dir)
        if images.skipped:
            console.warn(f"features.npz lacks {images.skipped} images that could not be read; see skipped.csv")
        made = _splits_of(options, images)
        contaminated = [splits.check(split, images.paths, dump_dir / layout.SPLIT) for split in made]
        _write(dump_dir, made, images, console)
    for split, count in zip(made, contaminated, strict=True):
        if count:
            console.warn(
                f"seed {split.seed}: {count} of {len(split.test_paths)} test images are trained on, as in the "
                "published AID code; every result made from this split is marked as contaminated"
            )


def _write(dump_dir: Path, made: list[Split], images: ImageTable, console: Console) -> None:
    paths = [layout.split_path(dump_dir, split.seed) for split in made] if len(made) > 1 else []
    for stale in layout.split_paths(dump_dir):
        if stale not in paths:
            console.warn(f"{stale} belongs to an earlier set of splits and is removed")
            stale.unlink()
    for path, split in [(dump_dir / layout.SPLIT, made[0]), *zip(paths, made, strict=False)]:
        formats.write_split(path, split)
        console.say(
            f"{images.dataset}: {len(split.train_paths)} training and {len(split.test_paths)} test images of "
            f"{len(images.class_names) or 'no'} classes, {split.rule}, seed {split.seed} -> {path}"
        )


def _import_features(file: Path, dump_dir: Path, console: Console) -> None:
    """Write `features.npz` from features that were made elsewhere, unless that was done before."""
    features = formats.read_features(file) if file.suffix == ".npz" else read_published(file)
    if (dump_dir / layout.FEATURES).exists():
        if not _same(features, formats.read_features(dump_dir)):
            raise UserError(f"{dump_dir} has other features already; choose another --dump_dir or leave --features out")
        return
    formats.write_features(dump_dir, features)
    console.say(f"{features.images.dataset}: features of {len(features.images)} images from {file}")


def _same(one: Features, other: Features) -> bool:
    first, second = ({"vectors": features.vectors, **vars(features.images)} for features in (one, other))
    return all(np.array_equal(first[name], second[name]) for name in first)


def _splits_of(options: SplitOptions, images: ImageTable) -> list[Split]:
    if not images.class_names and options.rule == splits.PUBLISHED_AID:
        raise UserError(f"--rule={options.rule} draws by class, and the images in {options.dump_dir} have none")
    given = options.ratio or options.seeds != (0,)
    if options.rule == splits.FOLDERS and not options.lists:
        if given:
            raise UserError("--rule=folders takes the split that is there; leave --train_test_split and --seed out")
        return [splits.split_from_folders(images.paths)]
    if not options.lists:
        draw = splits.stratified_split if options.rule == splits.STRATIFIED else splits.published_aid_split
        ratio = options.ratio or splits.RATIO
        return [draw(images.paths, images.labels, ratio, seed) for seed in options.seeds]
    if given or options.rule != splits.STRATIFIED:
        raise UserError("--split_dir brings its own split; leave --train_test_split, --seed and --rule out")
    return [splits.split_from_lists(options.lists, images.paths, images.labels)]
