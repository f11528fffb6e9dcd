"""Changes of the archive of a run: shards of images are added or removed, and a new list makes the changes count."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.hamming.codes import lay_out, points_of
from mhcln.storage import layout
from mhcln.storage.archive import read_entries, read_shard, write_entries, write_shard
from mhcln.storage.coded_images import CodedImages
from mhcln.storage.file_list import ListedFile
from mhcln.storage.image_table import ImageTable
from mhcln.storage.runs import Run

# Images of a shard. A search of 100 million then opens 96 files; an addition fills the last shard, and writes 200 MB
# anew at most.
ARCHIVE_SHARD_IMAGES = 1 << 20


def coded(images: ImageTable, activations: NDArray[np.float32]) -> CodedImages:
    """Return images with the codes and levels of their activations `[n, K]`, both in storage order."""
    points = points_of(activations)
    return CodedImages.of(images, points.codes, activations.shape[1], levels=points.levels)


class ArchiveWriter:
    """Adds and removes images of the archive of a run. Nothing counts before `commit`; the folder must be locked."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._entries = read_entries(run)
        self.commit()  # which removes the shards of a killed process

    def name_of(self, stem: str, images_dir: str) -> str:
        """Return the name of an addition: `stem`, numbered if an addition of that name is of another folder."""
        folder_of = {entry.source: entry.images_dir for entry in self._entries}
        names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
        return next(name for name in names if folder_of.get(name, images_dir) == images_dir)

    def name_of_folder(self, images_dir: str) -> str | None:
        """Return the name of the last addition with images of a folder, None if there is none."""
        return next((entry.source for entry in reversed(self._entries) if entry.images_dir == images_dir), None)

    def remove(self, name: str) -> bool:
        """Remove an addition; return whether there was one of that name."""
        kept = [entry for entry in self._entries if entry.source != name]
        removed, self._entries = len(kept) < len(self._entries), kept
        return removed

    def parts_of(self, images_dir: str) -> Iterator[tuple[ListedFile, CodedImages | None]]:
        """Yield each shard with images of a folder, None for one that is missing or damaged."""
        for entry in [entry for entry in self._entries if entry.images_dir == images_dir]:
            yield entry, self._readable(entry)

    def remove_images(self, images_dir: str, unwanted: Callable[[str], bool], damaged: bool = False) -> None:
        """Remove images of a folder from all additions.

        Args:
            images_dir: The folder.
            unwanted: Whether an image is to be removed, by its path.
            damaged: Whether shards that are missing or damaged are removed too; if not, searches refuse them.
        """
        for entry, images in self.parts_of(images_dir):
            if images is None:
                if damaged:
                    self._replace(entry, [])
                continue
            kept = [row for row, path in enumerate(images.paths) if not unwanted(path)]
            if len(kept) < len(images):
                self._replace(entry, [self._write(images.unsorted().at(kept), entry.source)] if kept else [])

    def append(self, name: str, images: CodedImages) -> None:
        """Add images, `levels` in storage order, to an addition, whose last shard is filled first."""
        last = next((entry for entry in reversed(self._entries) if entry.source == name), None)
        there = self._readable(last) if last is not None and last.images < ARCHIVE_SHARD_IMAGES else None
        same_classes = there is not None and (there.dataset, there.class_names) == (images.dataset, images.class_names)
        if last is not None and there is not None and same_classes:
            images = CodedImages.joined([there.unsorted(), images])
            self._replace(last, [])
        for start in range(0, len(images), ARCHIVE_SHARD_IMAGES):
            rows = np.arange(start, min(start + ARCHIVE_SHARD_IMAGES, len(images)))
            self._entries.append(self._write(images.at(rows), name))
        self._entries.sort(key=lambda entry: entry.source)  # stable: else in the order in which they came

    def commit(self) -> None:
        """Make the changes count at once; then remove the files that they replace."""
        write_entries(self._run, self._entries)

    def _readable(self, entry: ListedFile) -> CodedImages | None:
        with contextlib.suppress(UserError):
            return read_shard(self._run, entry)
        return None

    def _replace(self, entry: ListedFile, others: list[ListedFile]) -> None:
        number = self._entries.index(entry)
        self._entries[number : number + 1] = others

    def _write(self, images: CodedImages, source: str) -> ListedFile:
        laid_out = lay_out(images.codes)
        order = np.argsort(np.asarray(images.paths, np.str_), kind="stable").astype(np.uint32)
        content = dataclasses.replace(
            images,
            levels=images.levels[laid_out.rows],
            distinct=images.codes[laid_out.rows[laid_out.first[:-1]]],
            first=laid_out.first,
            rows=laid_out.rows,
            path_order=order,
            model_sha256=self._run.files.get(layout.MODEL, ""),
        )
        return write_shard(self._run, content, source)
