"""The archive of a run: its own codes, and shards of images that were added to them later.

K32/archives/
  archive.json            the list of the shards, in storage order
  shards/00000001.npz     up to a million coded images with their sort order, which are mapped
"""

from __future__ import annotations

import contextlib
import dataclasses
import resource
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.coded_images import CodedImages, build_shard
from mhcln.storage.file_list import ListedFile, entry_of, read_list, write_list
from mhcln.storage.npz import DamagedError, map_arrays
from mhcln.storage.runs import Run
from mhcln.storage.source import Source, write_npz_content

MADE_BY = f"{layout.HASH} or {layout.ADD}"


@dataclasses.dataclass(frozen=True)
class Archive:
    """Images that can be searched, numbered through all parts in storage order.

    Attributes:
        parts: The images.
        bits: Bits of a code.
    """

    parts: Sequence[CodedImages]
    bits: int

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First row of each part, and the number of rows."""
        return np.cumsum([0, *map(len, self.parts)])

    def class_of(self, row: int) -> str:
        """Return the name of an image's class, "" if it has none."""
        part, inner = self._part_of(row)
        label = int(part.labels[inner])
        return part.class_names[label] if label >= 0 else ""

    def images_dir_of(self, row: int) -> str:
        """Return the folder that the path of an image starts from."""
        return self._part_of(row)[0].images_dir

    def lonlat_of(self, row: int) -> NDArray[np.float64] | None:
        """Return `[5, 2]` degrees of an image's centre and corners, None if they are not known."""
        part, inner = self._part_of(row)
        known = len(part.lonlat) and np.isfinite(part.lonlat[inner]).all()
        return part.lonlat[inner] if known else None

    def path_of(self, row: int) -> str:
        """Return the path of an image, relative to its folder."""
        part, inner = self._part_of(row)
        return str(part.paths[inner])

    def file_of(self, row: int) -> Path:
        """Return the file of an image."""
        return Path(self.images_dir_of(row)) / self.path_of(row)

    def rows_of(self, path: str) -> list[int]:
        """Return the rows of all images with a path."""
        starts = self.starts.tolist()
        parts = zip(starts, self.parts, strict=False)
        return [start + row for start, part in parts for row in part.rows_of_path(path)]

    def classes(self) -> tuple[NDArray[np.int32], list[str]]:
        """Return the labels `[n]` of all images as numbers into one list of class names, and that list."""
        names = list(dict.fromkeys(name for part in self.parts for name in part.class_names))
        number_of = {name: number for number, name in enumerate(names)}
        numbers = [np.array([*(number_of[name] for name in part.class_names), -1], np.int32) for part in self.parts]
        merged = [new[part.labels] for new, part in zip(numbers, self.parts, strict=True)]
        return np.concatenate(merged), names

    def _part_of(self, row: int) -> tuple[CodedImages, int]:
        """Return the part that holds a row, and the row within it."""
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[number], row - int(self.starts[number])


def read_entries(run: Run) -> list[ListedFile]:
    """Read which shards the archive of a run has, in storage order; none if nothing was added."""
    folder = run.folder / layout.ARCHIVES
    path, again = folder / layout.ARCHIVE_LIST, f"{MADE_BY} once {folder} is deleted"
    if any(folder.glob("*.npz")):
        raise UserError(f"{folder} holds images that an earlier version added; add them again with {again}")
    if not path.exists() and not any(_shards(run).glob("*.npz")):
        return []
    return read_list(path, again)


def write_entries(run: Run, entries: Sequence[ListedFile]) -> None:
    """Make these the shards of an archive at once, and remove all other files."""
    write_list(run.folder / layout.ARCHIVES / layout.ARCHIVE_LIST, _shards(run), entries)


def write_shard(run: Run, images: CodedImages, source: str) -> ListedFile:
    """Write a shard, which belongs to the archive once `write_entries` names it.

    Args:
        run: The run.
        images: The images, with their sort order.
        source: Name of the addition that they belong to.
    """
    folder = _shards(run)
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(path.stem) for path in folder.glob("*.npz") if path.stem.isdecimal()), default=0)
    path = folder / f"{number:08}.npz"
    write_npz_content(path, images, aligned=True)
    return entry_of(path, len(images), source, images.images_dir)


def read_shard(run: Run, entry: ListedFile) -> CodedImages:
    """Map a shard.

    A file with the listed size and time of change counts as unchanged; any other is compared with its checksum.
    """
    path = _shards(run) / entry.file
    of_images = f"the images of {entry.source!r}" + (f" in {entry.images_dir}" if entry.images_dir else "")
    if problem := entry.problem(path.parent, trust_times=True):
        raise UserError(f"{path} {problem}; add {of_images} again with {MADE_BY}")
    source = Source(path, MADE_BY, mapped=True)
    try:
        with path.open("rb") as handle:
            arrays = map_arrays(handle)
    except DamagedError as error:
        raise UserError(f"{path} is damaged ({error}); add {of_images} again with {MADE_BY}") from error
    images = build_shard(source, source.of_this_format(arrays))
    source.require(len(images) == entry.images, f"it holds {len(images)} images, its list says {entry.images}")
    if problem := _other_maker(run, images):
        raise UserError(f"{path} {problem}; add {of_images} again with {MADE_BY}")
    return images


def read_shards(run: Run) -> list[CodedImages]:
    """Map all shards of the archive of a run, in storage order."""
    _allow_open_files()
    while True:
        entries = read_entries(run)
        try:
            return [read_shard(run, entry) for entry in entries]
        except UserError:
            if read_entries(run) == entries:  # else another process has just replaced what was listed
                raise


def _shards(run: Run) -> Path:
    return run.folder / layout.ARCHIVES / layout.ARCHIVE_SHARDS


def _allow_open_files() -> None:
    """Let this process open as many files as the system allows, since each map is one: the usual limit is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # macOS has another limit, below an infinite one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _other_maker(run: Run, images: CodedImages) -> str:
    """Return how the codes differ from the codes of a run; "" if bits, extractor and network are the same."""
    if images.bits != run.codes.bits:
        return f"holds codes of {images.bits} bits, {run.folder} has codes of {run.codes.bits}"
    if images.extractor != run.inputs.extractor:
        return f"holds codes of features of {images.extractor!r}, {run.folder} was trained on {run.inputs.extractor!r}"
    if images.model_sha256 != run.files.get(layout.MODEL):
        return f"holds codes of another model than {run.folder}"
    return ""
