"""Files that are whole or absent: replacement by rename, folder locks, checked reading of `.npz` and `.json`."""

import contextlib
import csv
import errno
import fcntl
import hashlib
import io
import json
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError

PART = ".part."  # begins the name of a file that is being written
LOCK = ".lock"
# A deflated member above this size may not expand more than a hundredfold: real features expand about twofold.
BOMB_BYTES = 64 * 2**20
BOMB_RATIO = 100
JSON_BYTES = 64 * 2**20
PIECE_BYTES = 2**20

AnyArray = NDArray[Any]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all: written under another name, renamed when the block ends well.

    The file and its folder are synced, so that after a power cut there is the old file or the new one, never a part.

    Args:
        path: The file to write or replace.

    Yields:
        The path beside `path` to write to. It keeps the ending, since Keras chooses the format by it.
    """
    part = path.with_name(PART + path.name)
    try:
        yield part
        _sync(part)
        part.replace(path)
        _sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for writing, and clear what a killed process left half-written in it.

    The folder is made if absent. The lock ends with the process, however that ends.

    Args:
        folder: The folder to write in.

    Raises:
        UserError: Another process holds the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise UserError(
                f"{folder}: another process is writing here; wait until it ends or choose another folder"
            ) from None
        for part in folder.glob(PART + "*"):
            part.unlink()
        yield


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays as an uncompressed `.npz`, whole or not at all; the same arrays give the same bytes."""
    with replacing(path) as part, part.open("wb") as handle:
        np.savez(handle, **arrays)


def read_npz(path: Path, made_by: str, names: Collection[str] | None = None) -> dict[str, AnyArray]:
    """Read arrays of a `.npz`, each checked against its CRC-32.

    Nothing is unpickled, and a member that claims more than it can hold is refused before memory is taken for it.

    Args:
        path: The file.
        made_by: The command that makes the file, for the messages.
        names: Arrays to read, all if None. Those that the file lacks are left out of what is returned.

    Returns:
        The arrays by name.

    Raises:
        UserError: The file is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; make it with {made_by}")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = members if names is None else [name for name in names if name in members]
            return {name: _read_member(archive, members[name]) for name in wanted}
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        ValueError,
        NotImplementedError,  # a compression method that zipfile does not know
        RuntimeError,  # an encrypted member
        tokenize.TokenError,  # an array header cut short
        OverflowError,  # an offset beyond any file
        OSError,
    ) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise UserError(f"{path} is damaged ({one_line(error)}); make it again with {made_by}") from error


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> AnyArray:
    if info.file_size > BOMB_BYTES and info.file_size > BOMB_RATIO * info.compress_size:
        raise ValueError(f"{info.filename} claims {info.file_size} bytes out of {info.compress_size}")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{info.filename} has array format {version}")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(stream)
        if dtype.hasobject:
            raise ValueError(f"{info.filename} holds Python objects")
        count = math.prod(int(side) for side in shape)
        if count < 0 or not dtype.itemsize or count * dtype.itemsize != info.file_size - stream.tell():
            raise ValueError(f"{info.filename} does not hold the {shape} {dtype} that it claims")
        data = np.empty(count, dtype)
        if data.nbytes:
            target = data.view(np.uint8).data
            for start in range(0, data.nbytes, PIECE_BYTES):  # all at once, zipfile would copy it several times
                piece = target[start : start + PIECE_BYTES]
                if stream.readinto(piece) != len(piece):  # type: ignore[attr-defined]  # ZipExtFile is buffered
                    raise ValueError(f"{info.filename} ends early")
        if stream.read(1):  # reading past the end makes zipfile compare the CRC
            raise ValueError(f"{info.filename} is longer than it claims")
    return data.reshape(shape, order="F" if fortran_order else "C")


def one_line(error: BaseException, most: int = 200) -> str:
    """Return the text of an error of a library as one line of at most `most` characters."""
    return " ".join(str(error).split())[:most]


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header, lines ended by a newline alone, whole or not at all."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    write_text(path, text.getvalue())


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a JSON object with a `checksum` of the rest, whole or not at all."""
    checksum = _json_checksum(value)
    write_text(path, json.dumps({**value, "checksum": checksum}, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, made_by: str) -> dict[str, object]:
    """Read what `write_json` wrote, without its checksum.

    Raises:
        UserError: The file is missing or damaged, or was changed by hand.
    """
    value = parse_json(path, made_by)
    checksum = value.pop("checksum", None)
    if checksum != _json_checksum(value):
        raise UserError(f"{path} was changed after it was written; make it again with {made_by}")
    return value


def parse_json(path: Path, made_by: str) -> dict[str, object]:
    """Read a JSON object that people write by hand, and which so has no checksum.

    Raises:
        UserError: The file is missing, or does not hold a JSON object.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; make it with {made_by}")
    if path.stat().st_size > JSON_BYTES:
        raise UserError(f"{path} is larger than {JSON_BYTES} bytes; make it again with {made_by}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); make it again with {made_by}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} does not hold a JSON object; make it again with {made_by}")
    return value


def _json_checksum(value: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
