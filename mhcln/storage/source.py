"""A file of the dump folder while it is read: its format, its content as a dataclass, and the checks of both."""

import dataclasses
import functools
import hashlib
import math
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mhcln.console import UserError
from mhcln.storage.files import read_npz, write_npz
from mhcln.storage.npz import AnyArray
from mhcln.storage.text_files import read_json, write_json

FORMAT = 1

Kind = TypeVar("Kind")
Paths = Sequence[str]  # a list, or an array that stays in its file

# Kind of the dtype and number of dimensions, for fields that are not arrays.
_SCALARS: dict[object, tuple[str, int]] = {
    str: ("U", 0),
    int: ("iu", 0),
    float: ("f", 0),
    list[str]: ("U", 1),
    Paths: ("U", 1),
}
# What an array may be, by the type of its field: features and labels come in any width, and become float32 and int32.
_ARRAYS: dict[object, tuple[str, ...]] = {
    np.float32: ("f2", "f4", "f8"),
    np.float64: ("f8",),
    np.uint8: ("u1",),
    np.int32: ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"),
    np.int64: ("i8",),
    np.uint32: ("u4",),
}
_SHOWN = 16  # characters of a value in a message


@dataclasses.dataclass(frozen=True)
class Source:
    """A file that is being read, and the command that makes it: every message about the file names both.

    Attributes:
        path: The file.
        made_by: The command.
        mapped: Whether paths stay in the file, as an array.
    """

    path: Path
    made_by: str
    mapped: bool = False

    def read(self, kind: type[Kind], digest: "hashlib._Hash | None" = None) -> Kind:
        """Read the arrays that are the fields of a dataclass.

        Args:
            kind: A dataclass; a field with a default may be missing from the file.
            digest: If given, the bytes of the file that is read are added to it.
        """
        return self.build(kind, self.arrays([*_hints(kind)], digest))  # type: ignore[arg-type]  # classes are hashable

    def arrays(self, names: Collection[str], digest: "hashlib._Hash | None" = None) -> dict[str, AnyArray]:
        """Read arrays by name; arguments as in `read_npz`. The file must be of the format of this version."""
        return self.of_this_format(read_npz(self.path, self.made_by, [*names, "format"], digest))

    def of_this_format(self, arrays: dict[str, AnyArray]) -> dict[str, AnyArray]:
        """Return arrays without the number of their format, which must be that of this version."""
        self._require_there(["format"], arrays)
        self.require_format(arrays["format"].tolist())
        return {name: array for name, array in arrays.items() if name != "format"}

    def build(self, kind: type[Kind], arrays: Mapping[str, AnyArray], also: Sequence[str] = ()) -> Kind:
        """Return a dataclass of arrays that were read.

        Args:
            kind: The dataclass.
            arrays: The arrays by name; others than its fields are ignored.
            also: Fields with a default that must be there.
        """
        hints = _hints(kind)  # type: ignore[arg-type]  # classes are hashable
        self._require_there([*_required(kind), *also], arrays)
        return kind(**{name: self._value(name, arrays[name], hints[name]) for name in hints if name in arrays})

    def array(self, name: str, arrays: Mapping[str, AnyArray], dtype: type[np.number[Any]]) -> AnyArray:
        """Return one of the arrays that were read, in a dtype of `_ARRAYS`."""
        self._require_there([name], arrays)
        return self._numbers(name, arrays[name], dtype)

    def _require_there(self, names: Sequence[str], arrays: Mapping[str, AnyArray]) -> None:
        for name in names:
            if name not in arrays:
                raise UserError(f"{self.path} has no array {name!r}; make it again with {self.made_by}")

    def _value(self, name: str, array: AnyArray, hint: object) -> object:
        if hint not in _SCALARS:
            (dtype,) = typing.get_args(typing.get_args(hint)[1])
            return self._numbers(name, array, dtype)
        letters, dimensions = _SCALARS[hint]
        empty = dimensions == 1 and array.shape == (0,)  # NumPy makes float64 of an empty list
        right = (array.dtype.kind in letters or empty) and array.ndim == dimensions
        self.require(right, f"{name} is not what it should be, but {array.dtype} {array.shape}")
        return array if self.mapped and hint == Paths else array.tolist()

    def _numbers(self, name: str, array: AnyArray, dtype: type[np.number[Any]]) -> AnyArray:
        right = array.dtype.str[1:] in _ARRAYS[dtype] and array.dtype.isnative
        self.require(right, f"{name} are not {np.dtype(dtype)}, but {array.dtype}")
        if array.dtype == dtype:
            return array
        self.require(_fits(array, dtype), f"{name} are beyond {np.dtype(dtype)}")
        return array.astype(dtype)

    def parse(self, kind: type[Kind], content: Mapping[str, object]) -> Kind:
        """Build a dataclass from those values of a JSON object that are its fields.

        Args:
            kind: A dataclass; a field with a default may be missing, a field may be a dataclass again.
            content: The object; values that are not fields are left alone.
        """
        hints = _hints(kind)  # type: ignore[arg-type]  # classes are hashable
        for name in _required(kind):
            if name not in content:
                raise UserError(f"{self.path} does not say {name!r}; make it again with {self.made_by}")
        return kind(**{name: self._parsed(name, content[name], hints[name]) for name in hints if name in content})

    def _parsed(self, name: str, value: object, hint: object) -> object:
        inner = next(filter(dataclasses.is_dataclass, (hint, *typing.get_args(hint))), None)
        if inner and isinstance(value, dict):
            return self.parse(inner, value)  # type: ignore[arg-type]  # is a class
        self.require_type(name, value, hint)
        return value

    def require_type(self, name: str, value: object, hint: object) -> None:
        """Require that a value of a JSON object is of a type, such as `list[float]`; numbers must be finite."""
        if not _is_of(value, hint):
            raise UserError(f"{self.path}: {name} is {shortened(value)}; make it again with {self.made_by}")

    def require(self, holds: bool, what: str) -> None:
        """Raise UserError unless something holds; `what` is wrong otherwise."""
        if not holds:
            raise UserError(f"{self.path} is not usable ({what}); make it again with {self.made_by}")

    def require_format(self, found: object, wanted: int = FORMAT) -> None:
        """Require the format that this version reads."""
        if found != wanted:
            raise UserError(
                f"{self.path} is of another format than {wanted}, which this version reads; make it with {self.made_by}"
            )

    def require_different(self, paths: Paths) -> None:
        """Require that no path occurs twice."""
        self.require(len(set(paths)) == len(paths), "a path occurs twice")


def _fits(array: AnyArray, dtype: type[np.number[Any]]) -> bool:
    """Return whether the numbers of an array are within the range of a dtype; NaN and infinities are left aside."""
    if array.dtype.kind == "f":
        finite = array[np.isfinite(array)]
        return not finite.size or bool(np.abs(finite).max() <= np.finfo(np.float32).max)
    limits = np.iinfo(dtype)  # type: ignore[type-var]  # whole numbers are read as such
    return not array.size or bool(limits.min <= int(array.min()) and int(array.max()) <= limits.max)


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    """Return the types of the fields of a dataclass, which takes longer than to read a small file."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


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


def write_npz_content(
    path: Path,
    *contents: Any,  # noqa: ANN401, dataclasses
    alone: bool = True,
    aligned: bool = False,
    **arrays: Any,  # noqa: ANN401, what NumPy takes for an array
) -> None:
    """Write the fields of dataclasses as arrays, with the number of the format.

    Args:
        path: The file.
        contents: The dataclasses. A field with a default is left out if it is empty.
        alone: As in `mhcln.storage.files.replacing`.
        aligned: As in `mhcln.storage.npz.write_arrays`.
        arrays: More arrays.
    """
    for content in contents:
        required = _required(type(content))
        values = {field.name: getattr(content, field.name) for field in dataclasses.fields(content)}
        arrays |= {name: value for name, value in values.items() if name in required or not _is_empty(value)}
    # an empty list would become float64
    named = {name: np.array(value, np.str_) if isinstance(value, list) else value for name, value in arrays.items()}
    write_npz(path, {**named, "format": np.int64(FORMAT)}, alone, aligned)


def _is_empty(value: object) -> bool:
    return isinstance(value, list | str | np.ndarray) and len(value) == 0


def write_json_content(path: Path, content: Mapping[str, object], number: int = FORMAT) -> None:
    """Write a JSON object with the number of its format."""
    write_json(path, {**content, "format": number})


def read_json_content(
    path: Path, made_by: str, digest: "hashlib._Hash | None" = None, number: int = FORMAT
) -> dict[str, object]:
    """Read a JSON object that `write_json_content` wrote with this number; other arguments as in `read_json`."""
    content = read_json(path, made_by, digest)
    Source(path, made_by).require_format(content.pop("format", None), number)
    return content
