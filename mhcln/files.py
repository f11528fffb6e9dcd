"""Files that are whole or absent: replacement by rename, folder locks, checked reading of `.npz` and `.json`."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mhcln.errors import UserError

PART = ".part."
# A deflated member above this size may not expand more than a hundredfold: real features expand about twofold.
BOMB_BYTES = 64 * 2**20
BOMB_RATIO = 100
JSON_BYTES = 64 * 2**20
PIECE_BYTES = 2**20


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; rename it to `path` when the block ends well, remove it when not.

    The name keeps its ending, since Keras chooses the format by it. The file and its folder are synced, so that
    after a power cut there is the old file or the new one, never a part.
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
    """Hold `folder` for writing (made if absent) and clear what a killed process left half-written in it.

    Raises UserError where another process holds it. The lock ends with the process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as handle:
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
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def write_npz(path: Path, arrays: Mapping[str, np.ndarray | str | int | float]) -> None:
    """Write named arrays as an uncompressed `.npz`, whole or not at all; the same arrays give the same bytes."""
    with replacing(path) as part, part.open("wb") as handle:
        np.savez(handle, **{name: np.asarray(value) for name, value in arrays.items()})


def read_npz(path: Path, made_by: str, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Read the named arrays (all where `names` is None) of a `.npz`, each checked against its CRC-32.

    Nothing is unpickled, and a member that claims more than it can hold is refused before memory is taken for it.
    Names that the file lacks are left out of the answer. Raises UserError, naming `made_by`, the command that makes
    the file, where it is missing or damaged.
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
        what = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is damaged ({what}); make it again with {made_by}") from error


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
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
        count = 1
        for side in shape:
            count *= int(side)
        if count < 0 or not dtype.itemsize or count * dtype.itemsize != info.file_size - stream.tell():
            raise ValueError(f"{info.filename} does not hold the {shape} {dtype} that it claims")
        data = np.empty(count, dtype)
        if data.nbytes:
            place = memoryview(data.view(np.uint8))
            for start in range(0, data.nbytes, PIECE_BYTES):  # all at once, zipfile would copy it several times
                piece = place[start : start + PIECE_BYTES]
                if stream.readinto(piece) != len(piece):
                    raise ValueError(f"{info.filename} ends early")
        if stream.read(1):  # reading past the end makes zipfile compare the CRC
            raise ValueError(f"{info.filename} is longer than it claims")
    return data.reshape(shape, order="F" if fortran_order else "C")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with a `checksum` of the rest, whole or not at all."""
    checksum = _json_checksum(value)
    write_text(path, json.dumps({**value, "checksum": checksum}, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, made_by: str) -> dict[str, Any]:
    """Read what `write_json` wrote, without its checksum; raises UserError where it is missing or damaged."""
    value = parse_json(path, made_by)
    checksum = value.pop("checksum", None)
    if checksum != _json_checksum(value):
        raise UserError(f"{path} was changed after it was written; make it again with {made_by}")
    return value


def parse_json(path: Path, made_by: str) -> dict[str, Any]:
    """Read a JSON object that people write by hand, so without a checksum."""
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


def _json_checksum(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
