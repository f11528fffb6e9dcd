"""What a query is searched in: the codes of a training run and those that were added to it later."""

import dataclasses
from pathlib import Path

import numpy as np

from mhcln import artifacts
from mhcln.errors import UserError
from mhcln.trained import Run

FOLDER = "archives"


@dataclasses.dataclass(frozen=True)
class Archive:
    """Packed `codes` [n, ceil(bits / 8)] uint8 of images in storage order.

    Image i is `paths[i]` under `images_dirs[origin[i]]`, its class `class_names[labels[i]]`; -1 stands for none.
    """

    codes: np.ndarray
    bits: int
    labels: np.ndarray
    paths: list[str]
    origin: np.ndarray
    images_dirs: list[str]
    class_names: list[str]

    def class_of(self, row: int) -> str:
        """Name of the class of an image, empty where it has none."""
        return self.class_names[self.labels[row]] if self.labels[row] >= 0 else ""

    def place_of(self, row: int) -> Path:
        """Where the image lies."""
        return Path(self.images_dirs[self.origin[row]]) / self.paths[row]


def load(run: Run, which: str, images_dir: Path | None = None) -> Archive:
    """The archive of a run: "test" or "train" for those images, "all" for both and everything that was added.

    `images_dir` says where the images of the run are now, if not where they were. Raises UserError where the archive
    is empty or an addition was made by another model.
    """
    codes = run.codes
    rows = np.array([which in ("all", side) for side in codes.split], bool)
    parts = [(codes.codes[rows], codes.labels[rows], run.display_names)]
    paths = [path for path, used in zip(codes.paths, rows, strict=True) if used]
    counts = [len(paths)]
    images_dirs = [str(images_dir or run.setup["images_dir"] or "")]
    for path in sorted((run.folder / FOLDER).glob("*.npz")) if which == "all" else ():
        added = artifacts.read_addition(path)
        if added.bits != codes.bits or added.model_sha256 != run.files.get("model.keras"):
            raise UserError(f"{path} holds codes of another model than {run.folder}; remove it, or add it again")
        parts.append((added.codes, added.labels, added.class_names))
        paths += added.paths
        counts.append(len(added.paths))
        images_dirs.append(added.images_dir)
    if not paths:
        raise UserError(f"{run.folder} has no images in --archive={which}; there is nothing to search")
    labels, names = _merge([(labels, class_names) for _, labels, class_names in parts])
    return Archive(
        codes=np.concatenate([part for part, _, _ in parts]),
        bits=codes.bits,
        labels=labels,
        paths=paths,
        origin=np.repeat(np.arange(len(counts)), counts),
        images_dirs=images_dirs,
        class_names=names,
    )


def _merge(parts: list[tuple[np.ndarray, list[str]]]) -> tuple[np.ndarray, list[str]]:
    """Labels into one list of class names, in which equal names are one class."""
    names = list(dict.fromkeys(name for _, class_names in parts for name in class_names))
    place = {name: label for label, name in enumerate(names)}
    merged = [np.array([*(place[name] for name in class_names), -1])[labels] for labels, class_names in parts]
    return np.concatenate(merged), names
