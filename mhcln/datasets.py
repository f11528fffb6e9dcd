"""What a data set is: class folders of images, whose names say which data set it is and which class an image has."""

import dataclasses
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mhcln.errors import UserError
from mhcln.files import parse_json

HOUSE = Path(__file__).resolve().parent.parent
ENDINGS = frozenset((".tif", ".tiff", ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"))
# What the README of the published code trains for; a data set of its own may say otherwise in its dataset.json.
ITERATIONS = 10_000


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set: class names in label order, with their folders, names for pictures, and expected image counts.

    `published` holds results from the literature: objects with `method`, `metric`, `bits`, `value`, `source`.
    """

    name: str
    class_names: tuple[str, ...]
    folders: tuple[str, ...]
    display_names: tuple[str, ...]
    images: tuple[int, ...] = ()
    iterations: int = ITERATIONS
    published: tuple[dict[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class Scan:
    """The images found under `images_dir`: relative `paths` with `/`, class by class, and their `labels` [n] int32.

    `notes` are lines that the user should see: what was left out, what is missing.
    """

    dataset: Dataset
    images_dir: Path
    paths: list[str]
    labels: np.ndarray
    notes: list[str]


def known() -> dict[str, Dataset]:
    """The data sets that this software knows by name, from their `dataset.json`."""
    return {dataset.name: dataset for dataset in map(read_dataset, sorted(HOUSE.glob("*/dataset.json")))}


def load(name: str, class_names: Iterable[str] = ()) -> Dataset:
    """The known data set of that name, or one of the user's own with these class names."""
    return known().get(name) or _own(name, list(class_names))


def _own(name: str, class_names: list[str]) -> Dataset:
    display = tuple(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).replace("_", " ") for text in class_names)
    return Dataset(name, tuple(class_names), tuple(class_names), display)


def read_dataset(path: Path) -> Dataset:
    """Read a `dataset.json`; raises UserError where it lacks something or says it wrongly."""
    content = parse_json(path, "git checkout")
    try:
        classes = content["classes"]
        dataset = Dataset(
            name=content["name"],
            class_names=tuple(entry["name"] for entry in classes),
            folders=tuple(entry["folder"] for entry in classes),
            display_names=tuple(entry["display"] for entry in classes),
            images=tuple(entry["images"] for entry in classes),
            iterations=content["iterations"],
            published=tuple({key: entry[key] for key in _PUBLISHED} for entry in content["published"]),
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a data set's description ({error!r}); compare it with UCMD/dataset.json"
        ) from None
    texts = (dataset.name, *dataset.class_names, *dataset.folders, *dataset.display_names)
    numbers = (dataset.iterations, *dataset.images)
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        raise UserError(f"{path} has a name that is not text or a count that is not whole; mend it")
    if len(set(dataset.folders)) < len(classes) or len(set(dataset.class_names)) < len(classes):
        raise UserError(f"{path} names a class twice; mend it")
    return dataset


_PUBLISHED = ("method", "metric", "bits", "value", "source")


def scan(images_dir: Path, name: str | None = None) -> Scan:
    """Find the images under `images_dir`, one folder a class.

    Which data set it is follows from the folder names; `name` decides it instead (a known name, or any other for
    the user's own classes). Raises UserError for a folder without class folders, for one without images, and, under
    a known `name`, for a class folder that the data set does not have.
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
    return Scan(dataset, images_dir, paths, np.array(labels, np.int32), notes + _stray_note(stray))


def scan_unlabelled(images_dir: Path) -> Scan:
    """Find the images anywhere under `images_dir`, whatever the folders; their labels are -1, and there are no classes.

    Raises UserError where there are none.
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
    return Scan(dataset, images_dir, paths, np.full(len(paths), -1, np.int32), _stray_note(stray))


def _stray_note(stray: list[str]) -> list[str]:
    return (
        [f"{len(stray)} {'entry is' if len(stray) == 1 else 'entries are'} no image: {_some(stray)}"] if stray else []
    )


def _class_folders(images_dir: Path) -> tuple[list[str], list[str]]:
    with os.scandir(images_dir) as entries:
        found = {entry.name: entry.is_dir() and not entry.name.startswith(".") for entry in entries}
    return sorted(n for n in found if found[n]), sorted(n for n in found if not found[n])


def _images(folder: Path) -> tuple[list[str], list[str]]:
    images, others = [], []
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
        return _own_of(images_dir.resolve().name, counts, notes)
    if name not in sets:
        return _own_of(name, counts, [])
    unknown = sorted(set(counts) - set(sets[name].folders))
    if unknown:
        raise UserError(
            f"{images_dir} has class folders that {name} does not know: {_some(unknown)}; "
            "move them away or leave --dataset out"
        )
    return sets[name], _count_notes(sets[name], counts)


def _own_of(name: str, counts: dict[str, int], notes: list[str]) -> tuple[Dataset, list[str]]:
    empty = [folder for folder, count in counts.items() if not count]
    if empty:
        notes = [*notes, f"{len(empty)} folders without images are no classes: {_some(empty)}"]
    return _own(name, [folder for folder, count in counts.items() if count]), notes


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
