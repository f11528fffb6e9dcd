"""The images that `--query` and `--add` name: files, rows of an archive, or features of the same extractor."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mhcln.console import UserError, user_path
from mhcln.data import folders
from mhcln.storage import layout
from mhcln.storage.archive import Archive
from mhcln.storage.features import FILES, Features, file_of, read_features
from mhcln.storage.runs import Run


@dataclasses.dataclass(frozen=True)
class Query:
    """An image that is searched with.

    Attributes:
        path: Its file.
        row: Its row in the archive, if it was named by its path there; None for a file.
    """

    path: Path
    row: int | None = None


def find_queries(query: str, archive: Archive) -> list[Query]:
    """Return the images that `--query` names: one, all images under a folder, or "-" for a list on stdin."""
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
    """Return the image of a name: an image of the archive with this path, or a file.

    Args:
        name: The name.
        rows: Rows of the archive that have it as their path.
        archive: The archive.
    """
    if not rows:
        return Query(user_path(name))
    files = [archive.file_of(row) for row in rows]
    if Path(name).is_file() and not any(file.is_file() and file.samefile(name) for file in files):
        files.append(Path.cwd() / name)
    if len(files) > 1:
        raise UserError(f"{name} may be {' or '.join(map(str, files))}; give one of these")
    return Query(files[0], rows[0])


def features_file(query: str) -> Path | None:
    """Return the file of features that `--query` names, itself or in a folder without images; None if there is none."""
    path = user_path(query)
    if path.suffix in FILES:
        return path
    file = file_of(path)
    if not query or not file.is_file():
        return None
    image = folders.first_image(path)
    if image is not None:
        raise UserError(
            f"--query={query} holds {file.name} and images, first {image}; "
            f"give {file} to search with that, or a folder that holds the images alone"
        )
    return file


def read_of_same_extractor(place: Path, run: Run) -> Features:
    """Read features that can be compared with those that a run was trained on.

    Args:
        place: The file, or the folder of a `features.npz` or `features.json`.
        run: The run.
    """
    features = read_features(place)
    if not features.images.paths:
        raise UserError(f"{place} has features of no image; make them again with {layout.EXTRACT}")
    if features.images.extractor != run.inputs.extractor:
        raise UserError(
            f"{place} has features of {features.images.extractor!r}, {run.folder} was trained on "
            f"{run.inputs.extractor!r}; extract them again with the same backbone and flags"
        )
    return features
