"""Hashed images into the archive of a run: they fill shards, which one replacement of the manifest adds."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.hamming.ordered import LaidOut, lay_out, quantise
from mhcln.storage import formats
from mhcln.storage.archive import ArchivePart, addition_name, addition_paths, read_own_addition
from mhcln.storage.archive_shards import ArchiveShard, ShardEntry, read_entries, read_shard, write_entries, write_shard
from mhcln.storage.formats import Addition
from mhcln.storage.paths import PathTable
from mhcln.storage.runs import Run

# Images of a shard. A search of 100 million then opens 96 files; what fills a shard writes it anew, 100 MB at most.
SHARD_IMAGES = 1 << 20
NO_STAMP = -2  # of an image whose file nobody looked at; -1 is that of a file that does not exist


@dataclasses.dataclass(frozen=True)
class Hashed:
    """Images with their codes, in storage order.

    Attributes:
        codes: `[n, b] uint8`, packed.
        levels: `[n, K] uint8`, activations in 256 steps; None if they are not known.
        labels: `[n] int32`, numbers into `class_names`; -1 for an image without a class.
        paths: Path of each image.
        class_names: Names of the classes, for people.
        stamps: `[n, 3] int64`, stamp of each file; `[0, 3]` if they are not known.
        lonlat: `[n, 5, 2]`, where the images lie; `[0, 5, 2]` if it is not known of any.
        float_scale: As in ImageTable.
    """

    codes: NDArray[np.uint8]
    levels: NDArray[np.uint8] | None
    labels: NDArray[np.int32]
    paths: list[str]
    class_names: list[str]
    stamps: NDArray[np.int64]
    lonlat: NDArray[np.float64]
    float_scale: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    def at(self, rows: NDArray[np.int64]) -> "Hashed":
        """Return some of the images."""
        return dataclasses.replace(
            self,
            codes=self.codes[rows],
            levels=None if self.levels is None else self.levels[rows],
            labels=self.labels[rows],
            paths=[self.paths[row] for row in rows],
            stamps=self.stamps[rows] if len(self.stamps) else self.stamps,
            lonlat=self.lonlat[rows] if len(self.lonlat) else self.lonlat,
        )

    def fits(self, more: "Hashed") -> bool:
        """Return whether these and more images may be of one shard."""
        return self.class_names == more.class_names and (self.levels is None) == (more.levels is None)

    def joined(self, more: "Hashed") -> "Hashed":
        """Return these images and more, which fit."""
        pair = (self, more)
        return Hashed(
            codes=np.concatenate([each.codes for each in pair]),
            levels=None if self.levels is None or more.levels is None else np.append(self.levels, more.levels, 0),
            labels=np.concatenate([each.labels for each in pair]),
            paths=self.paths + more.paths,
            class_names=self.class_names,
            stamps=_both(self.stamps, more.stamps, len(self), len(more), NO_STAMP),
            lonlat=_both(self.lonlat, more.lonlat, len(self), len(more), np.nan),
            float_scale=self.float_scale or more.float_scale,
        )


def _both(first: NDArray, second: NDArray, n: int, m: int, unknown: float) -> NDArray:  # type: ignore[type-arg]
    """Join arrays of n and m rows, either of which may have none if nothing is known."""
    if not len(first) and not len(second):
        return first
    filled = [
        array if len(array) else np.full((count, *array.shape[1:]), unknown, array.dtype)
        for array, count in ((first, n), (second, m))
    ]
    return np.concatenate(filled)


def hashed_addition(added: Addition) -> Hashed:
    """Return the images of an addition that an earlier version made."""
    levels = quantise(added.activations) if added.activations.size else None
    stamps = np.empty((0, 3), np.int64)
    return Hashed(added.codes, levels, added.labels, added.paths, added.class_names, stamps, added.lonlat)


def laid_out(part: ArchivePart) -> LaidOut:
    """Return the images of a part of an archive as they are searched."""
    shard = part.shard
    if shard is None:
        return lay_out(part.codes, None if part.activations is None else quantise(part.activations))
    return LaidOut(shard.codes, shard.distinct, shard.first, shard.rows, shard.levels if len(shard.levels) else None)


class ArchiveWriter:
    """Changes what was added to the archive of a run; nothing counts before `commit`. Its folder must be locked.

    Files of additions that earlier versions made are taken over into shards.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._entries = read_entries(run)
        write_entries(run, self._entries)  # a first shard without a manifest would look like a lost one
        self._images_dir_of: dict[str, str | None] = {entry.source: entry.images_dir for entry in self._entries}
        for path in addition_paths(run.folder):
            if path.stem not in self._images_dir_of:
                self._take_over(path)

    def _take_over(self, path: Path) -> None:
        """Make shards of an addition, unless it is damaged or of another model: then it stays, and is refused."""
        self._images_dir_of[path.stem] = None
        try:
            self._images_dir_of[path.stem] = formats.read_addition(path).images_dir
            added = read_own_addition(path, self._run)
        except UserError:
            return
        self.append(path.stem, added.images_dir, hashed_addition(added))

    def name_of(self, stem: str, images_dir: str) -> str:
        """Return the name of the addition that images of a folder belong to."""
        return addition_name(stem, self._images_dir_of, images_dir)

    def name_of_folder(self, stem: str, images_dir: str) -> str:
        """Return the name of the last addition with images of a folder; a new one if there is none."""
        names = [entry.source for entry in self._entries if entry.images_dir == images_dir]
        return names[-1] if names else self.name_of(stem, images_dir)

    def has(self, name: str) -> bool:
        """Return whether there is an addition of that name."""
        return name in self._images_dir_of

    def float_scales(self, images_dir: str) -> list[str]:
        """Return the scales of float images among those of a folder."""
        return [each.float_scale for each in self._entries if each.images_dir == images_dir and each.float_scale]

    def remove(self, name: str) -> None:
        """Remove an addition."""
        self._entries = [entry for entry in self._entries if entry.source != name]

    def unchanged(self, images_dir: str, stamp_of: Mapping[str, tuple[int, ...]]) -> set[str]:
        """Return the paths of the images of a folder that are there with just these stamps."""
        found: set[str] = set()
        for entry in self._of_folder(images_dir):
            shard = self._readable(entry)
            if shard is not None and len(shard.stamps):
                stamps = zip(entry.paths_of(shard), map(tuple, shard.stamps.tolist()), strict=True)
                found.update(path for path, stamp in stamps if stamp_of.get(path) == stamp)
        return found

    def remove_images(self, images_dir: str, unwanted: Callable[[str], bool], unreadable: bool = False) -> None:
        """Remove images of a folder, whatever addition they are of.

        Args:
            images_dir: The folder.
            unwanted: Whether an image is to be removed, by its path.
            unreadable: Whether shards that are missing or damaged are removed too; else they stay, and are refused.
        """
        for entry in self._of_folder(images_dir):
            shard = self._readable(entry)
            if shard is None:
                if unreadable:
                    self._replace(entry, [])
                continue
            kept = np.array([row for row, path in enumerate(entry.paths_of(shard)) if not unwanted(path)], np.int64)
            if len(kept) < len(shard):
                self._replace(entry, [self._write(entry, _hashed(entry, shard).at(kept))] if len(kept) else [])

    def append(self, name: str, images_dir: str, images: Hashed) -> None:
        """Add images behind those of an addition, whose last shard is filled first."""
        last = next((entry for entry in reversed(self._entries) if entry.source == name), None)
        shard = self._readable(last) if last is not None and last.images < SHARD_IMAGES else None
        if last is not None and shard is not None and (there := _hashed(last, shard)).fits(images):
            images = there.joined(images)
            self._replace(last, [])
        self._images_dir_of[name] = images_dir
        about = ShardEntry(name, images_dir, images.class_names, images.float_scale)
        for start in range(0, len(images), SHARD_IMAGES):
            rows = np.arange(start, min(start + SHARD_IMAGES, len(images)))
            self._entries.append(self._write(about, images.at(rows)))
        self._entries.sort(key=lambda entry: entry.source)  # stable: else in the order in which they came

    def commit(self) -> None:
        """Make the changes at once; then remove what they replace."""
        write_entries(self._run, self._entries)
        named = {entry.source for entry in self._entries}
        for path in addition_paths(self._run.folder):
            if path.stem in named:
                path.unlink()

    def _of_folder(self, images_dir: str) -> list[ShardEntry]:
        return [entry for entry in self._entries if entry.images_dir == images_dir]

    def _readable(self, entry: ShardEntry) -> ArchiveShard | None:
        try:
            return read_shard(self._run, entry)
        except UserError:
            return None

    def _replace(self, entry: ShardEntry, others: list[ShardEntry]) -> None:
        place = self._entries.index(entry)
        self._entries[place : place + 1] = others

    def _write(self, about: ShardEntry, images: Hashed) -> ShardEntry:
        """Write images as a shard of an addition."""
        parts, paths = lay_out(images.codes, images.levels), PathTable.of(images.paths)
        levels = parts.levels if parts.levels is not None else np.empty((0, self._run.codes.bits), np.uint8)
        shard = ArchiveShard(
            *(parts.codes, parts.distinct, parts.first, parts.rows, levels, images.labels.astype(np.int32)),
            *(paths.content, paths.starts, paths.order, images.stamps, images.lonlat),
        )
        first, last = paths.bounds
        return write_shard(self._run, shard, dataclasses.replace(about, first_path=first, last_path=last))


def _hashed(entry: ShardEntry, shard: ArchiveShard) -> Hashed:
    """Return the images of a shard."""
    parts = LaidOut(shard.codes, shard.distinct, shard.first, shard.rows, shard.levels if len(shard.levels) else None)
    return Hashed(
        *(shard.codes, parts.levels_by_row(), shard.labels, list(entry.paths_of(shard))),
        *(entry.class_names, shard.stamps, shard.lonlat, entry.float_scale),
    )
