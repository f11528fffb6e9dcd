"""Splits that come as lists of images, in the forms that published code and papers give them."""

import codecs
import csv
import dataclasses
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mhcln.console import UserError
from mhcln.data.duplicates import Labels
from mhcln.data.image_names import ImageFinder
from mhcln.data.list_labels import ClassCheck, label_of, numbers_in, plain
from mhcln.data.parts import PARTS
from mhcln.data.splits import LISTS, given_split
from mhcln.storage.formats import Split

# What a list holds, by its name without the ending, in any case.
_ROLES = {**PARTS, "query": "test", "database": "database"}
_ENDINGS = (".txt", ".csv", ".tsv")
_SEPARATOR = re.compile(r"[\s,;]+")
_NAME_COLUMNS = {"filename", "file", "filepath", "path", "image", "imagename", "imagepath", "img", "imgpath", "name"}
_LABEL_COLUMNS = {"label", "labels", "labelid", "labelname", "class", "classid", "classname", "category", "target"}


@dataclasses.dataclass(frozen=True)
class _Entry:
    """An image of a list, and its label there as a number and as a name; "" for none."""

    path: str
    number: str
    name: str


@dataclasses.dataclass(frozen=True)
class _Header:
    """What the first line of a table says: what stands between its columns, and their titles as `plain` gives them."""

    separator: str
    columns: list[str]


def split_from_lists(folder: Path, paths: Sequence[str], labels: Labels, class_names: Sequence[str] = ()) -> Split:
    """Take the split that lists of images name, one image a line, perhaps with its label.

    `train.txt` and `test.txt` name the two sides, `val.txt` images that are held back for validation. `query.txt` is
    another name of `test.txt`. `database.txt` names what is searched; without a `train.txt` it is trained on as well.
    Lists may be `.csv` or `.tsv`, with a header or without.

    Args:
        folder: Folder of the lists.
        paths: Paths in storage order.
        labels: `[n]`, class of each image; -1 for images without classes, whose labels in lists are not looked at.
        class_names: Names of the classes in label order.

    Returns:
        The split, each side in storage order; images that no list names are in none.

    Raises:
        UserError: A list is missing or cannot be read, a name fits no image or several, lists that exclude each other
            name the same image, or the labels in the lists contradict the class folders or are several of one image.
    """
    files = _list_files(folder)
    finder = ImageFinder(paths)
    lists = {role: _read_list(path, finder) for role, path in files.items()}
    _require_both_sides(folder, files)
    row_of = {path: row for row, path in enumerate(paths)}
    classes = ClassCheck(class_names)
    for role, entries in lists.items():
        for entry in entries:
            if (label := int(labels[row_of[entry.path]])) >= 0:
                classes.require_fit(entry.path, (entry.number, entry.name), label, files[role])
    sides = {role: sorted((entry.path for entry in found), key=row_of.__getitem__) for role, found in lists.items()}
    _require_apart(files, sides)
    train = sides.get("train", sides.get("database", []))
    return given_split(train, sides["test"], LISTS, sides.get("val", []), sides.get("database", []))


def _list_files(folder: Path) -> dict[str, Path]:
    """Find the list of each role."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        role = _ROLES.get(path.stem.casefold())
        if role is None or path.suffix.casefold() not in _ENDINGS:
            continue
        if role in files:
            raise UserError(f"{files[role]} and {path.name} are two lists of the same part; move one of them away")
        files[role] = path
    return files


def _require_both_sides(folder: Path, files: dict[str, Path]) -> None:
    if not {"train", "database"} & files.keys() or "test" not in files:
        absent = "test.txt" if {"train", "database"} & files.keys() else "train.txt"
        raise UserError(
            f"{folder / absent} is missing; --split_dir takes a folder with train.txt and test.txt, or database.txt "
            "and query.txt"
        )


def _require_apart(files: dict[str, Path], sides: dict[str, list[str]]) -> None:
    for role, side in sides.items():
        twice = [path for path, count in Counter(side).items() if count > 1]
        if twice:
            raise UserError(f"{files[role]} names {twice[0]} twice; delete one of the lines")
    for one, other in (("train", "test"), ("train", "val"), ("test", "val"), ("database", "test"), ("database", "val")):
        if one == "database" and other == "val" and "train" in sides:
            continue  # a list of what trains leaves the validation images out: they may be searched
        both = sorted(set(sides.get(one, [])) & set(sides.get(other, [])))
        if both:
            raise UserError(
                f"{files[one]} and {files[other].name} have {len(both)} images on both sides, first {both[0]}; "
                "delete them from one of the lists"
            )


def _read_list(path: Path, finder: ImageFinder) -> list[_Entry]:
    lines = [line.strip(" \n") for line in io.StringIO(_text_of(path), newline=None) if line.strip()]
    header = _header(path, lines[0], finder)
    if header is not None and header.separator != " ":
        pairs = _table(path, lines[1:], header, finder)
    else:
        pairs = [_name_and_rest(path, line.strip(), finder) for line in (lines[1:] if header else lines)]
    if not pairs:
        raise UserError(f"{path} names no image; it should name one a line")
    entries = [_Entry(image, *label_of(path, image, rest)) for image, rest in pairs]
    widths = {len(numbers_in(rest)) for _, rest in pairs} - {0}
    if len(widths) > 1:
        raise UserError(
            f"{path} gives some images {min(widths)} and others {max(widths)} numbers; one label an image is read, or "
            "as many zeros as there are other classes and a one"
        )
    return entries


def _text_of(path: Path) -> str:
    """Read a text in UTF-8, or in UTF-16 if it begins with that encoding's byte order mark."""
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = ""
    if not text.strip() or "\0" in text:
        raise UserError(f"{path} is empty or not a text file in UTF-8 or UTF-16; it should name one image a line")
    return text


def _header(path: Path, line: str, finder: ImageFinder) -> _Header | None:
    """Return what the first line of a list says of its columns; None if it names an image."""
    separator = next((letter for letter in "\t,;" if letter in line), " ")
    ((*titles,),) = _cells(path, [line], separator)
    columns = [plain(title) for title in titles]
    known = [column in _NAME_COLUMNS or column in _LABEL_COLUMNS for column in columns]
    if not _NAME_COLUMNS & {*columns} or (separator == " " and not all(known)):
        return None
    named = finder.find(line)[0] or any(finder.find(title)[0] for title in titles)
    return None if named else _Header(separator, columns)


def _table(path: Path, lines: list[str], header: _Header, finder: ImageFinder) -> list[tuple[str, str]]:
    """Return the image of each row of a table, and its label; columns that are neither are left alone."""
    rows, columns = _cells(path, lines, header.separator), header.columns
    for number, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            raise UserError(
                f"{path} has {len(columns)} columns, but {len(row)} in row {number} below its header; correct it"
            )
    named = [place for place, column in enumerate(columns) if column in _NAME_COLUMNS]
    name = next((place for place in named if rows and finder.find(rows[0][place])[0]), named[0])
    others = [place for place in range(len(columns)) if place not in named]
    labelled = [place for place in others if columns[place] in _LABEL_COLUMNS]
    if not labelled and all(row[place] in ("0", "1") for row in rows for place in others):
        labelled = others  # a column for each class
    images = [_one_image(path, row[name], finder.readings(row[name], ())) for row in rows]
    return [(image, " ".join(row[place] for place in labelled)) for image, row in zip(images, rows, strict=True)]


def _cells(path: Path, lines: list[str], separator: str) -> list[list[str]]:
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    except csv.Error as error:
        raise UserError(f"{path} is not a table that can be read ({error}); write one image a line") from None


def _name_and_rest(path: Path, line: str, finder: ImageFinder) -> tuple[str, str]:
    """Return the image that a line names and what follows the name."""
    readings = finder.readings(line, [found.start() for found in _SEPARATOR.finditer(line)])
    words = line.split()
    while len(words) > 1 and numbers_in(words[-1]):
        words.pop()
    return _one_image(path, " ".join(words), readings), readings[0][1]


def _one_image(path: Path, text: str, readings: list[tuple[str, str, list[str]]]) -> str:
    """Return the one image that a text can mean.

    Raises:
        UserError: It means none or several.
    """
    if not readings:
        raise UserError(f"{path} names {text}, which fits no image of features.npz")
    name, _, found = readings[0]
    if len(readings) > 1:
        other, _, fitting = readings[1]
        raise UserError(
            f"{path} names {text}, which can be read as {name} ({found[0]}) and as {other} ({fitting[0]}); write "
            "names with their ending"
        )
    if len(found) > 1:
        raise UserError(f"{path} names {name}, which fits {len(found)} images; name its folder: {found[0]}, {found[1]}")
    return found[0]
