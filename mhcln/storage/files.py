"""Files that are whole or absent: replacement by rename, folder locks, checked reading of `.npz`."""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from mhcln.console import UserError
from mhcln.storage.npz import AnyArray, DamagedError, read_arrays, write_arrays

# Names of this software alone, since a user may choose a folder with other files, and a name with PART is removed.
PART = ".mhcln.part."  # begins the name of a file that is being written
LOCK = ".mhcln.lock"
NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # of NFS without a lock service, of FUSE
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)  # of folders on SMB and VirtualBox


class NotWritableError(UserError):
    """A folder in which this user can write nothing, or lock nothing."""

    def __init__(self, what: str) -> None:
        """Keep which folder that is and why, without advice."""
        super().__init__(f"{what}; choose a local --dump_dir that you may write to, for eval.py --out")
        self.what = what


@contextlib.contextmanager
def replacing(path: Path, alone: bool = True) -> Iterator[Path]:
    """Write a file, or a new folder, whole or not at all: under another name, renamed when the block ends well.

    It and its folder are synced, so that after a power cut there is the old file or the new one, never a part.

    Args:
        path: The file to write or replace, or the folder to make.
        alone: Whether this process is the only one that writes it; if not, the other name is one that no process has
            taken, so that the last to rename wins.

    Yields:
        The path beside `path` to write to. It keeps the ending, since Keras chooses the format by it.
    """
    part = path.with_name(PART + ("" if alone else f"{secrets.token_hex(8)}.") + path.name)
    try:
        yield part
        _sync_all(part)
        part.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(part)
        raise


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part)
    else:
        part.unlink()


def _sync_all(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            _sync_all(inner)
        _sync_folder(path)
    else:
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold `folder` for writing, and remove what a killed process has left half-written in it.

    The folder is made if absent. The lock ends with the process, however that ends. Its file stays, since a process
    may wait for it.

    Args:
        folder: The folder to write in.
        wait: Whether to wait until no other process holds it: for writes that are over at once.

    Raises:
        NotWritableError: This user cannot write there, or files cannot be locked there.
    """
    with _open_lock(folder) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                what = f"{folder} is on a file system that locks no files ({error.strerror})"
                raise NotWritableError(what) from None
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise UserError(
                f"{folder}: another process is writing here; wait until it ends or choose another folder"
            ) from None
        for part in folder.glob(PART + "*"):
            _remove(part)
        yield


def _open_lock(folder: Path) -> IO[str]:
    """Open the lock file of a folder; both are made if absent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / LOCK).open("a")
        if os.access(folder, os.W_OK):
            return handle
        handle.close()  # it was made when the folder could be written to
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        raise NotWritableError(f"{folder} cannot be written to ({error.strerror})") from None


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        _digest(handle, digest)
    return digest.hexdigest()


def _digest(handle: IO[bytes], digest: "hashlib._Hash") -> None:
    while block := handle.read(2**20):
        digest.update(block)


def write_npz(path: Path, arrays: Mapping[str, Any], alone: bool = True, aligned: bool = False) -> None:
    """Write named arrays as an uncompressed `.npz`, whole or not at all; the same arrays give the same bytes.

    `alone` is an argument of `replacing`, `aligned` one of `mhcln.storage.npz.write_arrays`.
    """
    with replacing(path, alone) as part, part.open("wb") as handle:
        write_arrays(handle, arrays, aligned)


def read_npz(
    path: Path, made_by: str, names: Collection[str] | None = None, digest: "hashlib._Hash | None" = None
) -> dict[str, AnyArray]:
    """Read arrays of a `.npz`, each checked against its CRC-32, and their names against a checksum.

    Args:
        path: The file.
        made_by: The command that makes the file, for the messages.
        names: Arrays to read, all if None. Those that the file lacks are left out of what is returned.
        digest: If given, the bytes of the file are added to it. They are those that the arrays are read from, even if
            another file takes the path meanwhile.

    Returns:
        The arrays by name.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; make it with {made_by}")
    try:
        with path.open("rb") as handle:
            if digest is not None:
                _digest(handle, digest)
            return read_arrays(handle, names)
    except DamagedError as error:
        raise UserError(f"{path} is damaged ({one_line(error)}); make it again with {made_by}") from error


def one_line(error: BaseException, most: int = 200) -> str:
    """Return the text of an error of a library as one line of at most `most` characters."""
    return " ".join(str(error).split())[:most]
