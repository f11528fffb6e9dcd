"""What `.npz` files hold: arrays of plain numbers and text, and a checksum of which arrays there are.

Headers of arrays are read by one pattern, dtypes by a short list: nothing is evaluated, unpickled or taken on trust.
"""

import hashlib
import io
import math
import mmap
import re
import struct
import sys
import zipfile
from collections.abc import Collection, Iterable, Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mhcln.storage.zip_members import PIECE_BYTES, STORED, Content, DamagedError, Member, open_member, read_directory

AnyArray = NDArray[Any]

CHECKSUM = "checksum"  # name of the array that the others are checked against
ENDING = ".npy"
# Arrays above this size may not be a hundred times what the file takes: real features expand about twofold.
BOMB_BYTES = 64 * 2**20
BOMB_RATIO = 100

ALIGNMENT = 64  # bytes: where an array begins that is mapped, as numpy.lib.format aligns it behind its header
_LOCAL_HEADER_BYTES = 30 + 20 + 4  # without the name: fixed fields, sizes in 64 bits, head of the padding
_PADDING = 0xD935  # of the extra field that Android's zipalign uses for the same; readers skip what they do not know

_VERSIONS = {b"\x93NUMPY\1\0": 2, b"\x93NUMPY\2\0": 4}  # bytes of the length of the header
_HEADER_BYTES = 10_000  # the limit of numpy.lib.format
# What numpy.lib.format writes of every dtype without fields. A shape is (), (3,), (3, 4) and so on.
_HEADER = re.compile(
    r"\{'descr': '([^']*)', 'fortran_order': (True|False), 'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\),? ?\} *\n"
)
_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|U\d{1,7})")
_MOST_DIMENSIONS = 8


def write_arrays(handle: IO[bytes], arrays: Mapping[str, Any], aligned: bool = False) -> None:
    """Write named arrays as `numpy.savez` does, and behind them the checksum of their names and contents.

    Args:
        handle: The file, at its beginning.
        arrays: The arrays.
        aligned: Whether each is to begin at a multiple of `ALIGNMENT`, so that it can be computed with when mapped.
    """
    with zipfile.ZipFile(handle, "w") as archive:
        for name, value in arrays.items():
            _write_array(archive, name, value, handle.tell() if aligned else None)
        written = [(info.filename, info.file_size, info.CRC) for info in archive.infolist()]
        _write_array(archive, CHECKSUM, _checksum(written))


def _write_array(archive: zipfile.ZipFile, name: str, value: object, start: int | None = None) -> None:
    member = zipfile.ZipInfo(name + ENDING)
    if start is not None:
        size = -(start + _LOCAL_HEADER_BYTES + len(member.filename)) % ALIGNMENT
        member.extra = struct.pack("<2H", _PADDING, size) + bytes(size)
    with archive.open(member, "w", force_zip64=True) as stream:
        np.lib.format.write_array(stream, np.asanyarray(value), allow_pickle=False)


def _checksum(members: Iterable[tuple[str, int, int]]) -> str:
    """Return the hex SHA-256 of name, size and CRC-32 of each member."""
    lines = sorted(f"{name} {size} {crc:08x}\n" for name, size, crc in members)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_arrays(handle: io.BufferedReader, names: Collection[str] | None) -> dict[str, AnyArray]:
    """Read arrays by name. Files that other programs wrote, or earlier versions, carry no checksum and need none.

    Args:
        handle: The file.
        names: Arrays to read, all if None. Those that the file lacks are left out of what is returned.

    Raises:
        DamagedError: It is not an archive of plain arrays, or does not hold what it claims.
    """
    length = handle.seek(0, io.SEEK_END)
    members = {name.removesuffix(ENDING): member for name, member in _members(handle, length).items()}
    checksum = members.pop(CHECKSUM, None)
    if checksum is not None:
        there = ((f"{name}{ENDING}", member.size, member.crc) for name, member in members.items())
        if _read_array(handle, checksum).tolist() != _checksum(there):
            raise DamagedError("its arrays are not those that were written")
    wanted = list(members) if names is None else [name for name in names if name in members]
    total = sum(members[name].size for name in wanted)
    if total > max(BOMB_BYTES, BOMB_RATIO * length):
        raise DamagedError(f"it claims {total} bytes out of {length}")
    return {name: _read_array(handle, members[name]) for name in wanted}


def map_arrays(handle: io.BufferedReader) -> dict[str, AnyArray]:
    """Map the arrays of a file that `write_arrays` wrote: their bytes are read when they are used, and unchecked.

    Args:
        handle: The file; it may be closed when this returns.

    Raises:
        DamagedError: It is not an archive of plain arrays that are stored as they are, with their checksum.
    """
    length = handle.seek(0, io.SEEK_END)
    members = {name.removesuffix(ENDING): member for name, member in _members(handle, length).items()}
    if CHECKSUM not in members or any(member.method != STORED for member in members.values()):
        raise DamagedError("its arrays cannot be mapped")
    del members[CHECKSUM]
    mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    found = {}
    for name, member in members.items():
        content = open_member(handle, member)
        shape, fortran_order, dtype = _read_header(content, member)
        count = math.prod(shape)
        if not dtype.itemsize or count * dtype.itemsize != content.left:
            raise DamagedError(f"{member} does not hold the {shape} {dtype} that it claims")
        start = member.start + member.size - content.left
        data = np.frombuffer(mapped, dtype, count, start)
        found[name] = data.reshape(shape, order="F" if fortran_order else "C")
    return found


def check_arrays(handle: io.BufferedReader) -> None:
    """Compare everything that a file holds with what was written, a piece in memory at a time.

    Raises:
        DamagedError: It is not an archive of plain arrays, or does not hold what it claims.
    """
    read_arrays(handle, ())
    for member in _members(handle, handle.seek(0, io.SEEK_END)).values():
        content, piece = open_member(handle, member), memoryview(bytearray(PIECE_BYTES))
        while content.left:
            content.fill(piece[: content.left])
        content.finish()


def _members(handle: io.BufferedReader, length: int) -> dict[str, Member]:
    found = {member.name.decode("utf-8", "backslashreplace"): member for member in read_directory(handle, length)}
    return {name: member for name, member in found.items() if name.endswith(ENDING)}


def _read_array(handle: io.BufferedReader, member: Member) -> AnyArray:
    content = open_member(handle, member)
    shape, fortran_order, dtype = _read_header(content, member)
    count = math.prod(shape)
    # Sides beside one of 0 are bounded too: NumPy fails on an empty array whose other sides are beyond all memory.
    room = math.prod(side or 1 for side in shape) * dtype.itemsize
    if not dtype.itemsize or count * dtype.itemsize != content.left or room > sys.maxsize:
        raise DamagedError(f"{member} does not hold the {shape} {dtype} that it claims")
    data = np.empty(count, dtype)
    if count:
        content.fill(data.view(np.uint8).data)
    content.finish()
    if dtype.kind == "U":  # NumPy fails on a letter beyond the last of Unicode, wherever it is first used
        letters = data.view(f"{dtype.byteorder}u4")
        if letters.max(initial=0) > sys.maxunicode:
            raise DamagedError(f"{str(member).removesuffix(ENDING)} is not text")
    if dtype.kind == "b" and data.view(np.uint8).max(initial=0) > 1:  # what NumPy computes with these is undefined
        raise DamagedError(f"{str(member).removesuffix(ENDING)} is neither true nor false")
    return data.reshape(shape, order="F" if fortran_order else "C")


def _read_header(content: Content, member: Member) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and dtype of an array, which must be of plain numbers or text."""
    start = content.take(8)
    if start not in _VERSIONS:
        raise DamagedError(f"{member} is not an array")
    length = int.from_bytes(content.take(_VERSIONS[start]), "little")
    if length > _HEADER_BYTES:
        raise DamagedError(f"{member} has a header of {length} bytes")
    found = _HEADER.fullmatch(content.take(length).decode("latin-1"))
    if not found:
        raise DamagedError(f"{member} is not an array of plain numbers or text")
    kind, order, sides = found.groups()
    if not _DTYPE.fullmatch(kind):
        what = "Python objects" if "O" in kind else repr(kind)
        raise DamagedError(f"{member} holds {what}, not plain numbers or text such as numpy.array(names, str)")
    shape = tuple(int(side) for side in sides.split(",") if side.strip())
    if len(shape) > _MOST_DIMENSIONS:
        raise DamagedError(f"{member} has {len(shape)} dimensions")
    return shape, order == "True", np.dtype(kind)
