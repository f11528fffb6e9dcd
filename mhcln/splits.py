"""Which images train and which test: stratified by class, from published lists, or as the published AID code did."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from mhcln.artifacts import Split, read_split
from mhcln.errors import UserError

STRATIFIED = "stratified"
LISTS = "lists"
PUBLISHED_AID = "published-aid"


def stratified(paths: Sequence[str], labels: np.ndarray, ratio: float, seed: int) -> Split:
    """Draw `ratio` of each class for training, the rest for testing.

    `paths` in storage order, `labels` [n]. Each class draws from its own seeded stream, so that a class keeps its
    split when another one is added. Halves round up, and a class of two or more has at least one image on either
    side. (The published code rounds for UCMD and takes the ceiling for AID; at 0.6 all three agree on both sets.)
    """
    chosen = np.zeros(len(paths), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(math.floor(ratio * len(rows) + 0.5), 1), max(len(rows) - 1, 1))
        chosen[_stream(seed, label).permutation(rows)[:count]] = True
    return _split(paths, chosen, ~chosen, ratio, seed, STRATIFIED)


def published_aid(paths: Sequence[str], labels: np.ndarray, ratio: float, seed: int) -> Split:
    """Draw training and test images independently of each other, as the published AID code does by mistake.

    Its generator trains on a fresh shuffle of each class, its trainer then evaluates the last `1 - ratio` of the
    unshuffled order (AID/dataset_generator.py:41-49, AID/trainer.py:156-168): about `ratio` of the test images were
    trained on. For reproducing published figures only; every result made from it is marked.
    """
    train, test = np.zeros(len(paths), bool), np.zeros(len(paths), bool)
    for label in np.unique(labels):
        stream = _stream(seed, label)
        stored = stream.permutation(np.flatnonzero(labels == label))
        count = math.ceil(ratio * len(stored))
        train[stream.permutation(stored)[:count]] = True
        test[stored[count:]] = True
    return _split(paths, train, test, ratio, seed, PUBLISHED_AID)


def _stream(seed: int, label: int) -> np.random.Generator:
    return np.random.default_rng([seed, int(label)])


def _split(paths: Sequence[str], train: np.ndarray, test: np.ndarray, ratio: float, seed: int, rule: str) -> Split:
    return Split([paths[i] for i in np.flatnonzero(train)], [paths[i] for i in np.flatnonzero(test)], ratio, seed, rule)


def from_lists(folder: Path, paths: Sequence[str], labels: np.ndarray) -> Split:
    """Take the split that `train.txt` and `test.txt` in `folder` name, one `file name [label]` a line.

    A name matches an image with or without its folder and its ending, where only one image fits. Raises UserError
    for a name that fits none or several, for an image that no list or both name, and for labels that contradict
    the class folders.
    """
    match = _Names(paths)
    label_of = dict(zip(paths, labels.tolist(), strict=True))
    sides = {}
    pairs: set[tuple[str, int]] = set()
    for side in ("train", "test"):
        lines = _read_list(folder / f"{side}.txt")
        sides[side] = [match(name, folder / f"{side}.txt") for name, _ in lines]
        pairs |= {(text, label_of[path]) for (_, text), path in zip(lines, sides[side], strict=True) if text}
    if len(pairs) > min(len({text for text, _ in pairs}), len({label for _, label in pairs})):
        raise UserError(f"{folder}: the labels in the lists do not fit the class folders; are they of this data set?")
    order = {path: row for row, path in enumerate(paths)}
    train, test = (sorted(sides[side], key=order.__getitem__) for side in ("train", "test"))
    split = Split(train, test, round(len(train) / max(len(train) + len(test), 1), 6), 0, LISTS)
    check(split, paths, folder)
    return split


def _read_list(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise UserError(f"{path} is missing; --split_dir takes a folder with train.txt and test.txt")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file; it should name one image a line") from None
    pairs = [line.rsplit(maxsplit=1) for line in lines]
    # a last word that is no number belongs to a file name with blanks
    return [
        (p[0], p[1]) if len(p) == 2 and p[1].isdigit() else (line, "") for p, line in zip(pairs, lines, strict=True)
    ]


class _Names:
    """Finds the one path that a name in a list means."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.exact = set(paths)
        self.loose: dict[str, list[str]] = defaultdict(list)
        for path in self.exact:
            pure = PurePosixPath(path)
            for key in {str(pure.with_suffix("")), pure.name, pure.stem}:
                self.loose[key].append(path)

    def __call__(self, name: str, where: Path) -> str:
        if name in self.exact:
            return name
        pure = PurePosixPath(name)
        for key in (pure.name, str(pure.with_suffix("")) if pure.name else name, pure.stem):
            if len(self.loose.get(key, ())) == 1:
                return self.loose[key][0]
        found = len(self.loose.get(pure.stem, ()))
        what = f"fits {found} images; name its folder" if found else "fits no image of features.npz"
        raise UserError(f"{where} names {name}, which {what}")


def check(split: Split, paths: Sequence[str], where: Path) -> int:
    """Check a split against the images that exist; answer how many test images are trained on (0 unless by rule).

    Raises UserError where the split names unknown images, leaves a side empty, or - but for the published AID rule -
    lets the sides overlap or images out.
    """
    train, test = set(split.train_paths), set(split.test_paths)
    unknown = sorted((train | test) - set(paths))
    if unknown:
        raise UserError(f"{where} names {len(unknown)} images that features.npz lacks, first {unknown[0]}; {_AGAIN}")
    twice = [path for side in (split.train_paths, split.test_paths) for path, n in Counter(side).items() if n > 1]
    if twice:
        raise UserError(f"{where} names {twice[0]} twice on one side; {_AGAIN}")
    if not train or not test:
        raise UserError(f"{where} has {len(train)} training and {len(test)} test images; {_AGAIN}")
    shared = sorted(train & test)
    if split.rule == PUBLISHED_AID:
        return len(shared)
    if shared:
        raise UserError(f"{where} has {len(shared)} images on both sides, first {shared[0]}; {_AGAIN}")
    missing = sorted(set(paths) - train - test)
    if missing:
        raise UserError(f"{where} leaves {len(missing)} images out, first {missing[0]}; {_AGAIN}")
    return 0


_AGAIN = "make the split again with dataset_generator.py"


def split_path(dump_dir: Path, seed: int) -> Path:
    """Where the split of a seed lies when several were made."""
    return dump_dir / f"split_seed{seed}.npz"


def split_for(dump_dir: Path, seed: int) -> tuple[Path, Split]:
    """The split that training with `seed` uses: the one of that seed where several were made, else `split.npz`."""
    several = sorted(dump_dir.glob("split_seed*.npz"))
    path = split_path(dump_dir, seed) if several else dump_dir / "split.npz"
    if several and path not in several:
        raise UserError(
            f"{dump_dir} has splits for other seeds ({', '.join(file.stem for file in several)}), not for {seed}; "
            f"make them together, dataset_generator.py --seed=...,{seed}"
        )
    return path, read_split(path)
