"""What a data set is: class folders of images. The folder names say which data set it is, and an image's class."""

import dataclasses
import functools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.storage.files import parse_json

REPO_ROOT = Path(__file__).resolve().parents[2]
ENDINGS = frozenset((".tif", ".tiff", ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"))
# What the README of the published code trains for; a data set of its own may say otherwise in its dataset.json.
ITERATIONS = 10_000


@dataclasses.dataclass(frozen=True)
class Published:
    """A result from the literature, with the source where it can be read."""

    method: str
    metric: str
    bits: int
    value: float
    source: str


_PUBLISHED = tuple(field.name for field in dataclasses.fields(Published))


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set.

    Attributes:
        name: Its name.
        class_names: Names of the classes in label order.
        folders: Folder of each class.
        display_names: Name of each class for people.
        images: Number of images that each class has in a correct copy.
        iterations: Iterations of the published training.
        published: Results from the literature.
    """

    name: str
    class_names: tuple[str, ...]
    folders: tuple[str, ...]
    display_names: tuple[str, ...]
    images: tuple[int, ...] = ()
    iterations: int = ITERATIONS
    published: tuple[Published, ...] = ()


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


@functools.cache
def known() -> dict[str, Dataset]:
    """Return the data sets that this software knows by name, from their `dataset.json`."""
    return {dataset.name: dataset for dataset in map(read_dataset, sorted(REPO_ROOT.glob("*/dataset.json")))}


def load(name: str, class_names: Iterable[str] = ()) -> Dataset:
    """Return the known data set of that name, or one of the user's own with these class names."""
    return known().get(name) or _custom(name, list(class_names))


def display_names(dataset: str | None, class_names: Sequence[str]) -> list[str]:
    """Return the names of classes for people: those of the known data set if `dataset` names one."""
    described = load(dataset or "", class_names)
    names = dict(zip(described.class_names, described.display_names, strict=True))
    return [names.get(name, name) for name in class_names]


def _custom(name: str, class_names: list[str]) -> Dataset:
    display = tuple(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).replace("_", " ") for text in class_names)
    return Dataset(name, tuple(class_names), tuple(class_names), display)


def read_dataset(path: Path) -> Dataset:
    """Read a `dataset.json`.

    Raises:
        UserError: Something is missing, or of another type.
    """
    content: dict[str, Any] = parse_json(path, "git checkout")
    try:
        classes = content["classes"]
        dataset = Dataset(
            name=content["name"],
            class_names=tuple(entry["name"] for entry in classes),
            folders=tuple(entry["folder"] for entry in classes),
            display_names=tuple(entry["display"] for entry in classes),
            images=tuple(entry["images"] for entry in classes),
            iterations=content["iterations"],
            published=tuple(Published(**{name: entry[name] for name in _PUBLISHED}) for entry in content["published"]),
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a data set's description ({error!r}); compare it with UCMD/dataset.json"
        ) from None
    texts = (dataset.name, *dataset.class_names, *dataset.folders, *dataset.display_names)
    numbers = (dataset.iterations, *dataset.images)
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        raise UserError(f"{path} has a name that is not text or a count that is not whole; correct it")
    if len(set(dataset.folders)) < len(classes) or len(set(dataset.class_names)) < len(classes):
        raise UserError(f"{path} names a class twice; correct it")
    return dataset


def scan(images_dir: Path, name: str | None = None) -> Scan:
    """Find the images under a folder of class folders.

    Args:
        images_dir: The folder.
        name: The data set: a known name, or any other for the user's own classes. If not given, the names of the
            class folders decide.

    Raises:
        UserError: There are no class folders or no images, or a known data set does not have a class folder.
    """
    if not images_dir.is_dir():
        raise UserError(f"{images_dir} is not a folder; give --images_dir the folder that holds the class folders")
    folders, stray = _class_folders(images_dir)
    found = {folder: _images(images_dir / folder) for folder in folders}
    if not any(images for images, _ in found.values()):
        raise UserError(_nothing_found(images_dir, folders))
    dataset, notes = _recognise(images_dir, {folder: len(images) for folder, (images, _) in found.items()}, name)
    paths: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(dataset.folders):
        images = found.get(folder, ([], []))[0]
        paths += [f"{folder}/{image}" for image in images]
        labels += [label] * len(images)
    stray += [f"{folder}/{other}" for folder, (_, others) in found.items() for other in others]
    return Scan(dataset, images_dir, paths, np.array(labels, np.int32), notes + _stray_notes(stray))


def scan_unlabelled(images_dir: Path) -> Scan:
    """Find the images anywhere under a folder, without classes: their labels are -1.

    Raises:
        UserError: There are none.
    """
    if not images_dir.is_dir():
        raise UserError(f"{images_dir} is not a folder; give the folder that holds the images")
    paths: list[str] = []
    stray: list[str] = []
    for folder, folders, _ in os.walk(images_dir):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inner = Path(folder).relative_to(images_dir)
        images, others = _images(Path(folder))
        paths += [(inner / image).as_posix() for image in images]
        stray += [(inner / other).as_posix() for other in others if other not in folders]
    if not paths:
        raise UserError(f"{images_dir} holds no images ({', '.join(sorted(ENDINGS))}); give a folder that does")
    dataset = Dataset(images_dir.resolve().name, (), (), ())
    return Scan(dataset, images_dir, paths, np.full(len(paths), -1, np.int32), _stray_notes(stray))


def _stray_notes(stray: list[str]) -> list[str]:
    entries = "1 entry is not an image" if len(stray) == 1 else f"{len(stray)} entries are not images"
    return [f"{entries}: {_some(stray)}"] if stray else []


def _class_folders(images_dir: Path) -> tuple[list[str], list[str]]:
    with os.scandir(images_dir) as entries:
        found = {entry.name: entry.is_dir() and not entry.name.startswith(".") for entry in entries}
    return sorted(n for n in found if found[n]), sorted(n for n in found if not found[n])


def _images(folder: Path) -> tuple[list[str], list[str]]:
    images: list[str] = []
    others: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            hidden = entry.name.startswith(".")
            image = not hidden and Path(entry.name).suffix.lower() in ENDINGS and not entry.is_dir()
            (images if image else others).append(entry.name)
    unreadable = [image for image in images if not image.isprintable()]
    if unreadable:
        raise UserError(f"{folder} holds an image whose name cannot be printed, {unreadable[0]!r}; rename it")
    return sorted(images), sorted(others)


def _recognise(images_dir: Path, counts: dict[str, int], name: str | None) -> tuple[Dataset, list[str]]:
    sets = known()
    if name is None:
        same = [dataset for dataset in sets.values() if set(dataset.folders) == set(counts)]
        if same:
            return same[0], _count_notes(same[0], counts)
        near = [s.name for s in sets.values() if 2 * len(set(s.folders) & set(counts)) > len(s.folders)]
        notes = [f"{images_dir} resembles {n} but its class folders differ; --dataset={n} insists on it" for n in near]
        return _custom_from_folders(images_dir.resolve().name, counts, notes)
    if name not in sets:
        return _custom_from_folders(name, counts, [])
    unknown = sorted(set(counts) - set(sets[name].folders))
    if unknown:
        raise UserError(
            f"{images_dir} has class folders that {name} does not have: {_some(unknown)}; "
            "move them away or leave --dataset out"
        )
    return sets[name], _count_notes(sets[name], counts)


def _custom_from_folders(name: str, counts: dict[str, int], notes: list[str]) -> tuple[Dataset, list[str]]:
    empty = [folder for folder, count in counts.items() if not count]
    if empty:
        notes = [*notes, f"{len(empty)} folders without images are not classes: {_some(empty)}"]
    return _custom(name, [folder for folder, count in counts.items() if count]), notes


def _count_notes(dataset: Dataset, counts: dict[str, int]) -> list[str]:
    wrong = [
        f"{folder} {counts.get(folder, 0)} of {expected}"
        for folder, expected in zip(dataset.folders, dataset.images, strict=True)
        if counts.get(folder, 0) != expected
    ]
    return [f"{len(wrong)} classes have other image counts than {dataset.name}: {_some(wrong)}"] if wrong else []


def _nothing_found(images_dir: Path, folders: list[str]) -> str:
    for folder in folders:
        inner = images_dir / folder
        nested = [path for path in sorted(inner.iterdir()) if path.is_dir() and _images(path)[0]]
        if nested:
            return f"{images_dir} holds no class folders with images, but {inner} does; give --images_dir={inner}"
    return (
        f"{images_dir} holds no class folders with images ({', '.join(sorted(ENDINGS))}); see the README for the layout"
    )


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
