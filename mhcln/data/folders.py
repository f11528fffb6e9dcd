"""Finding the images of a folder: by class folders, by class folders within `train/` and `test/`, or anywhere."""

import dataclasses
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError, is_printable
from mhcln.data.datasets import Dataset, recognise
from mhcln.data.listing import ENDINGS, Listing, list_folder
from mhcln.data.names import abbreviated, shown
from mhcln.data.parts import PARTS, are_parts, part_notes

_ENDINGS = ", ".join(ENDINGS)


@dataclasses.dataclass(frozen=True)
class Scan:
    """The images of a folder.

    Attributes:
        dataset: The data set that they belong to.
        images_dir: The folder.
        paths: Paths relative to it, with `/`, class by class.
        labels: `[n] int32`, -1 for images without classes.
        notes: Lines that the user should see: what was left out, what is missing.
    """

    dataset: Dataset
    images_dir: Path
    paths: list[str]
    labels: NDArray[np.int32]
    notes: list[str]


def scan(images_dir: Path, name: str | None = None) -> Scan:
    """Find the images of a folder of class folders, or of folders such as `train/` and `test/` that hold them.

    Args:
        images_dir: The folder.
        name: The data set: a known name, or any other for the user's own classes. If not given, the names of the
            class folders decide.

    Raises:
        UserError: There are no class folders or no images, they can be read in two ways, or a known data set does not
            have a class folder.
    """
    _require_folder(images_dir, "give --images_dir the folder that holds the class folders")
    top = list_folder(images_dir)
    inner = {folder: list_folder(images_dir / folder) for folder in top.folders}
    nested = _nested(images_dir, inner)
    if problem := _layout_problem(images_dir, top, inner, nested):
        raise UserError(problem)
    class_folders = {path: listing for part in nested.values() for path, listing in part.items()} or inner
    found: dict[str, list[str]] = defaultdict(list)
    for folder, listing in sorted(class_folders.items()):
        found[PurePosixPath(folder).name] += [f"{folder}/{image}" for image in listing.images]
    dataset, notes = recognise(images_dir, {folder: len(found[folder]) for folder in sorted(found)}, name)
    paths = [path for folder in dataset.folders for path in found[folder]]
    _require_printable(images_dir, paths)
    counts = [len(found[folder]) for folder in dataset.folders]
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    notes += part_notes(images_dir, paths) + _look_alike_notes(dataset.folders)
    if top.images:
        notes.append(f"{len(top.images)} images in no class folder are left out: {abbreviated(top.images)}")
    notes += _left_out_notes({"": top, **inner, **class_folders}, class_folders)
    return Scan(dataset, images_dir, paths, labels, notes)


def scan_unlabelled(images_dir: Path) -> Scan:
    """Find the images anywhere under a folder, without classes: their labels are -1.

    Raises:
        UserError: There are none.
    """
    _require_folder(images_dir, "give the folder that holds the images")
    found, repeated = _walk(images_dir)
    paths = ["/".join((*place, image)) for place, listing in found.items() for image in listing.images]
    if not paths:
        raise UserError(f"{images_dir} holds no images ({_ENDINGS}); give a folder that does")
    _require_printable(images_dir, paths)
    notes = _left_out_notes({"/".join(place): listing for place, listing in found.items()})
    if repeated:
        notes.append(f"links to folders that are read under another path are left out: {abbreviated(repeated)}")
    dataset = Dataset(images_dir.resolve().name, (), (), ())
    return Scan(dataset, images_dir, paths, np.full(len(paths), -1, np.int32), notes)


def first_image(folder: Path) -> str | None:
    """Return the path of one image under a folder, relative to it; None if there is none."""
    found, _ = _walk(folder)
    paths = ("/".join((*place, image)) for place, listing in found.items() for image in listing.images)
    return next(paths, None)


def _require_folder(images_dir: Path, advice: str) -> None:
    if not images_dir.is_dir():
        raise UserError(f"{shown(str(images_dir))} is not a folder; {advice}")


def _require_printable(images_dir: Path, paths: Iterable[str]) -> None:
    bad = [path for path in paths if not is_printable(path)]
    if bad:
        count = "an image whose path" if len(bad) == 1 else f"{len(bad)} images whose paths"
        reason = "cannot be printed (control characters, or not UTF-8)"
        raise UserError(f"{shown(str(images_dir))} holds {count} {reason}, first {bad[0]!r}; rename what is at fault")


def _nested(images_dir: Path, inner: Mapping[str, Listing]) -> dict[str, dict[str, Listing]]:
    """Return the class folders, by path, of each folder that has some with images, and no images of its own."""
    searched = [folder for folder, listing in inner.items() if not listing.images]
    if len(searched) < len(inner):  # there are class folders: only what is called train or test can have others
        searched = [folder for folder in searched if folder.casefold() in PARTS]
    found = {}
    for folder in searched:
        listings = {f"{folder}/{name}": list_folder(images_dir / folder / name) for name in inner[folder].folders}
        if any(listing.images for listing in listings.values()):
            found[folder] = listings
    return found


def _layout_problem(
    images_dir: Path, top: Listing, inner: Mapping[str, Listing], nested: Mapping[str, object]
) -> str | None:
    """Return why a folder is no data set, and what to do; None if it is one.

    Args:
        images_dir: The folder.
        top: What it holds.
        inner: What each of its folders holds.
        nested: Those of its folders that hold class folders.
    """
    flat = [folder for folder, listing in inner.items() if listing.images]
    unlabelled = "take them without classes by --unlabelled"
    if flat and nested:
        return (
            f"{images_dir} holds images in {abbreviated(flat)}, but class folders in {abbreviated(list(nested))}; move "
            f"one kind away, or give one folder of class folders: --images_dir={images_dir / next(iter(nested))}"
        )
    if nested:
        return None if are_parts(nested) else _inner_data_sets(images_dir, list(nested))
    if flat:
        parts = (
            f"{images_dir} holds images in {abbreviated(flat)}, but no class folders there; sort them, or {unlabelled}"
        )
        return parts if are_parts(flat) else None
    if top.images:
        return f"{images_dir} holds images but no class folders; sort them into one folder a class, or {unlabelled}"
    return f"{images_dir} holds no class folders with images ({_ENDINGS}); see the README for the layout"


def _inner_data_sets(images_dir: Path, folders: list[str]) -> str:
    if len(folders) == 1:
        inner = images_dir / folders[0]
        return f"{images_dir} holds no class folders with images, but {inner} does; give --images_dir={inner}"
    return (
        f"{images_dir} holds no class folders with images, but {abbreviated(folders)} in it do; give one of them with "
        "--images_dir, or call them train and test (and val) if they are one data set"
    )


def _walk(images_dir: Path) -> tuple[dict[tuple[str, ...], Listing], list[str]]:
    """List all folders under one, each once, those behind links too; a folder's own path goes before that of a link.

    Returns:
        What each folder holds by the names on its way, sorted, and the links to folders that have another path.
    """
    found: dict[tuple[str, ...], Listing] = {}
    repeated: list[str] = []
    seen: set[tuple[int, int]] = set()
    level: list[tuple[str, ...]] = [()]
    while level:
        links: list[tuple[str, ...]] = []
        while level:
            place = level.pop()
            folder = images_dir.joinpath(*place)
            listing = list_folder(folder)
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                repeated.append("/".join(place))
                continue
            seen.add((status.st_dev, status.st_ino))
            found[place] = listing
            linked = set(listing.linked)
            for name in listing.folders:
                (links if name in linked else level).append((*place, name))
        level = sorted(links, reverse=True)
    return dict(sorted(found.items())), sorted(repeated)


def _look_alike_notes(folders: Iterable[str]) -> list[str]:
    alike: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        alike[unicodedata.normalize("NFC", folder).casefold()].append(folder)
    return [
        f"{' and '.join(names)} are classes whose names differ only in case or in the code of an accent"
        for names in alike.values()
        if len(names) > 1
    ]


def _left_out_notes(listings: Mapping[str, Listing], class_folders: Collection[str] = ()) -> list[str]:
    """Return lines about entries that are not read; folders within class folders are among them."""
    stray: list[str] = []
    dead: list[str] = []
    for folder, listing in listings.items():
        prefix = f"{folder}/" if folder else ""
        unread = sorted(listing.others + listing.folders) if folder in class_folders else listing.others
        stray += [prefix + name for name in unread]
        dead += [prefix + name for name in listing.dead]
    entries = "1 entry is not an image" if len(stray) == 1 else f"{len(stray)} entries are not images"
    notes = [f"{entries}: {abbreviated(stray)}"] if stray else []
    if dead:
        notes.append(f"links that lead nowhere are left out: {abbreviated(dead)}")
    return notes
