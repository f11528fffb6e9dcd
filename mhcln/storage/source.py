"""A file of the dump folder while it is read: its format, its arrays as a dataclass, and what must be true of them."""

import dataclasses
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from mhcln.console import UserError
from mhcln.storage.files import AnyArray, read_json, read_npz, write_json

FORMAT = 1

Kind = TypeVar("Kind")

_SCALARS: dict[object, tuple[str, int]] = {str: ("U", 0), int: ("iu", 0), float: ("f", 0), list[str]: ("U", 1)}


@dataclasses.dataclass(frozen=True)
class Source:
    """A file that is being read, and the command that makes it: every message about the file names both."""

    path: Path
    made_by: str

    def read(self, kind: type[Kind], also: tuple[str, ...] = ()) -> tuple[Kind, dict[str, AnyArray]]:
        """Read the arrays that are the fields of a dataclass.

        Args:
            kind: A dataclass; a field with a default may be missing from the file.
            also: Further arrays to read.

        Returns:
            The dataclass, and all arrays by name.

        Raises:
            UserError: The file is missing, damaged or of another format, or lacks an array.
        """
        hints = typing.get_type_hints(kind)
        fields = dataclasses.fields(kind)  # type: ignore[arg-type]  # every kind is a dataclass
        arrays = read_npz(self.path, self.made_by, [*hints, *also, "format"])
        self.require_format(arrays["format"].tolist() if "format" in arrays else None)
        required = [field.name for field in fields if field.default is dataclasses.MISSING]
        for name in (*also, *required):
            if name not in arrays:
                raise UserError(f"{self.path} has no array {name!r}; make it again with {self.made_by}")
        values = {name: self._value(name, arrays[name], hints[name]) for name in hints if name in arrays}
        return kind(**values), arrays

    def _value(self, name: str, array: AnyArray, kind: object) -> object:
        if kind not in _SCALARS:
            return array
        letters, dimensions = _SCALARS[kind]
        right = array.dtype.kind in letters and array.ndim == dimensions
        self.require(right, f"{name} is not what it should be, but {array.dtype} {array.shape}")
        if letters == "U":  # NumPy fails on a letter beyond the last of Unicode, wherever it is first used
            code_points = np.ascontiguousarray(array).view(f"{array.dtype.byteorder}u4")
            self.require(code_points.max(initial=0) <= sys.maxunicode, f"{name} is not text")
        return array.tolist()

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
        self.require(labels.shape == (n,) and labels.dtype.kind in "iu", "labels and paths differ in length")
        lowest = 0 if class_names else -1  # images without classes have the label -1
        inside = not n or (labels.min() >= lowest and labels.max() < max(len(class_names), lowest + 1))
        self.require(bool(inside), f"labels lie outside the {len(class_names)} classes")

    def require_codes(self, codes: AnyArray, bits: int, n: int) -> None:
        """Require packed codes of `bits` bits, one for each of `n` images, padded with zeros."""
        width = (bits + 7) // 8
        self.require(bits >= 1, f"bits is {bits}")
        self.require(codes.shape == (n, width), f"codes are {codes.shape}, not {(n, width)}")
        self.require(codes.dtype == np.uint8, "codes are not uint8")
        if bits % 8:
            padding = codes[:, -1] & (0xFF >> bits % 8)
            self.require(not padding.any(), f"codes have bits beyond the {bits} they claim")


def write_json_content(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON object with the number of the format."""
    write_json(path, {**content, "format": FORMAT})


def read_json_content(path: Path, made_by: str) -> dict[str, object]:
    """Read a JSON object that `write_json_content` wrote.

    Raises:
        UserError: The file is missing or damaged, or is of another format.
    """
    content = read_json(path, made_by)
    Source(path, made_by).require_format(content.pop("format", None))
    return content
