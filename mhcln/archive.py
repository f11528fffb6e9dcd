"""What a query is searched in: the codes of a training run and those that were added to it later."""

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mhcln import artifacts
from mhcln.artifacts import Addition
from mhcln.errors import UserError
from mhcln.files import PART
from mhcln.trained import Run

FOLDER = "archives"


@dataclasses.dataclass(frozen=True)
class Archive:
    """Packed `codes` [n, ceil(bits / 8)] uint8 of images in storage order; -1 among the `labels` is no class.

    The images come in parts, which begin at the rows `starts`: part p has paths `paths[p]` under `images_dirs[p]`.
    """

    codes: np.ndarray
    bits: int
    labels: np.ndarray
    starts: list[int]
    paths: list[Sequence[str]]
    images_dirs: list[str]
    class_names: list[str]

    def __len__(self) -> int:
        return len(self.codes)

    def class_of(self, row: int) -> str:
        """Name of the class of an image, empty where it has none."""
        return self.class_names[self.labels[row]] if self.labels[row] >= 0 else ""

    def images_dir_of(self, row: int) -> str:
        """Folder that the path of the image starts from."""
        return self.images_dirs[self._part(row)]

    def path_of(self, row: int) -> str:
        """Path of the image, as its folder knows it."""
        part = self._part(row)
        return str(self.paths[part][row - self.starts[part]])

    def place_of(self, row: int) -> Path:
        """Where the image lies."""
        return Path(self.images_dir_of(row)) / self.path_of(row)

    def _part(self, row: int) -> int:
        return bisect.bisect_right(self.starts, row) - 1


def load(run: Run, which: str, images_dir: Path | None = None) -> Archive:
    """The archive of a run: "test" or "train" for those images, "all" for both and everything that was added.

    `images_dir` says where the images of the run are now, if not where they were. Raises UserError where the archive
    is empty or an addition was made by another model.
    """
    codes = run.codes
    rows = np.array([which in ("all", side) for side in codes.split], bool)
    parts = [(codes.codes[rows], codes.labels[rows], run.display_names)]
    paths: list[Sequence[str]] = [[path for path, used in zip(codes.paths, rows, strict=True) if used]]
    images_dirs = [str(images_dir or run.setup["images_dir"] or "")]
    for path in _added(run.folder) if which == "all" else ():
        added = artifacts.read_addition(path)
        _check(path, added, run)
        parts.append((added.codes, added.labels, added.class_names))
        paths.append(added.paths)
        images_dirs.append(added.images_dir)
    *starts, count = itertools.accumulate(map(len, paths), initial=0)
    if not count:
        advice = f"add images with {artifacts.ADD}" if which == "all" else "choose another --archive"
        raise UserError(f"{run.folder} has no images in --archive={which}; {advice}")
    labels, names = _merge([(labels, class_names) for _, labels, class_names in parts])
    return Archive(
        codes=np.concatenate([part for part, _, _ in parts]),
        bits=codes.bits,
        labels=labels,
        starts=starts,
        paths=paths,
        images_dirs=images_dirs,
        class_names=names,
    )


def place_for(folder: Path, name: str, images_dir: str) -> Path:
    """Where a run keeps an addition: under `name`, with a number where that holds images of another folder.

    A damaged file is replaced, as what is said of it advises.
    """
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    paths = (folder / FOLDER / f"{each}.npz" for each in names)
    return next(path for path in paths if not path.exists() or _images_dir(path) in (images_dir, None))


def _images_dir(path: Path) -> str | None:
    try:
        return artifacts.read_addition(path).images_dir
    except UserError:
        return None


def _added(folder: Path) -> list[Path]:
    # what a killed --add left half-written is no addition
    return sorted(path for path in (folder / FOLDER).glob("*.npz") if not path.name.startswith(PART))


def _check(path: Path, added: Addition, run: Run) -> None:
    extractor = run.setup["extractor"]
    if added.bits != run.codes.bits:
        what = f"codes of {added.bits} bits, those of {run.folder} have {run.codes.bits}"
    elif added.extractor != extractor:
        what = f"codes of features of {added.extractor!r}, {run.folder} was trained on {extractor!r}"
    elif added.model_sha256 != run.files.get("model.keras"):
        what = f"codes of another model than that of {run.folder}"
    else:
        return
    raise UserError(f"{path} holds {what}; remove it, or add its images again with {artifacts.ADD}")


def _merge(parts: list[tuple[np.ndarray, list[str]]]) -> tuple[np.ndarray, list[str]]:
    """Labels into one list of class names, in which equal names are one class."""
    names = list(dict.fromkeys(name for _, class_names in parts for name in class_names))
    place = {name: label for label, name in enumerate(names)}
    merged = [np.array([*(place[name] for name in class_names), -1])[labels] for labels, class_names in parts]
    return np.concatenate(merged), names
