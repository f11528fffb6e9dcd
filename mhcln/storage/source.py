"""A file of the dump folder while it is read: its format, its content as a dataclass, and what must be true of it."""

import dataclasses
import functools
import hashlib
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mhcln.console import UserError
from mhcln.storage.files import read_npz, write_npz
from mhcln.storage.npz import AnyArray
from mhcln.storage.text_files import read_json, write_json

FORMAT = 1
OPTIONAL = ("stamps", "lonlat", "float_scale")  # arrays that are not written where there is nothing to say

Kind = TypeVar("Kind")

# Kind of the dtype and number of dimensions, for fields that are not arrays.
_SCALARS: dict[object, tuple[str, int]] = {str: ("U", 0), int: ("iu", 0), float: ("f", 0), list[str]: ("U", 1)}
# What an array may be, by the type of its field: features and labels come in any width, and become float32 and int32.
_ARRAYS: dict[object, tuple[str, ...]] = {
    np.float32: ("f2", "f4", "f8"),
    np.float64: ("f8",),
    np.uint8: ("u1",),
    np.int32: ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"),
    np.int64: ("i8",),
}
_SHOWN = 16  # characters of a value in a message


@dataclasses.dataclass(frozen=True)
class Source:
    """A file that is being read, and the command that makes it: every message about the file names both."""

    path: Path
    made_by: str

    def read(self, kind: type[Kind], has_format: bool = True, digest: "hashlib._Hash | None" = None) -> Kind:
        """Read the arrays that are the fields of a dataclass.

        Args:
            kind: A dataclass; a field with a default may be missing from the file.
            has_format: Whether the file carries the number of its format.
            digest: If given, the bytes of the file that is read are added to it.

        Raises:
            UserError: The file is missing, damaged or of another format, or lacks an array.
        """
        hints = _hints(kind)  # type: ignore[arg-type]  # classes are hashable
        arrays = read_npz(self.path, self.made_by, [*hints, "format"], digest)
        if has_format and "format" in arrays:
            self.require_format(arrays["format"].tolist())
        for name in [*_required(kind), "format"] if has_format else _required(kind):
            if name not in arrays:
                raise UserError(f"{self.path} has no array {name!r}; make it again with {self.made_by}")
        return kind(**{name: self._value(name, arrays[name], hints[name]) for name in hints if name in arrays})

    def _value(self, name: str, array: AnyArray, hint: object) -> object:
        if hint in _SCALARS:
            letters, dimensions = _SCALARS[hint]
            empty = hint == list[str] and array.shape == (0,)  # NumPy makes float64 of an empty list
            right = (array.dtype.kind in letters or empty) and array.ndim == dimensions
            self.require(right, f"{name} is not what it should be, but {array.dtype} {array.shape}")
            return array.tolist()
        (dtype,) = typing.get_args(typing.get_args(hint)[1])
        right = array.dtype.str[1:] in _ARRAYS[dtype] and array.dtype.isnative
        advice = _advice_on_labels(array) if name == "labels" else ""
        self.require(right and not advice, f"{name} are not {np.dtype(dtype)}, but {array.dtype}{advice}")
        if array.dtype == dtype:
            return array
        self.require(_fits(array, dtype), f"{name} are beyond {np.dtype(dtype)}")
        return array.astype(dtype)

    def parse(self, kind: type[Kind], content: Mapping[str, object], complete: bool = False) -> Kind:
        """Build a dataclass from those values of a JSON object that are its fields.

        Args:
            kind: A dataclass.
            content: The object; values that are not fields are left alone.
            complete: Whether even a field with a default must be there.

        Raises:
            UserError: A value is missing or of another type.
        """
        hints = _hints(kind)  # type: ignore[arg-type]  # classes are hashable
        for name in hints if complete else _required(kind):
            if name not in content:
                raise UserError(f"{self.path} does not say {name!r}; make it again with {self.made_by}")
        values = {name: content[name] for name in hints if name in content}
        for name, value in values.items():
            self.require_type(name, value, hints[name])
        return kind(**values)

    def require_type(self, name: str, value: object, hint: object) -> None:
        """Require that a value of a JSON object is of a type, such as `list[float]`; numbers must be finite."""
        if not _is_of(value, hint):
            raise UserError(f"{self.path}: {name} is {shortened(value)}; make it again with {self.made_by}")

    def require(self, holds: bool, what: str) -> None:
        """Raise UserError unless something holds; `what` is wrong otherwise."""
        if not holds:
            raise UserError(f"{self.path} is not usable ({what}); make it again with {self.made_by}")

    def require_format(self, found: object) -> None:
        """Require the format that this version reads."""
        if found != FORMAT:
            raise UserError(
                f"{self.path} is of another format than {FORMAT}, which this version reads; make it with {self.made_by}"
            )

    def require_different(self, paths: list[str]) -> None:
        """Require that no path stands twice."""
        self.require(len(set(paths)) == len(paths), "a path stands twice")

    def require_labels(self, labels: AnyArray, class_names: list[str], n: int) -> None:
        """Require a class for each of `n` images, or -1 for each if there are no classes."""
        self.require(labels.shape == (n,), "labels and paths differ in length")
        lowest = 0 if class_names else -1  # images without classes have the label -1
        inside = not n or (labels.min() >= lowest and labels.max() < max(len(class_names), lowest + 1))
        self.require(bool(inside), f"labels lie outside the {len(class_names)} classes")

    def require_lonlat(self, lonlat: AnyArray, n: int) -> None:
        """Require where each of `n` images lies, or nothing of any."""
        self.require(lonlat.shape in ((0, 5, 2), (n, 5, 2)), f"lonlat is {lonlat.shape}, not {(n, 5, 2)}")


def _fits(array: AnyArray, dtype: type[np.number[Any]]) -> bool:
    """Return whether the numbers of an array are within those of a dtype; NaN and infinities are left aside."""
    if array.dtype.kind == "f":
        finite = array[np.isfinite(array)]
        return not finite.size or bool(np.abs(finite).max() <= np.finfo(np.float32).max)
    limits = np.iinfo(dtype)  # type: ignore[type-var]  # whole numbers are read as such
    return not array.size or bool(limits.min <= int(array.min()) and int(array.max()) <= limits.max)


def _advice_on_labels(array: AnyArray) -> str:
    """Return what labels are that are not one whole number an image, and how to make them that; "" if they are."""
    kind, shape = array.dtype.kind, array.shape
    if kind == "U":
        return "; class_names, labels = numpy.unique(labels, return_inverse=True) makes numbers of names"
    if array.ndim == 2 and shape[1] == 1:
        return f" {shape}, a column; labels[:, 0] is a number for each image"
    if array.ndim == 2 and np.isin(array, (0, 1)).all():
        counts = array.sum(axis=1, dtype=np.int64)
        if (counts == 1).all():
            return f" {shape}, one-hot; labels.argmax(1) is a number for each image"
        most = counts.max(initial=0)
        return f" {shape}, multi-hot of up to {most} classes an image; choose one for each, and leave the others out"
    if array.ndim != 1:
        return f" {shape}; give one number for each image, such as labels.argmax(1) of scores"
    if kind in "iu":
        return ""
    whole = kind == "b" or np.equal(np.floor(array), array).all()
    return "; labels.astype('int32') is a number for each image" if whole else ", fractions; give the number of a class"


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    """Return the types of the fields of a dataclass, which takes longer than to read a small file."""
    return typing.get_type_hints(kind)


def _required(kind: type[Kind]) -> list[str]:
    """Return the names of the fields that have no default."""
    return [
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]  # every kind is a dataclass
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]


def _is_of(value: object, hint: object) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_is_of(value, one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is dict:
        return isinstance(value, dict) and all(_is_of(one, typing.get_args(hint)[1]) for one in value.values())
    if typing.get_origin(hint) is list:
        return isinstance(value, list) and all(_is_of(one, typing.get_args(hint)[0]) for one in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return hint is object or type(value) is hint


def shortened(value: object) -> str:
    """Return the text of a value, cut if it is long."""
    text = str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def write_npz_content(path: Path, content: Mapping[str, Any]) -> None:
    """Write the fields of a dataclass as arrays, with the number of the format."""
    # an empty list would become float64
    said = {name: value for name, value in content.items() if name not in OPTIONAL or len(value)}
    arrays = {name: np.array(value, np.str_) if isinstance(value, list) else value for name, value in said.items()}
    write_npz(path, {**arrays, "format": np.int64(FORMAT)})


def write_json_content(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON object with the number of the format."""
    write_json(path, {**content, "format": FORMAT})


def read_json_content(path: Path, made_by: str, digest: "hashlib._Hash | None" = None) -> dict[str, object]:
    """Read a JSON object that `write_json_content` wrote; arguments as those of `read_json`.

    Raises:
        UserError: The file is missing or damaged, or is of another format.
    """
    content = read_json(path, made_by, digest)
    Source(path, made_by).require_format(content.pop("format", None))
    return content
