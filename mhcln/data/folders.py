"""Finding the images of a folder: by class folders, by class folders within `train/` and `test/`, or anywhere."""

import dataclasses
import heapq
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError, abbreviated, is_printable, shown
from mhcln.data.datasets import Dataset, recognise
from mhcln.data.splits import PARTS, parts_of

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_ENDINGS = ", ".join(ENDINGS)
# Folders that macOS adds to archives, Linux and Windows to disks, Synology to shared folders: they may hold images.
_SYSTEM_FOLDERS = ("__macosx", "lost+found", "system volume information", "$recycle.bin", "@eadir")


@dataclasses.dataclass(frozen=True)
class Scan:
    """The images of a folder.

    Attributes:
        dataset: The data set that they belong to.
        images_dir: The folder.
        paths: Paths relative to `images_dir`, with `/`, class by class.
        labels: `[n] int32`, -1 for images without classes.
        notes: Lines for the user about entries that are left out or missing.
    """

    dataset: Dataset
    images_dir: Path
    paths: list[str]
    labels: NDArray[np.int32]
    notes: list[str]


@dataclasses.dataclass(frozen=True)
class Listing:
    """The entries of a folder, as sorted names; a link counts as what it leads to.

    Attributes:
        images: Files with the ending of an image.
        folders: Folders.
        others: Other files, hidden entries, folders of the operating system, broken links.
    """

    images: list[str]
    folders: list[str]
    others: list[str]


def scan(images_dir: Path, name: str | None = None) -> Scan:
    """Find the images of a folder of class folders, or of folders such as `train/` and `test/` that hold them.

    Args:
        images_dir: The folder.
        name: The data set: a known name, or any other for the user's own classes. If not given, the names of the
            class folders decide.
    """
    _require_folder(images_dir, "give --images_dir the folder that holds the class folders")
    top = _list_folder(images_dir)
    inner = {folder: _list_folder(images_dir / folder) for folder in top.folders}
    nested = _nested(images_dir, inner)
    _require_layout(images_dir, top, inner, nested)
    class_folders = {path: listing for part in nested.values() for path, listing in part.items()} or inner
    found: dict[str, list[str]] = defaultdict(list)
    for folder, listing in sorted(class_folders.items()):
        found[PurePosixPath(folder).name] += [f"{folder}/{image}" for image in listing.images]
    dataset, notes = recognise(images_dir, {folder: len(found[folder]) for folder in sorted(found)}, name)
    paths = [path for folder in dataset.folders for path in found[folder]]
    _require_printable(images_dir, paths)
    counts = [len(found[folder]) for folder in dataset.folders]
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    notes += part_notes(images_dir, paths)
    if top.images:
        notes.append(f"{len(top.images)} images in no class folder are left out: {abbreviated(top.images)}")
    notes += _left_out_notes({"": top, **inner, **class_folders}, class_folders)
    return Scan(dataset, images_dir, paths, labels, notes)


def scan_unlabelled(images_dir: Path) -> Scan:
    """Find the images anywhere under a folder, without classes: their labels are -1."""
    _require_folder(images_dir, "give the folder that holds the images")
    found = _walk(images_dir)
    paths = _image_paths(found)
    if not paths:
        raise UserError(f"{images_dir} holds no images ({_ENDINGS}); give a folder that does")
    _require_printable(images_dir, paths)
    notes = _left_out_notes(found)
    dataset = Dataset(images_dir.resolve().name, (), (), ())
    return Scan(dataset, images_dir, paths, np.full(len(paths), -1, np.int32), notes)


def first_image(folder: Path) -> str | None:
    """Return the path of one image under a folder, relative to it; None if there is none."""
    return next(iter(_image_paths(_walk(folder))), None)


def _image_paths(listings: Mapping[str, Listing]) -> list[str]:
    return [_joined(folder, image) for folder, listing in listings.items() for image in listing.images]


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _require_folder(images_dir: Path, advice: str) -> None:
    if not images_dir.is_dir():
        raise UserError(f"{shown(str(images_dir))} is not a folder; {advice}")


def _require_printable(images_dir: Path, paths: Iterable[str]) -> None:
    bad = [path for path in paths if not is_printable(path)]
    if bad:
        raise UserError(
            f"{shown(str(images_dir))} holds {len(bad)} images whose paths cannot be printed (control characters, or "
            f"not UTF-8), first {bad[0]!r}; rename them"
        )


def _nested(images_dir: Path, inner: Mapping[str, Listing]) -> dict[str, dict[str, Listing]]:
    """Return the class folders, by path, of each folder that has some with images, and no images of its own."""
    searched = [folder for folder, listing in inner.items() if not listing.images]
    if len(searched) < len(inner):  # there are class folders: only folders called train, val or test can hold others
        searched = [folder for folder in searched if folder.casefold() in PARTS]
    found = {}
    for folder in searched:
        listings = {f"{folder}/{name}": _list_folder(images_dir / folder / name) for name in inner[folder].folders}
        if any(listing.images for listing in listings.values()):
            found[folder] = listings
    return found


def _require_layout(images_dir: Path, top: Listing, inner: Mapping[str, Listing], nested: Mapping[str, object]) -> None:
    """Require class folders in a folder, or in its parts.

    Args:
        images_dir: The folder.
        top: Its entries.
        inner: The entries of each of its folders.
        nested: The folders among these that hold class folders.
    """
    flat, layered = [folder for folder, listing in inner.items() if listing.images], list(nested)
    sort = "sort them into one folder a class, or take them without classes by --unlabelled"
    if not flat and not layered:
        if top.images:
            raise UserError(f"{images_dir} holds images but no class folders; {sort}")
        raise UserError(f"{images_dir} holds no class folders with images ({_ENDINGS}); see the README for the layout")
    if flat and layered:
        raise UserError(
            f"{images_dir} holds images in {abbreviated(flat)}, but class folders in {abbreviated(layered)}; move one "
            f"kind away, or give one of the latter: --images_dir={images_dir / layered[0]}"
        )
    if _are_parts(flat):
        raise UserError(f"{images_dir} holds images in {abbreviated(flat)}, but no class folders there; {sort}")
    if layered and not _are_parts(layered):
        parts = "call them train and test (and val) if they are one data set, or " if len(layered) > 1 else ""
        raise UserError(
            f"{images_dir} holds class folders only in {abbreviated(layered)}; {parts}give one of them: "
            f"--images_dir={images_dir / layered[0]}"
        )


def _are_parts(folders: Iterable[str]) -> bool:
    """Return whether folders of these names hold the parts of one data set: two or more, and nothing else."""
    parts = {PARTS.get(folder.casefold()) for folder in folders}
    return None not in parts and len(parts) > 1


def part_notes(images_dir: Path, paths: Sequence[str]) -> list[str]:
    """Return lines about the parts of a data set and the classes that some lack; none if it has no parts."""
    parts = parts_of(paths)
    if not parts:
        return []
    counts = ", ".join(f"{part} {len(found):,}" for part, found in parts.items())
    classes = {part: {path.split("/")[-2] for path in found} for part, found in parts.items()}
    every = set().union(*classes.values())
    advice = ", which dataset_generator.py takes with --rule=folders" if "train" in parts else ""
    notes = [f"{images_dir} comes with a split{advice}: {counts} images"]
    for part, present in classes.items():
        if absent := sorted(every - present):
            notes.append(f"{len(absent)} of {len(every)} classes have no images in {part}: {abbreviated(absent)}")
    return notes


def _list_folder(folder: Path) -> Listing:
    listing = Listing([], [], [])
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                _names_of_kind(listing, entry).append(entry.name)
    except OSError as error:
        name = shown(str(folder))
        raise UserError(f"{name} cannot be opened ({error.strerror}); make it readable, or move it away") from None
    return listing


def _names_of_kind(listing: Listing, entry: "os.DirEntry[str]") -> list[str]:
    """Return the names in a listing that an entry belongs to."""
    if entry.name.startswith("."):
        return listing.others
    # is_dir and Path.is_dir fail on links that lead to themselves or to where the user may not look
    if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry)):  # noqa: PTH112
        return listing.others if entry.name.casefold() in _SYSTEM_FOLDERS else listing.folders
    return listing.images if entry.name.lower().endswith(ENDINGS) else listing.others


def _walk(images_dir: Path) -> dict[str, Listing]:
    """Return the entries of all folders under one, by path: each folder once, by its path without links."""
    found: dict[tuple[str, ...], Listing] = {}
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[int, tuple[str, ...]]] = [(0, ())]
    while waiting:
        links, parts = heapq.heappop(waiting)  # a folder with few links on its way goes first
        folder = images_dir.joinpath(*parts)
        listing, status = _list_folder(folder), folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        found[parts] = listing
        for name in listing.folders:
            heapq.heappush(waiting, (links + (folder / name).is_symlink(), (*parts, name)))
    return {"/".join(parts): found[parts] for parts in sorted(found)}


def _left_out_notes(listings: Mapping[str, Listing], class_folders: Collection[str] = ()) -> list[str]:
    """Return a line about entries that are not read; folders within class folders are among them."""
    stray: list[str] = []
    for folder, listing in listings.items():
        unread = sorted(listing.others + listing.folders) if folder in class_folders else listing.others
        stray += [_joined(folder, name) for name in unread]
    return [f"{len(stray)} entries are not images: {abbreviated(stray)}"] if stray else []
