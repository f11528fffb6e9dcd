"""What a query is compared with: the codes of a training run, and those that were added to them later."""

import dataclasses
import itertools
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.storage import formats, layout
from mhcln.storage.archive_shards import (
    ArchiveShard,
    ShardEntry,
    allow_open_files,
    other_maker,
    read_entries,
    read_shard,
)
from mhcln.storage.features_file import no_lonlat
from mhcln.storage.files import PART
from mhcln.storage.formats import Addition
from mhcln.storage.paths import PathTable
from mhcln.storage.runs import Run
from mhcln.storage.vectors import UnavailableError, activations_of

Activations = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class ArchivePart:
    """Images of one folder that can be searched, in storage order.

    Attributes:
        codes: `[n, ceil(bits / 8)] uint8`, packed.
        labels: `[n]`, numbers into `class_names`; -1 for an image without a class.
        paths: Path of each image, relative to the folder.
        images_dir: The folder.
        class_names: Names of the classes, for people.
        lonlat: Where the images lie, as in `mhcln.storage.features_file.ImageTable`.
        activations: What the codes were cut from, `[n, bits]`; None if nothing says it, or `shard` does.
        shard: The shard that holds the images, and by which codes they are searched; None if they are in no shard.
    """

    codes: NDArray[np.uint8]
    labels: NDArray[np.int32]
    paths: PathTable
    images_dir: str
    class_names: list[str]
    lonlat: NDArray[np.float64] = dataclasses.field(default_factory=no_lonlat)
    activations: Activations | None = None
    shard: ArchiveShard | None = None

    def __len__(self) -> int:
        return len(self.codes)


@dataclasses.dataclass(frozen=True)
class Archive:
    """Images that can be searched, numbered through all parts in storage order.

    Attributes:
        parts: The images.
        bits: Bits of a code.
    """

    parts: Sequence[ArchivePart]
    bits: int

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First row of each part, and the number of rows."""
        return np.cumsum([0, *map(len, self.parts)])

    def class_of(self, row: int) -> str:
        """Return the name of an image's class, "" if it has none."""
        part, place = self._place_of(row)
        label = int(part.labels[place])
        return part.class_names[label] if label >= 0 else ""

    def images_dir_of(self, row: int) -> str:
        """Return the folder that the path of an image starts from."""
        return self._place_of(row)[0].images_dir

    def lonlat_of(self, row: int) -> NDArray[np.float64] | None:
        """Return `[5, 2]` degrees of an image's centre and corners, None if they are not known."""
        part, place = self._place_of(row)
        known = len(part.lonlat) and np.isfinite(part.lonlat[place]).all()
        return part.lonlat[place] if known else None

    def path_of(self, row: int) -> str:
        """Return the path of an image, relative to its folder."""
        part, place = self._place_of(row)
        return part.paths[place]

    def file_of(self, row: int) -> Path:
        """Return where an image lies."""
        return Path(self.images_dir_of(row)) / self.path_of(row)

    def rows_of(self, path: str) -> list[int]:
        """Return the rows of all images with a path."""
        starts = self.starts.tolist()
        parts = zip(starts, self.parts, strict=False)
        return [start + row for start, part in parts for row in part.paths.rows_of(path)]

    def classes(self) -> tuple[NDArray[np.int32], list[str]]:
        """Return the labels `[n]` of all images as numbers into one list of class names, and that list."""
        names = list(dict.fromkeys(name for part in self.parts for name in part.class_names))
        number_of = {name: number for number, name in enumerate(names)}
        numbers = [np.array([*(number_of[name] for name in part.class_names), -1], np.int32) for part in self.parts]
        merged = [new[part.labels] for new, part in zip(numbers, self.parts, strict=True)]
        return np.concatenate(merged), names

    def _place_of(self, row: int) -> tuple[ArchivePart, int]:
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[number], row - int(self.starts[number])


def load_archive(run: Run, which: str, class_names: list[str], images_dir: Path | None = None) -> Archive:
    """Open the archive of a run.

    Args:
        run: The run.
        which: "test", "train" or "database" for those images, "all" for them and everything that was added.
        class_names: Names of the run's classes, for people.
        images_dir: Where the run's images are now, if not where they were.

    Raises:
        UserError: The archive is empty, or an addition is missing or damaged, or was made by another model.
    """
    codes = run.codes
    rows = codes.rows_of(which)
    own = ArchivePart(
        codes=codes.codes[rows],
        labels=codes.labels[rows],
        paths=PathTable.of([codes.paths[row] for row in rows]),
        images_dir=str(images_dir or run.inputs.images_dir or ""),
        class_names=class_names,
        lonlat=codes.lonlat[rows] if len(codes.lonlat) else codes.lonlat,
        activations=_activations_of(run, rows),
    )
    archive = Archive([own, *(_added(run) if which == "all" else ())], codes.bits)
    if not len(archive):
        advice = f"add images with {layout.ADD}" if which == "all" else "choose another --archive"
        raise UserError(f"{run.folder} has no images in --archive={which}; {advice}")
    return archive


def _activations_of(run: Run, rows: NDArray[np.int64]) -> Activations | None:
    try:
        return activations_of(run)[rows]
    except UnavailableError:
        return None


def _added(run: Run) -> list[ArchivePart]:
    """Return what was added to the archive of a run, in the order of the names of the additions."""
    while True:
        entries = read_entries(run)
        allow_open_files(len(entries))
        try:
            parts = [(entry.source, _part_of_shard(entry, read_shard(run, entry))) for entry in entries]
            break
        except UserError:
            if read_entries(run) == entries:  # else another process has just replaced what was named here
                raise
    taken_over = {entry.source for entry in entries}
    # a name of both is one that a process was killed at between its last two steps: `mhcln.pipeline.additions`
    old = [path for path in addition_paths(run.folder) if path.stem not in taken_over]
    parts += [(path.stem, _part_of_addition(read_own_addition(path, run))) for path in old]
    return [part for _, part in sorted(parts, key=lambda part: part[0])]


def _part_of_shard(entry: ShardEntry, shard: ArchiveShard) -> ArchivePart:
    return ArchivePart(
        codes=shard.codes,
        labels=shard.labels,
        paths=entry.paths_of(shard),
        images_dir=entry.images_dir,
        class_names=entry.class_names,
        lonlat=shard.lonlat,
        shard=shard,
    )


def _part_of_addition(added: Addition) -> ArchivePart:
    return ArchivePart(
        codes=added.codes,
        labels=added.labels,
        paths=PathTable.of(added.paths),
        images_dir=added.images_dir,
        class_names=added.class_names,
        lonlat=added.lonlat,
        activations=added.activations if added.activations.size else None,
    )


def addition_name(stem: str, images_dir_of: dict[str, str | None], images_dir: str) -> str:
    """Return the name of an addition: `stem`, numbered if an addition of that name is of another folder.

    Args:
        stem: The name that is wanted.
        images_dir_of: Folder of the images of each addition; None of a damaged one, which may be replaced as the
            message about it advises.
        images_dir: Folder of the images that are added.
    """
    names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
    return next(name for name in names if images_dir_of.get(name, images_dir) in (images_dir, None))


def addition_paths(run_dir: Path) -> list[Path]:
    """Return the files of additions that earlier versions made, one for each, sorted by name."""
    # what a killed --add left half-written is not an addition
    return sorted(path for path in (run_dir / layout.ARCHIVES).glob("*.npz") if not path.name.startswith(PART))


def read_own_addition(path: Path, run: Run) -> Addition:
    """Read an addition that an earlier version made; raises UserError if it is damaged, or of another model."""
    added = formats.read_addition(path)
    if problem := other_maker(run, added):
        raise UserError(f"{path} {problem}; remove it, or add its images again with {layout.ADD}")
    return added
