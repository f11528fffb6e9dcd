"""Training and test images: drawn by class, taken from folders, or drawn as by the published AID code."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.data.duplicates import Labels, Rows, keep_together
from mhcln.storage.split import Split

STRATIFIED = "stratified"
LISTS = "lists"
PUBLISHED_AID = "published-aid"
FOLDERS = "folders"
RANDOM = "random"  # a stratified split of images without classes
RULES = (STRATIFIED, PUBLISHED_AID, FOLDERS)  # of --rule
RATIO = 0.6  # share of training images in both papers

# Names, in any case, of the folders that hold the parts of a data set.
PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

SMALLEST_VALIDATED = 3  # a class with fewer training images has none for validation
_VALIDATION = 1  # sets the random stream of draw_validation apart from that of stratified_split


def stratified_split(
    paths: Sequence[str], labels: Labels, ratio: float, seed: int, groups: Rows | None = None
) -> Split:
    """Draw `ratio` of each class for training, the rest for testing.

    Halves round up, and a class of two or more images has at least one on either side. (The published code rounds for
    UCMD and takes the ceiling for AID; at 0.6 all three agree on both sets.) Images without classes are drawn as if
    they were of one, and the rule is then recorded as RANDOM.

    Args:
        paths: Paths in storage order.
        labels: `[n]`, class of each image; -1 for each if there are no classes.
        ratio: Share of training images, between 0 and 1.
        seed: Seed of the draw.
        groups: `[n]`, images with the same number stay on one side, as `mhcln.data.duplicates.equal_images` numbers
            them; then only a class of two or more groups has both sides.
    """

    def count(n: int) -> int:
        return min(max(_rounded(ratio * n), 1), max(n - 1, 1))

    train = keep_together(_draw_by_class(labels, count, seed), labels, groups, training=True)
    rule = RANDOM if (labels < 0).all() else STRATIFIED
    return Split(list(compress(paths, train)), list(compress(paths, ~train)), ratio, seed, rule)


def draw_validation(labels: Labels, share: float, seed: int, groups: Rows | None = None) -> NDArray[np.bool_]:
    """Draw `share` of the training images of each class for validation: at least one of three or more.

    Halves round up, and two images of a class are always left to train on, if its groups allow it.

    Args:
        labels: `[n]`, class of each training image.
        share: Share of each class, between 0 and 1.
        seed: Seed of the draw; its random stream is not the one of `stratified_split`.
        groups: `[n]`, images with the same number are chosen together or not at all.

    Returns:
        `[n] bool`, true for the validation images.
    """

    def count(n: int) -> int:
        return min(max(_rounded(share * n), 1), n - 2) if n >= SMALLEST_VALIDATED else 0

    return keep_together(_draw_by_class(labels, count, seed, _VALIDATION), labels, groups, training=False)


def _rounded(number: float) -> int:
    return math.floor(number + 0.5)


def _draw_by_class(labels: Labels, count: Callable[[int], int], seed: int, *purpose: int) -> list[tuple[Rows, int]]:
    """Draw an order of the n images of each class, of which the first `count(n)` are to be chosen.

    Each class has its own random stream, so that it keeps its draw when another one is added.
    """
    draw = []
    for label in np.unique(labels).tolist():
        rows = np.flatnonzero(labels == label)
        stream = np.random.default_rng([seed, max(label, 0), *purpose])
        draw.append((stream.permutation(rows), count(len(rows))))
    return draw


def published_aid_split(paths: Sequence[str], labels: Labels, ratio: float, seed: int) -> Split:
    """Draw training and test images independently of each other, as the published AID code does by mistake.

    Its generator trains on a fresh shuffle of each class, its trainer then evaluates the last `1 - ratio` of the
    unshuffled order (AID/dataset_generator.py:41-49, AID/trainer.py:156-168): about `ratio` of the test images were
    trained on. For reproducing published results only; every result made from it is marked.

    Args:
        paths: Paths in storage order.
        labels: `[n]`, class of each image.
        ratio: Share of training images, between 0 and 1.
        seed: Seed of the draw.
    """
    train, test = np.zeros(len(paths), bool), np.zeros(len(paths), bool)
    for label in np.unique(labels):
        random = np.random.default_rng([seed, int(label)])
        stored = random.permutation(np.flatnonzero(labels == label))
        count = math.ceil(ratio * len(stored))
        train[random.permutation(stored)[:count]] = True
        test[stored[count:]] = True
    return Split(list(compress(paths, train)), list(compress(paths, test)), ratio, seed, PUBLISHED_AID)


def parts_of(paths: Sequence[str]) -> dict[str, list[str]]:
    """Return the paths of each part, "train", "val" or "test", if all lie in class folders within such folders.

    Returns:
        At least two parts, with their paths in the order given; nothing if the paths are of other folders.
    """
    parts: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folder, _, inner = path.partition("/")
        if "/" not in inner or folder.casefold() not in PARTS:
            return {}
        parts[PARTS[folder.casefold()]].append(path)
    return dict(parts) if len(parts) > 1 else {}


def split_from_folders(paths: Sequence[str]) -> Split:
    """Take the split that a data set comes with as the folders `train/` and `test/`.

    Images in `val/` are for validation; if there is no `test/`, they are the test images.
    """
    parts = parts_of(paths)
    train, test, validation = (parts.get(part, []) for part in ("train", "test", "val"))
    if not test:
        test, validation = validation, []
    if not train or not test:
        raise UserError("the images do not lie in folders train/ and test/; leave --rule=folders out to draw a split")
    return given_split(train, test, FOLDERS, validation)


def given_split(
    train: list[str], test: list[str], rule: str, validation: Sequence[str] = (), database: Sequence[str] = ()
) -> Split:
    """Return a split that was not drawn, with its actual ratio and seed 0."""
    ratio = round(len(train) / max(len(train) + len(test), 1), 6)
    return Split(train, test, ratio, 0, rule, list(validation), list(database))


def left_out(split: Split, paths: Sequence[str]) -> list[str]:
    """Return the images, in storage order, that are on no side of a split."""
    placed = {*split.train_paths, *split.test_paths, *split.validation_paths, *split.database_paths}
    return [path for path in paths if path not in placed]


def contamination(split: Split) -> int:
    """Return the number of test images that are also trained on: 0 except for the published AID rule."""
    return len(set(split.train_paths) & set(split.test_paths))


def check(split: Split, paths: Sequence[str], source: Path) -> int:
    """Check a split that was read: known images, none left out, sides that are not empty and do not overlap.

    The published AID rule may overlap and leave images out, lists may leave images out.

    Args:
        split: The split.
        paths: Paths of all images.
        source: Where the split was read, for the messages.

    Returns:
        How many test images are also trained on, as `contamination` does.
    """
    flag = {FOLDERS: " --rule=folders", PUBLISHED_AID: " --rule=published-aid", LISTS: " --split_dir=..."}
    again = f"make the split again with dataset_generator.py{flag.get(split.rule, '')}"
    sides = (split.train_paths, split.test_paths, split.validation_paths)
    train, test, validation = map(set, sides)
    database = set(split.database_paths)
    unknown = sorted((train | test | validation | database) - set(paths))
    if unknown:
        raise UserError(f"{source} names {len(unknown)} images that features.npz lacks, first {unknown[0]}; {again}")
    twice = [path for side in sides for path, n in Counter(side).items() if n > 1]
    if twice:
        raise UserError(f"{source} names {twice[0]} twice on one side; {again}")
    if not train or not test:
        raise UserError(f"{source} has {len(train)} training and {len(test)} test images; {again}")
    overlaps = [validation & (train | test), database & test]
    shared = sorted(set().union(*overlaps, *([] if split.rule == PUBLISHED_AID else [train & test])))
    if shared:
        raise UserError(f"{source} has {len(shared)} images on both sides, first {shared[0]}; {again}")
    missing = left_out(split, paths)
    if missing and split.rule in (STRATIFIED, RANDOM, FOLDERS):
        raise UserError(f"{source} leaves {len(missing)} images out, first {missing[0]}; {again}")
    return contamination(split)
