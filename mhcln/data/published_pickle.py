"""Features that the published code pickled, read without running what a pickle may carry.

A pickle is a program. This reader first walks its opcodes and refuses any that the published files do not use, then
lets Python's unpickler run it with every name bound to a function that only keeps what it is given. What was kept is
read afterwards, no deeper than the published code nests it, and is never printed. No other module reads pickles.
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
from mhcln.storage.features_file import FEATURES_SECTION, Features, ImageTable
from mhcln.storage.files import one_line, sha256_of

# A pickle of AID's 10,000 images takes 82 MB, four times that in Python 2's text protocol, and 450,000 opcodes there.
PICKLE_BYTES = 350 * 2**20
MAX_OPCODES = 2**21
MAX_ARGUMENT = 2**20  # bytes of one string; an array of 2048 float64 takes 64 KiB in the text protocol
MAX_DIGITS = 20  # of a number in the text protocol; labels have few, and Python takes long for thousands
MAX_PATH = 4096  # letters, as many as Linux allows
WIDTHS = ("f4", "f8")

_OPCODES = """
PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1
STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8
BYTEARRAY8 LIST EMPTY_LIST APPEND APPENDS TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 GLOBAL STACK_GLOBAL REDUCE BUILD
GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
"""
# What features are often kept in, by its first bytes; text has none, so that its ending has to tell.
_OTHERS = {b"\x93NUMPY": "a NumPy array", b"PK": "a zip archive", b"MATLAB": "a MATLAB file", b"\x89HDF": "HDF5"}
_TEXTS = (".csv", ".tsv", ".txt")
_LINES = {"STRING": MAX_ARGUMENT, "INT": MAX_DIGITS, "LONG": MAX_DIGITS}  # opcodes with a line, and its longest
_BY_CODE = {opcode.code: opcode for opcode in pickletools.opcodes}
_NAMES = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}
# What Python's unpickler raises if a pickle is cut, or does things in an order that no pickler writes.
_DAMAGE = (pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError, Warning)


class Row(NamedTuple):
    """One image of a published pickle: vector `[d] float32`, label, absolute path on the machine that made it."""

    vector: NDArray[np.float32]
    label: int
    path: str


class _Call:
    """A call of a name in the pickle, which was not made, and the state that its result was to get."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple[object, ...]) -> None:
        self.name, self.arguments = name, arguments
        self.state: tuple[object, ...] = ()

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, tuple) else ()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., _Call]:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}"[:120])
        # a function, since the pickle cannot set anything on it without a dictionary, which no allowed opcode makes
        return lambda *arguments: _Call(name, arguments)


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a published `features.pkl`, of Python 2 or 3.

    Raises:
        UserError: The file is missing, or holds anything else.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; give --features a .npz, or the features.pkl of the published code")
    if path.stat().st_size > PICKLE_BYTES:
        raise UserError(f"{path} is larger than {PICKLE_BYTES} bytes; it is not a features.pkl of the published code")
    data = path.read_bytes()
    other = "a table of text" if path.suffix.casefold() in _TEXTS else ""
    other = next((what for mark, what in _OTHERS.items() if data.startswith(mark)), other)
    if other:
        raise UserError(f"{path} is {other}; --features takes a .npz that is written as {FEATURES_SECTION}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an escape that no Python 2 writes is damage, and not for the user's screen
            _check_opcodes(io.BytesIO(data))
            content = _Unpickler(io.BytesIO(data), encoding="latin1").load()
        return _rows(content, len(data))
    except _DAMAGE as error:
        what = one_line(error, 160)
        raise UserError(f"{path} is not a features.pkl of the published code ({what}); nothing of it was run") from None


def _check_opcodes(stream: io.BytesIO) -> None:
    allowed = frozenset(_OPCODES.split())
    for count in range(MAX_OPCODES):
        opcode = _BY_CODE.get(stream.read(1).decode("latin-1"))
        name = opcode.name if opcode else "an unknown opcode"
        if opcode is None or name not in allowed:
            raise pickle.UnpicklingError(f"it uses {name}")
        if name == "STOP":
            return
        # pickletools takes Python 2 strings of ASCII alone, and numbers of any length; only their ends matter here
        reader = io.BytesIO.readline if name in _LINES else opcode.arg.reader if opcode.arg else None
        argument: Any = reader(stream) if reader else None
        if isinstance(argument, str | bytes | bytearray) and len(argument) > _LINES.get(name, MAX_ARGUMENT):
            raise pickle.UnpicklingError(f"it holds a {name} of {len(argument)} bytes")
        # the unpickler makes room for any memo number that is named, however large
        if "PUT" in name and int(argument) > count:
            raise pickle.UnpicklingError("it numbers more things than it holds")
    raise pickle.UnpicklingError(f"it has more than {MAX_OPCODES} opcodes")


def _rows(content: object, size: int) -> list[Row]:
    """Return the rows of an unpickled list; `size` is that of the file, which no arrays can be larger than."""
    if not isinstance(content, list) or not content:
        raise pickle.UnpicklingError("it holds no list")
    rows = []
    for entry in content:
        if not isinstance(entry, list | tuple) or len(entry) != 3:
            raise pickle.UnpicklingError("a row is not [feature, label, path]")
        array, label, path = entry
        if type(label) is not int or not 0 <= label < 2**31 or not isinstance(path, str) or len(path) > MAX_PATH:
            raise pickle.UnpicklingError("a row has no label or no path")
        data, dtype, shape = _array(array)
        size -= len(data)
        if size < 0:
            raise pickle.UnpicklingError("it uses the same numbers for several rows")
        rows.append(Row(_vector(data, dtype, shape), label, path))
    return rows


def _array(call: object) -> tuple[bytes | bytearray | str, object, object]:
    """Return bytes, dtype and shape of an array, as numpy.ndarray.__reduce__ and __reduce_ex__ write it."""
    if not isinstance(call, _Call):
        raise pickle.UnpicklingError("a row has no array")
    if call.name == "_frombuffer":
        data, dtype, shape, _order = call.arguments
    else:
        _version, shape, dtype, _order, data = call.state
    if isinstance(data, _Call) and data.name == "encode" and data.arguments[1:] == ("latin1",):
        data = data.arguments[0]  # how Python 3 writes bytes for Python 2
    if not isinstance(data, bytes | bytearray | str):
        raise pickle.UnpicklingError("an array has no bytes")
    return data, dtype, shape


def _vector(data: bytes | bytearray | str, dtype: object, shape: object) -> NDArray[np.float32]:
    if not isinstance(dtype, _Call) or dtype.name != "dtype" or dtype.arguments[0] not in WIDTHS:
        raise pickle.UnpicklingError("an array is not of float32 or float64")
    order = dtype.state[1] if dtype.state else "="
    if order not in ("<", ">", "=", "|"):
        raise pickle.UnpicklingError("an array has no byte order")
    sides = shape if isinstance(shape, tuple) else (shape,)
    if not 1 <= len(sides) <= 4 or not all(type(side) is int and side >= 1 for side in sides):
        raise pickle.UnpicklingError("an array has no shape")
    raw = data.encode("latin-1") if isinstance(data, str) else data
    kind = np.dtype(f"{order}{dtype.arguments[0]}")
    # the published code squeezes pool_3 to one dimension, so the order of axes never matters
    if math.prod(sides) != max(sides) or math.prod(sides) * kind.itemsize != len(raw):
        raise pickle.UnpicklingError(f"an array of shape {sides} in {len(raw)} bytes")
    with np.errstate(over="ignore", invalid="ignore"):
        vector = np.asarray(np.frombuffer(raw, kind), np.float32)
    if not np.isfinite(vector).all():
        raise pickle.UnpicklingError("an array has numbers that are not finite")
    return vector


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
