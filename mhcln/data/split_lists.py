"""Splits that come as lists of images, one image a line, as published code and papers write them."""

import codecs
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mhcln.console import UserError
from mhcln.data.duplicates import Labels, without_ending
from mhcln.data.folders import ENDINGS
from mhcln.data.splits import LISTS, PARTS, given_split
from mhcln.storage.split import Split

# The part that a list names, by the name of its file without the ending, in any case.
_PARTS = {**PARTS, "query": "test", "database": "database"}
_ENDINGS_OF_LISTS = (".txt", ".csv", ".tsv")
_EXCLUSIVE = (("train", "test"), ("train", "val"), ("test", "val"), ("database", "test"))
_SEPARATOR = re.compile(r"[\s,;]+")
# A header has one of these words, no digit and no dot.
_TITLES = {"file", "filename", "filepath", "path", "image", "imagename", "imagepath", "img", "imgpath", "name"}


def split_from_lists(folder: Path, paths: Sequence[str], labels: Labels) -> Split:
    r"""Take the split that lists of images name, one image a line.

    `train.txt` and `test.txt` name the two sides, `val.txt` the images for validation. `query.txt` is another name of
    `test.txt`. `database.txt` names the images to search; without a `train.txt` it is trained on as well. Lists may be
    `.csv` or `.tsv`, and may begin with a header.

    A line begins with a file name or a path, such as `airplane01` or `D:\UCMD\airplane\airplane01.tif`. The name ends
    at a blank, tab, comma or semicolon: behind the ending of an image if the line has one. A single word after it is
    the label of the image, anything else is ignored.

    Args:
        folder: Folder of the lists.
        paths: Paths in storage order.
        labels: `[n]`, class of each image; -1 for images without classes, whose labels in lists are ignored.

    Returns:
        The split, each side in storage order; images that no list names are in none.
    """
    files = _list_files(folder)
    finder = _ImageFinder(paths)
    lists = {part: _read_list(file, finder) for part, file in files.items()}
    _require_labels_fit(files, lists, dict(zip(paths, labels.tolist(), strict=True)))
    for one, other in _EXCLUSIVE:
        both = sorted(lists.get(one, {}).keys() & lists.get(other, {}).keys())
        if both:
            raise UserError(
                f"{files[one]} and {files[other].name} have {len(both)} images on both sides, first {both[0]}; delete "
                "them from one of the lists"
            )
    sides = {part: [path for path in paths if path in named] for part, named in lists.items()}
    return given_split(sides["train"], sides["test"], LISTS, sides.get("val", []), sides.get("database", []))


def _list_files(folder: Path) -> dict[str, Path]:
    """Find the list of each part."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        part = _PARTS.get(path.stem.casefold())
        if part is None or path.suffix.casefold() not in _ENDINGS_OF_LISTS:
            continue
        if part in files:
            raise UserError(f"{files[part]} and {path.name} are two lists of the same part; move one of them away")
        files[part] = path
    if "database" in files:
        files.setdefault("train", files["database"])
    for part in ("train", "test"):
        if part not in files:
            raise UserError(
                f"{folder / part}.txt is missing; --split_dir takes a folder with train.txt and test.txt, or "
                "database.txt and query.txt"
            )
    return files


def _read_list(file: Path, finder: "_ImageFinder") -> dict[str, str]:
    """Return the label of each image that a list names, "" for none."""
    content = file.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        lines = [line.strip() for line in content.decode(encoding).splitlines() if line.strip()]
    except UnicodeDecodeError:
        lines = []
    if lines and _is_header(lines[0]) and not finder.find(lines[0]):
        lines = lines[1:]
    if not lines:
        raise UserError(f"{file} names no image; it should name one a line, as text in UTF-8 or UTF-16")
    label_of: dict[str, str] = {}
    for line in lines:
        image, label = _image_and_label(file, line, finder)
        if image in label_of:
            raise UserError(f"{file} names {image} twice; delete one of the lines")
        label_of[image] = label
    return label_of


def _is_header(line: str) -> bool:
    titles = {re.sub(r"[\W_]", "", word).casefold() for word in _SEPARATOR.split(line)}
    return bool(titles & _TITLES) and not re.search(r"[\d.]", line)


def _image_and_label(file: Path, line: str, finder: "_ImageFinder") -> tuple[str, str]:
    line = line.replace('"', "")
    names = [line[: found.start()] for found in _SEPARATOR.finditer(line)] + [line]
    names = [name for name in names if name.lower().endswith(ENDINGS)] or names
    found = {image: name for name in names for image in finder.find(name)}
    if not found:
        raise UserError(f"{file} names {names[-1]}, which fits no image of features.npz")
    if len(found) > 1:
        first, second, *_ = found
        raise UserError(
            f"{file} names {names[-1]}, which fits {len(found)} images; write more of the path, with its ending: "
            f"{first}, {second}"
        )
    ((image, name),) = found.items()
    rest = [word for word in _SEPARATOR.split(line[len(name) :]) if word]
    return image, rest[0] if len(rest) == 1 else ""


def _require_labels_fit(
    files: Mapping[str, Path], lists: Mapping[str, Mapping[str, str]], class_of: Mapping[str, int]
) -> None:
    """Require one class for each label in the lists, and one label for each class."""
    known: dict[object, tuple[object, str]] = {}
    for part, label_of in lists.items():
        for path, label in label_of.items():
            if not label or class_of[path] < 0:
                continue
            for key, value in ((label, class_of[path]), (class_of[path], label)):
                expected, other = known.setdefault(key, (value, path))
                if value != expected:
                    raise UserError(
                        f"{files[part]}: label {label} of {path} does not fit its class folder, see {other}; take "
                        "lists of this data set, or delete the labels"
                    )


class _ImageFinder:
    """Finds the images that a name in a list may mean."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._by_end: dict[str, list[str]] = defaultdict(list)  # with the ending of the file, and without it
        self._folders: dict[int, set[str]] = defaultdict(set)  # by their level, counted from the end
        for path in paths:
            for level, folder in enumerate(reversed(path.split("/")[:-1])):
                self._folders[level].add(folder)
            for spelling in {path, without_ending(path)}:
                parts = spelling.split("/")
                for start in range(len(parts)):
                    self._by_end["/".join(parts[start:])].append(path)

    def find(self, name: str) -> list[str]:
        """Return the images that a name fits.

        The end of the name must fit the whole path, or the whole name the end of the path. The ending of the file may
        differ or be missing. A folder of the data set without the image contradicts the image.
        """
        *folders, end = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")] or [""]
        found = self._fitting(end)
        for level, folder in enumerate(reversed(folders)):
            end = f"{folder}/{end}"
            longer = self._fitting(end)
            if not longer:
                return [] if folder in self._folders.get(level, ()) else found
            found = longer
        return [name] if name in found else found

    def _fitting(self, end: str) -> list[str]:
        return self._by_end.get(end) or self._by_end.get(without_ending(end), [])
