"""What is searched with, and in what: the images that `--query` names, and the index of an archive."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mhcln.console import Console, UserError, user_path
from mhcln.data import folders
from mhcln.hamming.ordered import OrderedIndex
from mhcln.pipeline.additions import laid_out
from mhcln.storage import layout
from mhcln.storage.archive import Archive


def index_of(archive: Archive, console: Console) -> OrderedIndex:
    """Return the index of an archive; it is said once if activations of images are not known."""
    parts = [laid_out(part) for part in archive.parts]
    unknown = sum(len(part.rows) for part in parts if part.levels is None)
    if unknown:
        console.warn(
            f"{unknown:,} of {len(archive):,} images have no activations, and come last, in storage order, among those "
            f"at equal distance; images that an earlier version added can be added again with {layout.ADD}"
        )
    return OrderedIndex(parts)


@dataclasses.dataclass(frozen=True)
class Query:
    """An image that is searched with.

    Attributes:
        path: Its file.
        row: Its row of the archive, if it was named by its path there; None if the file is to be described.
    """

    path: Path
    row: int | None = None


def find_queries(query: str, archive: Archive) -> list[Query]:
    """Return the images that `--query` names: one, all images under a folder, or "-" for a list on stdin.

    Raises:
        UserError: There are none, or a name fits several images.
    """
    path = user_path(query)
    if query and query != "-" and path.is_dir():
        return [Query(path / image) for image in folders.scan_unlabelled(path).paths]
    if query == "-":
        lines = sys.stdin.buffer if sys.stdin else ()  # a process without standard input has None
        names = [os.fsdecode(line.strip()) for line in lines if line.strip()]
        if not names:
            raise UserError("--query=- found no path on standard input; give one image path a line")
        return [_query_of(name, archive.rows_of(name), archive) for name in names]
    rows = archive.rows_of(query)
    if not rows and not path.is_file():
        raise UserError(
            f"--query={query} is neither an image nor a folder of images; give the path of one, of a .npz, or of an "
            f"image of the archive, such as {archive.path_of(0)}"
        )
    return [_query_of(query, rows, archive)]


def _query_of(name: str, rows: Sequence[int], archive: Archive) -> Query:
    """Return the image that a name means: that of the archive with this path, or a file.

    Args:
        name: The name.
        rows: Rows of the archive that have it as their path.
        archive: The archive.

    Raises:
        UserError: It may mean several.
    """
    if not rows:
        return Query(user_path(name))
    files = [archive.file_of(row) for row in rows]
    if Path(name).is_file() and not any(file.is_file() and file.samefile(name) for file in files):
        files.append(Path.cwd() / name)
    if len(files) > 1:
        raise UserError(f"{name} may be {' or '.join(map(str, files))}; give one of these")
    return Query(files[0], rows[0])
