"""Which images train and which test: drawn by class, taken from lists, or as the published AID code drew them."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.data.parts import parts_of
from mhcln.storage.formats import Split

STRATIFIED = "stratified"
LISTS = "lists"
PUBLISHED_AID = "published-aid"
FOLDERS = "folders"
RANDOM = "random"  # what stratified is called for images without classes
RULES = (STRATIFIED, PUBLISHED_AID, FOLDERS)  # of --rule
RATIO = 0.6  # share of training images in both papers

SMALLEST_HELD_BACK = 3  # a class with fewer training images holds none back
_VALIDATION = 1  # sets the random stream of hold_back apart from that of stratified_split

Labels = NDArray[np.integer[Any]]


def stratified_split(paths: Sequence[str], labels: Labels, ratio: float, seed: int) -> Split:
    """Draw `ratio` of each class for training, the rest for testing.

    Halves round up, and a class of two or more images has at least one on either side. (The published code rounds for
    UCMD and takes the ceiling for AID; at 0.6 all three agree on both sets.) Images without classes are drawn as if
    they were of one, and the rule is then recorded as RANDOM.

    Args:
        paths: Paths in storage order.
        labels: `[n]`, class of each image; -1 for each if there are no classes.
        ratio: Share of training images, between 0 and 1.
        seed: Seed of the draw.
    """

    def count(n: int) -> int:
        return min(max(math.floor(ratio * n + 0.5), 1), max(n - 1, 1))

    train = _draw_by_class(labels, count, seed)
    rule = RANDOM if (labels < 0).all() else STRATIFIED
    return Split(list(compress(paths, train)), list(compress(paths, ~train)), ratio, seed, rule)


def hold_back(labels: Labels, share: float, seed: int) -> NDArray[np.bool_]:
    """Draw `share` of the training images of each class for validation: at least one of three or more.

    Halves round up, and two images of a class are always left to train on.

    Args:
        labels: `[n]`, class of each training image.
        share: Share of each class, between 0 and 1.
        seed: Seed of the draw; its random stream is not the one of `stratified_split`.

    Returns:
        `[n] bool`, true for the images that are held back.
    """

    def count(n: int) -> int:
        return min(max(int(share * n + 0.5), 1), n - 2) if n >= SMALLEST_HELD_BACK else 0

    return _draw_by_class(labels, count, seed, _VALIDATION)


def _draw_by_class(labels: Labels, count: Callable[[int], int], seed: int, *purpose: int) -> NDArray[np.bool_]:
    """Draw `count(n)` of the n images of each class.

    Each class has its own random stream, so that it keeps its draw when another one is added.
    """
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        drawn = np.random.default_rng([seed, max(int(label), 0), *purpose]).permutation(rows)
        chosen[drawn[: count(len(rows))]] = True
    return chosen


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


def split_from_folders(paths: Sequence[str]) -> Split:
    """Take the split that a data set comes with as the folders `train/` and `test/`, or `val/` if there is no `test/`.

    Raises:
        UserError: The images do not lie in such folders, or lie in all three.
    """
    parts = parts_of(paths)
    if len(parts) > 2:
        raise UserError(
            "the images lie in train/, val/ and test/, but a split has two sides; move val/ into one of them"
        )
    train, test = parts.get("train"), parts.get("test") or parts.get("val")
    if not train or not test:
        raise UserError("the images do not lie in folders train/ and test/; leave --rule=folders out to draw a split")
    return _given(train, test, FOLDERS)


def split_from_lists(folder: Path, paths: Sequence[str], labels: Labels) -> Split:
    """Take the split that `train.txt` and `test.txt` name, one `file name [label]` a line.

    A name matches an image with or without its folder and its ending, if only one image fits.

    Args:
        folder: Folder of the two lists.
        paths: Paths in storage order.
        labels: `[n]`, class of each image.

    Raises:
        UserError: A name fits no image or several, no list or both name an image, or the labels in the lists
            contradict the class folders.
    """
    find = _PathFinder(paths)
    row_of = {path: row for row, path in enumerate(paths)}
    sides: list[list[str]] = []
    pairs: set[tuple[str, int]] = set()  # of a label in the lists and the class of its image
    for list_file in (folder / "train.txt", folder / "test.txt"):
        lines = _read_list(list_file)
        side = [find(name, list_file) for name, _ in lines]
        found = zip(lines, (int(labels[row_of[path]]) for path in side), strict=True)
        pairs |= {(text, label) for (_, text), label in found if text and label >= 0}
        sides.append(sorted(side, key=row_of.__getitem__))
    if len(pairs) > min(len({text for text, _ in pairs}), len({label for _, label in pairs})):
        raise UserError(f"{folder}: the labels in the lists do not fit the class folders; are they of this data set?")
    train, test = sides
    split = _given(train, test, LISTS)
    check(split, paths, folder)
    return split


def _given(train: list[str], test: list[str], rule: str) -> Split:
    """Return a split that was not drawn; its ratio is what it comes to, its seed 0."""
    return Split(train, test, round(len(train) / max(len(train) + len(test), 1), 6), 0, rule)


def _read_list(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise UserError(f"{path} is missing; --split_dir takes a folder with train.txt and test.txt")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file; it should name one image a line") from None
    pairs = [line.rsplit(maxsplit=1) for line in lines]
    # a last word that is not a number belongs to a file name with blanks
    return [
        (p[0], p[1]) if len(p) == 2 and p[1].isdigit() else (line, "") for p, line in zip(pairs, lines, strict=True)
    ]


class _PathFinder:
    """Finds the one path that a name in a list means."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.exact = set(paths)
        self.loose: dict[str, list[str]] = defaultdict(list)
        for path in self.exact:
            pure = PurePosixPath(path)
            for key in {str(pure.with_suffix("")), pure.name, pure.stem}:
                self.loose[key].append(path)

    def __call__(self, name: str, listed_in: Path) -> str:
        if name in self.exact:
            return name
        pure = PurePosixPath(name)
        for key in (pure.name, str(pure.with_suffix("")) if pure.name else name, pure.stem):
            if len(self.loose.get(key, ())) == 1:
                return self.loose[key][0]
        found = len(self.loose.get(pure.stem, ()))
        what = f"fits {found} images; name its folder" if found else "fits no image of features.npz"
        raise UserError(f"{listed_in} names {name}, which {what}")


_AGAIN = "make the split again with dataset_generator.py"


def check(split: Split, paths: Sequence[str], source: Path) -> int:
    """Check a split against the images that exist.

    Args:
        split: The split.
        paths: Paths of all images.
        source: Where the split was read, for the messages.

    Returns:
        How many test images are also trained on: 0 but for the published AID rule.

    Raises:
        UserError: The split names unknown images or leaves a side empty, or (but for the published AID rule) the sides
            overlap or leave images out.
    """
    train, test = set(split.train_paths), set(split.test_paths)
    unknown = sorted((train | test) - set(paths))
    if unknown:
        raise UserError(f"{source} names {len(unknown)} images that features.npz lacks, first {unknown[0]}; {_AGAIN}")
    twice = [path for side in (split.train_paths, split.test_paths) for path, n in Counter(side).items() if n > 1]
    if twice:
        raise UserError(f"{source} names {twice[0]} twice on one side; {_AGAIN}")
    if not train or not test:
        raise UserError(f"{source} has {len(train)} training and {len(test)} test images; {_AGAIN}")
    shared = sorted(train & test)
    if split.rule == PUBLISHED_AID:
        return len(shared)
    if shared:
        raise UserError(f"{source} has {len(shared)} images on both sides, first {shared[0]}; {_AGAIN}")
    missing = sorted(set(paths) - train - test)
    if missing:
        raise UserError(f"{source} leaves {len(missing)} images out, first {missing[0]}; {_AGAIN}")
    return 0
