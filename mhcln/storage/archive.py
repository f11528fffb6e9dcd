"""What a query is compared with: the codes of a training run, and those that were added to them later."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.storage import formats, layout
from mhcln.storage.files import PART
from mhcln.storage.formats import Addition
from mhcln.storage.runs import Run
from mhcln.storage.vectors import UnavailableError, activations_of

Activations = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Archive:
    """Images that can be searched, row by row in storage order.

    Attributes:
        codes: `[n, ceil(bits / 8)] uint8`, packed.
        bits: Bits of a code.
        labels: `[n]`, numbers into `class_names`; -1 for an image without a class.
        paths: Path of each image, relative to its folder.
        folders: `[n]`, numbers into `images_dirs`.
        images_dirs: Folders that the paths start from.
        class_names: Names of the classes, for people.
        activations: What the codes were cut from: `[m, bits]` for the m images of each folder, None if nothing says it.
        lonlat: Where the images lie, as in `mhcln.storage.formats.ImageTable`.
    """

    codes: NDArray[np.uint8]
    bits: int
    labels: NDArray[np.int32]
    paths: list[str]
    folders: NDArray[np.int32]
    images_dirs: list[str]
    class_names: list[str]
    activations: Sequence[Activations | None] = ()
    lonlat: NDArray[np.float64] = dataclasses.field(default_factory=formats.no_lonlat)

    def __len__(self) -> int:
        return len(self.codes)

    def class_of(self, row: int) -> str:
        """Return the name of an image's class, "" if it has none."""
        label = int(self.labels[row])
        return self.class_names[label] if label >= 0 else ""

    def images_dir_of(self, row: int) -> str:
        """Return the folder that the path of an image starts from."""
        return self.images_dirs[int(self.folders[row])]

    def lonlat_of(self, row: int) -> NDArray[np.float64] | None:
        """Return `[5, 2]` degrees of an image's centre and corners, None if they are not known."""
        known = len(self.lonlat) and np.isfinite(self.lonlat[row]).all()
        return self.lonlat[row] if known else None

    def file_of(self, row: int) -> Path:
        """Return where an image lies."""
        return Path(self.images_dir_of(row)) / self.paths[row]


def load_archive(run: Run, which: str, class_names: list[str], images_dir: Path | None = None) -> Archive:
    """Read the archive of a run.

    Args:
        run: The run.
        which: "test", "train" or "database" for those images, "all" for them and everything that was added.
        class_names: Names of the run's classes, for people.
        images_dir: Where the run's images are now, if not where they were.

    Raises:
        UserError: The archive is empty, or an addition is damaged or was made by another model.
    """
    codes = run.codes
    rows = codes.rows_of(which)
    parts = [
        Addition(
            codes=codes.codes[rows],
            bits=codes.bits,
            labels=codes.labels[rows],
            paths=[codes.paths[row] for row in rows],
            class_names=class_names,
            images_dir=str(images_dir or run.inputs.images_dir or ""),
            extractor=run.inputs.extractor or "",
            model_sha256=run.files.get(layout.MODEL, ""),
            lonlat=_filled(codes.lonlat, len(codes.paths))[rows],
        )
    ]
    activations: list[Activations | None] = [_activations_of(run, rows)]
    if which == "all":
        parts += [_read_addition(path, run) for path in _addition_paths(run.folder)]
        activations += [part.activations if part.activations.size else None for part in parts[1:]]
    sizes = [len(part.paths) for part in parts]
    if not sum(sizes):
        advice = f"add images with {layout.ADD}" if which == "all" else "choose another --archive"
        raise UserError(f"{run.folder} has no images in --archive={which}; {advice}")
    labels, names = _merge_classes(parts)
    return Archive(
        codes=np.concatenate([part.codes for part in parts]),
        bits=codes.bits,
        labels=labels,
        paths=list(itertools.chain.from_iterable(part.paths for part in parts)),
        folders=np.repeat(np.arange(len(parts), dtype=np.int32), sizes),
        images_dirs=[part.images_dir for part in parts],
        class_names=names,
        activations=activations,
        lonlat=np.concatenate([_filled(part.lonlat, len(part.paths)) for part in parts]),
    )


def _activations_of(run: Run, rows: NDArray[np.int64]) -> Activations | None:
    try:
        return activations_of(run)[rows]
    except UnavailableError:
        return None


def _filled(lonlat: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return where `n` images lie, NaN for each if nothing is known of any."""
    return lonlat if len(lonlat) else np.full((n, 5, 2), np.nan)


def addition_path(run_dir: Path, name: str, images_dir: str) -> Path:
    """Return where a run keeps an addition: by `name`, numbered if that file holds images of another folder.

    A damaged file is replaced, as the message about it advises.
    """
    stem = layout.stem(name)
    names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
    paths = (run_dir / layout.ARCHIVES / f"{each}.npz" for each in names)
    return next(path for path in paths if not path.exists() or _images_dir_of(path) in (images_dir, None))


def _images_dir_of(path: Path) -> str | None:
    try:
        return formats.read_addition(path).images_dir
    except UserError:
        return None


def _addition_paths(run_dir: Path) -> list[Path]:
    # what a killed --add left half-written is not an addition
    return sorted(path for path in (run_dir / layout.ARCHIVES).glob("*.npz") if not path.name.startswith(PART))


def _read_addition(path: Path, run: Run) -> Addition:
    added = formats.read_addition(path)
    extractor = run.inputs.extractor
    if added.bits != run.codes.bits:
        what = f"codes of {added.bits} bits, those of {run.folder} have {run.codes.bits}"
    elif added.extractor != extractor:
        what = f"codes of features of {added.extractor!r}, {run.folder} was trained on {extractor!r}"
    elif added.model_sha256 != run.files.get(layout.MODEL):
        what = f"codes of another model than that of {run.folder}"
    else:
        return added
    raise UserError(f"{path} holds {what}; remove it, or add its images again with {layout.ADD}")


def _merge_classes(parts: list[Addition]) -> tuple[NDArray[np.int32], list[str]]:
    """Number the labels of all parts into one list of class names, in which equal names are one class."""
    names = list(dict.fromkeys(name for part in parts for name in part.class_names))
    number_of = {name: number for number, name in enumerate(names)}
    numbers = [np.array([*(number_of[name] for name in part.class_names), -1], np.int32) for part in parts]
    merged = [new[part.labels] for new, part in zip(numbers, parts, strict=True)]
    return np.concatenate(merged), names
