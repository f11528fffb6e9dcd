"""Features that the published code pickled, read without running what a pickle may carry.

A pickle is a program. This reader first walks its opcodes and refuses any that the published files do not use, then
lets Python's unpickler run it with names bound to the stand-ins below, which only keep what they are given. Arrays are
made from their bytes afterwards. No other module reads pickles.
"""

import io
import math
import pickle
import pickletools
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.data import datasets
from mhcln.storage.files import one_line, sha256_of
from mhcln.storage.formats import Features, ImageTable

# A pickle of AID's 10,000 images takes 82 MB, four times that in Python 2's text protocol.
PICKLE_BYTES = 2**30
WIDTHS = ("f4", "f8")

_OPCODES = """
PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8
BYTEARRAY8 LIST EMPTY_LIST APPEND APPENDS TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 GLOBAL STACK_GLOBAL REDUCE BUILD
GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
"""
_BY_CODE = {opcode.code: opcode for opcode in pickletools.opcodes}


class Row(NamedTuple):
    """One image of a published pickle: vector `[d] float32`, label, absolute path on the machine that made it."""

    vector: NDArray[np.float32]
    label: int
    path: str


class _Name:
    """What a name in a pickle is bound to: it can be called, but nothing can be set on it."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self.call = call

    def __call__(self, *arguments: object) -> object:
        return self.call(*arguments)

    def __setstate__(self, _state: object) -> None:
        raise pickle.UnpicklingError("it changes a name")


class _Dtype:
    __slots__ = ("code", "order")

    def __init__(self, code: object, *_flags: object) -> None:
        self.code = code
        self.order = "="

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1:
            self.order = state[1]

    def resolve(self) -> np.dtype[Any]:
        if self.code not in WIDTHS or self.order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"an array of type {self.code!r}"[:80])
        return np.dtype(f"{self.order}{self.code}")


class _Array:
    __slots__ = ("content",)

    def __init__(self, *content: object) -> None:
        self.content = content

    def __setstate__(self, state: object) -> None:
        # version, shape, dtype, Fortran order, bytes: see numpy.ndarray.__reduce__
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array without content")
        self.content = (state[1], state[2], state[4])

    def resolve(self) -> NDArray[np.float32]:
        if len(self.content) != 3:
            raise pickle.UnpicklingError("an array without content")
        return _make(*self.content)


def _from_buffer(data: object, dtype: object, shape: object, _order: object) -> _Array:
    return _Array(shape, dtype, data)


def _make(shape: object, dtype: object, data: object) -> NDArray[np.float32]:
    if isinstance(data, str):
        data = data.encode("latin-1")
    sides = shape if isinstance(shape, tuple) else (shape,)
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError("an array without type or bytes")
    if not all(type(side) is int and side > 0 for side in sides) or len(sides) > 4:
        raise pickle.UnpicklingError(f"an array of shape {sides!r}"[:80])
    kind = dtype.resolve()
    # the published code squeezes pool_3 to one dimension, so the order of axes never matters
    if math.prod(sides) != max(sides) or math.prod(sides) * kind.itemsize != len(data):
        raise pickle.UnpicklingError(f"an array of shape {sides!r} in {len(data)} bytes"[:80])
    return np.frombuffer(data, kind).astype(np.float32)


def _latin1(text: object = None, encoding: object = None) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("an encoding other than latin1")
    return text.encode("latin-1")


_NAMES = {
    ("numpy", "ndarray"): _Name(_Array),
    ("numpy", "dtype"): _Name(_Dtype),
    ("numpy.core.multiarray", "_reconstruct"): _Name(_Array),
    ("numpy._core.multiarray", "_reconstruct"): _Name(_Array),
    ("numpy.core.numeric", "_frombuffer"): _Name(_from_buffer),
    ("numpy._core.numeric", "_frombuffer"): _Name(_from_buffer),
    ("_codecs", "encode"): _Name(_latin1),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Name:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}"[:120])
        return _NAMES[module, name]


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a published `features.pkl`, of Python 2 or 3.

    Raises:
        UserError: The file is missing, or holds anything else.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; give --features the features.pkl of the published code")
    if path.stat().st_size > PICKLE_BYTES:
        raise UserError(f"{path} is larger than {PICKLE_BYTES} bytes; it is not a features.pkl of the published code")
    data = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an escape that no Python 2 writes is damage, and not for the user's screen
            _check_opcodes(data)
            content = _Unpickler(io.BytesIO(data), encoding="latin1").load()
        if not isinstance(content, list) or not content:
            raise pickle.UnpicklingError("it holds no list")
        return [_row(entry) for entry in content]
    except _DAMAGE as error:
        what = one_line(error, 160)
        raise UserError(f"{path} is not a features.pkl of the published code ({what}); nothing of it was run") from None


# What Python's unpickler raises if a pickle is cut, or does things in an order that no pickler writes.
_DAMAGE = (pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError, Warning)


def _check_opcodes(data: bytes) -> None:
    allowed = frozenset(_OPCODES.split())
    stream = io.BytesIO(data)
    name, count = "", 0
    argument: Any
    while name != "STOP":
        opcode = _BY_CODE.get(stream.read(1).decode("latin-1"))
        name = opcode.name if opcode else "an unknown opcode"
        if opcode is None or name not in allowed:
            raise pickle.UnpicklingError(f"it uses {name}")
        # pickletools reads a Python 2 string as ASCII only; its end is all that matters here
        reader = io.BytesIO.readline if name == "STRING" else opcode.arg.reader if opcode.arg else None
        argument = reader(stream) if reader else None
        # the unpickler makes room for any memo number that is named, however large
        if "PUT" in name and int(argument) > count:
            raise pickle.UnpicklingError(f"it numbers {argument} things")
        count += 1


def _row(entry: object) -> Row:
    if not isinstance(entry, list | tuple) or len(entry) != 3 or not isinstance(entry[0], _Array):
        raise pickle.UnpicklingError("a row is not [feature, label, path]")
    if type(entry[1]) is not int or entry[1] < 0 or not isinstance(entry[2], str):
        raise pickle.UnpicklingError(f"a row has label {entry[1]!r} and path {entry[2]!r}"[:120])
    return Row(entry[0].resolve(), entry[1], entry[2])


def read_published(path: Path) -> Features:
    """Read a published `features.pkl` as features, class by class, within a class in the order of the pickle.

    Raises:
        UserError: The file does not hold what the published code writes.
    """
    rows = sorted(read_rows(path), key=lambda row: row.label)
    widths = Counter(len(row.vector) for row in rows)
    if len(widths) > 1:
        raise UserError(f"{path} holds features of {len(widths)} widths; make it again with extract_features.py")
    places = [PurePosixPath(row.path.replace("\\", "/")) for row in rows]
    folders = {place.parent.name: row.label for place, row in zip(places, rows, strict=True)}
    names = {label: folder for folder, label in folders.items()}
    if len(names) != len(folders) or sorted(names) != list(range(len(names))):
        raise UserError(f"{path} does not give each class folder one label; make features with extract_features.py")
    known = [s for s in datasets.known().values() if {f: i for i, f in enumerate(s.folders)} == folders]
    images = ImageTable(
        labels=np.array([row.label for row in rows], np.int32),
        paths=[f"{place.parent.name}/{place.name}" for place in places],
        class_names=list(known[0].class_names) if known else [names[label] for label in sorted(names)],
        dataset=known[0].name if known else places[0].parent.parent.name or "published",
        images_dir=str(places[0].parent.parent),
        extractor=f"published features.pkl; sha256={sha256_of(path)}",
    )
    return Features(np.stack([row.vector for row in rows]), images)
