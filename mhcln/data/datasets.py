"""Data sets of class folders: the names of the folders decide the data set, and the class of an image."""

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mhcln.console import UserError, abbreviated
from mhcln.storage.text_files import parse_json

REPO_ROOT = Path(__file__).resolve().parents[2]
# From the README of the published code; the dataset.json of another data set may have another number.
ITERATIONS = 10_000


@dataclasses.dataclass(frozen=True)
class Published:
    """A result from the literature.

    Attributes:
        method: Name of the method, and of its authors.
        metric: The metric of this software that is nearest to the published one.
        value: The result, as a fraction.
        protocol: Split, archive, definition of average precision and features, if the source names them.
    """

    method: str
    metric: str
    bits: int
    value: float
    source: str
    protocol: str


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


@functools.cache
def known() -> dict[str, Dataset]:
    """Return the data sets that this software knows by name, from their `dataset.json`."""
    return {dataset.name: dataset for dataset in map(read_dataset, sorted(REPO_ROOT.glob("*/dataset.json")))}


def load(name: str | None, class_names: Iterable[str]) -> Dataset:
    """Return the known data set of that name and these classes, or else one of the user's own.

    A name alone makes no known data set: a folder that is called UCMD may hold anything.
    """
    classes = tuple(class_names)
    found = known().get(name or "")
    return found if found and set(found.class_names) == set(classes) else _custom(name or "", list(classes))


def display_names(dataset: str | None, class_names: Sequence[str]) -> list[str]:
    """Return the names of classes for people: the known data set's own if this is one."""
    found = load(dataset, class_names)
    names = dict(zip(found.class_names, found.display_names, strict=True))
    return [names[name] for name in class_names]


def _custom(name: str, class_names: list[str]) -> Dataset:
    display = tuple(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).replace("_", " ") for text in class_names)
    return Dataset(name, tuple(class_names), tuple(class_names), display)


def read_dataset(path: Path) -> Dataset:
    """Read a `dataset.json`."""
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
        raise UserError(f"{path} is not a valid dataset.json ({error!r}); compare it with UCMD/dataset.json") from None
    texts = (dataset.name, *dataset.class_names, *dataset.folders, *dataset.display_names)
    numbers = (dataset.iterations, *dataset.images)
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        raise UserError(f"{path} has a name that is not text or a count that is not whole; correct it")
    if len(set(dataset.folders)) < len(classes) or len(set(dataset.class_names)) < len(classes):
        raise UserError(f"{path} names a class twice; correct it")
    return dataset


def recognise(images_dir: Path, counts: Mapping[str, int], name: str | None = None) -> tuple[Dataset, list[str]]:
    """Return the data set whose class folders these are; a folder without images is no class of the user's own.

    Args:
        images_dir: The folder of the class folders.
        counts: Number of images in each class folder.
        name: The data set: a known name, or any other for the user's own classes. If not given, the names of the
            class folders decide.

    Returns:
        The data set, and lines that the user should see.
    """
    dataset, notes = _by_folders(images_dir, counts) if name is None else _by_name(images_dir, counts, name)
    left_out = [folder for folder, count in counts.items() if not count and folder not in dataset.folders]
    if left_out:
        notes.append(f"{len(left_out)} folders without images are not classes: {abbreviated(left_out)}")
    return dataset, notes


def _by_folders(images_dir: Path, counts: Mapping[str, int]) -> tuple[Dataset, list[str]]:
    classes = _with_images(counts)
    for dataset in known().values():
        if set(classes) <= set(dataset.folders) <= set(counts):
            return dataset, _count_notes(dataset, counts)
    near = [s.name for s in known().values() if 2 * len(set(s.folders) & set(classes)) > len(s.folders)]
    notes = [f"{images_dir} resembles {n} but its class folders differ; --dataset={n} insists on it" for n in near]
    return _custom(_distinct_name(images_dir.resolve().name, classes), classes), notes


def _by_name(images_dir: Path, counts: Mapping[str, int], name: str) -> tuple[Dataset, list[str]]:
    classes, dataset = _with_images(counts), known().get(name)
    if dataset is None:
        return _custom(name, classes), []
    unknown = sorted(set(classes) - set(dataset.folders))
    if unknown:
        raise UserError(
            f"{images_dir} has class folders that {name} does not have: {abbreviated(unknown)}; "
            "move them away or leave --dataset out"
        )
    whole = set(dataset.folders) <= set(counts)
    return dataset if whole else _custom(_distinct_name(name, classes), classes), _count_notes(dataset, counts)


def _with_images(counts: Mapping[str, int]) -> list[str]:
    return [folder for folder, count in counts.items() if count]


def _distinct_name(name: str, folders: list[str]) -> str:
    """Return a name for the user's own data set that differs from all known ones, whose results it must not join."""
    if name not in known():
        return name
    official = known()[name].folders
    return (
        f"{name}: {len(folders)} of {len(official)} classes"
        if set(folders) < set(official)
        else f"{name}: other classes"
    )


def _count_notes(dataset: Dataset, counts: Mapping[str, int]) -> list[str]:
    wrong = [
        f"{folder} {counts.get(folder, 0)} of {expected}"
        for folder, expected in zip(dataset.folders, dataset.images, strict=True)
        if counts.get(folder, 0) != expected
    ]
    return [f"{len(wrong)} classes have other image counts than {dataset.name}: {abbreviated(wrong)}"] if wrong else []
