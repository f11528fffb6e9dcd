"""A list of several files that hold one thing, such as the shards of features: replaced as a whole, with checksums."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

from mhcln.console import UserError
from mhcln.storage.files import PART, sha256_of
from mhcln.storage.source import Source, read_json_content, write_json_content


@dataclasses.dataclass(frozen=True)
class ListedFile:
    """An entry of a list.

    Attributes:
        file: Name of the file in the folder of the listed files.
        images: Number of images in it.
        sha256: Hex SHA-256 of the file.
        size: Its bytes.
        changed: Its time of change, in nanoseconds, as it was written.
        source: In an archive: the name of the addition that the images belong to.
        images_dir: In an archive: the folder of the images.
    """

    file: str
    images: int
    sha256: str
    size: int
    changed: int
    source: str = ""
    images_dir: str = ""

    def problem(self, folder: Path, trust_times: bool = False) -> str:
        """Return how the file differs from its entry; "" if it does not.

        Args:
            folder: Folder of the listed files.
            trust_times: Whether a file of the same size and time of change counts as unchanged. If not, it is read.
        """
        path = folder / self.file
        if not path.is_file():
            return "is missing"
        status = path.stat()
        same = status.st_size == self.size
        if same and not (trust_times and status.st_mtime_ns == self.changed):
            same = sha256_of(path) == self.sha256
        return "" if same else "is not the file that was listed"


def entry_of(path: Path, images: int, source: str = "", images_dir: str = "") -> ListedFile:
    """Return the entry of a file that was just written; arguments are fields of the entry."""
    status = path.stat()
    return ListedFile(path.name, images, sha256_of(path), status.st_size, status.st_mtime_ns, source, images_dir)


def read_list(path: Path, made_by: str, digest: hashlib._Hash | None = None) -> list[ListedFile]:
    """Read a list of files.

    Args:
        path: The list.
        made_by: The command that makes it, for the messages.
        digest: If given, the bytes of the list are added to it.
    """
    source = Source(path, made_by)
    entries = read_json_content(path, made_by, digest).get("files")
    source.require_type("files", entries, list[dict[str, object]])
    files = [source.parse(ListedFile, entry) for entry in entries]  # type: ignore[attr-defined]
    for each in files:
        source.require(Path(each.file).name == each.file and each.images > 0, f"it lists {each.file[:60]!r}")
    source.require(len({each.file for each in files}) == len(files), "it lists a file twice")
    return files


def write_list(path: Path, folder: Path, files: Sequence[ListedFile]) -> None:
    """Replace a list of files in `folder` at once; then remove the files there that it does not name."""
    write_json_content(path, {"files": [vars(each) for each in files]})
    remove_unlisted(folder, files)


def remove_unlisted(folder: Path, files: Sequence[ListedFile]) -> None:
    """Remove the `.npz` files of a folder that are not listed, and the folder if it is empty."""
    if not folder.is_dir():
        return
    named = {each.file for each in files}
    for path in folder.iterdir():
        if path.name not in named and (path.suffix == ".npz" or path.name.startswith(PART)):
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def require_listed(folder: Path, entry: ListedFile, made_by: str, trust_times: bool = False) -> None:
    """Raise UserError if a file differs from its entry; arguments as in `ListedFile.problem`."""
    if problem := entry.problem(folder, trust_times):
        raise UserError(f"{folder / entry.file} {problem}; make it again with {made_by}")
