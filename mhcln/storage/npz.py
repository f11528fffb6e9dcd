"""The content of `.npz` files: arrays of plain numbers and text, and a checksum of their names.

`zipfile` and `numpy.lib.format` read them. Every array is compared with its CRC-32, and no array may hold Python
objects, which only running a pickle could make.
"""

import contextlib
import hashlib
import math
import mmap
import struct
import zipfile
from collections.abc import Collection, Iterator, Mapping
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

AnyArray = NDArray[Any]

CHECKSUM = "checksum"  # name of the array that the others are checked against
ENDING = ".npy"
PIECE_BYTES = 2**20

ALIGNMENT = 64  # bytes: where an array begins that is mapped, as numpy.lib.format aligns it behind its header
_LOCAL_HEADER_BYTES = 30 + 20 + 4  # without the name: fixed fields, sizes in 64 bits, head of the padding
_PADDING = 0xD935  # of the extra field that Android's zipalign uses for the same; readers skip what they do not know


class DamagedError(Exception):
    """What is wrong with an archive. `mhcln.storage.files.read_npz` adds which it is, and what to do."""


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
        _write_array(archive, CHECKSUM, _checksum(archive))


def _write_array(archive: zipfile.ZipFile, name: str, value: object, start: int | None = None) -> None:
    member = zipfile.ZipInfo(name + ENDING)
    if start is not None:
        size = -(start + _LOCAL_HEADER_BYTES + len(member.filename)) % ALIGNMENT
        member.extra = struct.pack("<2H", _PADDING, size) + bytes(size)
    with archive.open(member, "w", force_zip64=True) as stream:
        npy.write_array(stream, np.asanyarray(value), allow_pickle=False)


def _checksum(archive: zipfile.ZipFile) -> str:
    """Return the hex SHA-256 of name, size and CRC-32 of each array but the checksum itself."""
    members = [info for info in archive.infolist() if info.filename != CHECKSUM + ENDING]
    lines = sorted(f"{info.filename} {info.file_size} {info.CRC:08x}\n" for info in members)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_arrays(handle: IO[bytes], names: Collection[str] | None = None) -> dict[str, AnyArray]:
    """Read arrays by name. Files of other programs carry no checksum and need none.

    Args:
        handle: The file.
        names: Arrays to read, all if None. Those that the file lacks are left out of what is returned.

    Raises:
        DamagedError: It is not an archive of plain arrays, or does not hold what it claims.
    """
    with _opened(handle) as archive:
        return {name: _read_array(archive, info) for name, info in _chosen(_members(archive), names).items()}


def map_arrays(handle: IO[bytes], names: Collection[str] | None = None) -> dict[str, AnyArray]:
    """Map arrays of a file that `write_arrays` wrote: their bytes are read when they are used, and unchecked.

    Args:
        handle: The file; it may be closed when this returns.
        names: As in `read_arrays`.

    Raises:
        DamagedError: It is not an archive of plain arrays that are stored as they are, with their checksum.
    """
    with _opened(handle) as archive:
        members = {info.filename.removesuffix(ENDING): info for info in archive.infolist()}
        stored = all(info.compress_type == zipfile.ZIP_STORED for info in members.values())
        if not stored or not members.pop(CHECKSUM, None):
            raise DamagedError("its arrays cannot be mapped")
        mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        return {name: _map_array(archive, info, mapped) for name, info in _chosen(members, names).items()}


@contextlib.contextmanager
def _opened(handle: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """Open an archive, and raise a DamagedError for whatever zipfile and NumPy raise if it is damaged."""
    try:
        with zipfile.ZipFile(handle) as archive:
            yield archive
    except Exception as error:
        raise DamagedError(str(error) or type(error).__name__) from error


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the arrays of an archive by name, which must be those that were written if it carries their checksum."""
    members = {}
    for info in archive.infolist():
        archive.open(info).close()  # its name is in the directory and before its content: zipfile compares them
        if b"PK\1\2" in info.extra + info.comment:  # zipfile does not count the entries of the directory
            raise DamagedError(f"{info.filename} hides the arrays after it")
        members[info.filename.removesuffix(ENDING)] = info
    if not members:
        raise DamagedError("it holds no arrays")
    checksum = members.pop(CHECKSUM, None)
    if checksum and _read_array(archive, checksum).tolist() != _checksum(archive):
        raise DamagedError("its arrays are not those that were written")
    return members


def _chosen(members: dict[str, zipfile.ZipInfo], names: Collection[str] | None) -> dict[str, zipfile.ZipInfo]:
    return members if names is None else {name: members[name] for name in names if name in members}


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> AnyArray:
    with archive.open(info) as stream:
        shape, in_fortran_order, dtype = _read_header(stream, info)
        array = np.empty(math.prod(shape), dtype)
        content = array.view(np.uint8).data
        for start in range(0, len(content), PIECE_BYTES):  # pieces that are still in the cache when they are copied
            content[start : start + PIECE_BYTES] = stream.read(PIECE_BYTES)
    return array.reshape(shape, order="F" if in_fortran_order else "C")


def _map_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, mapped: mmap.mmap) -> AnyArray:
    with archive.open(info) as stream:
        shape, in_fortran_order, dtype = _read_header(stream, info)
        header_bytes = stream.tell()
    lengths = struct.unpack_from("<2H", mapped, info.header_offset + 26)  # of name and extra field, which come next
    array = np.frombuffer(mapped, dtype, math.prod(shape), info.header_offset + 30 + sum(lengths) + header_bytes)
    return array.reshape(shape, order="F" if in_fortran_order else "C")


def _read_header(stream: IO[bytes], info: zipfile.ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, order and dtype of an array, which must fill the rest of the stream."""
    is_first = npy.read_magic(stream) == (1, 0)
    header = npy.read_array_header_1_0(stream) if is_first else npy.read_array_header_2_0(stream)
    shape, _, dtype = header
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds Python objects; write text as numpy.array(names, str)")
    if math.prod(shape) * dtype.itemsize != info.file_size - stream.tell():
        raise ValueError(f"{info.filename} does not hold the {shape} {dtype} that it claims")
    return header
