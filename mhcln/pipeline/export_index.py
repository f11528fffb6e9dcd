"""A run's archive to an index of FAISS, for programs that search with it."""

from pathlib import Path
from types import ModuleType

import numpy as np

from mhcln.console import Console, UserError
from mhcln.pipeline.opened_run import OpenedRun
from mhcln.storage.files import locked, replacing
from mhcln.storage.text_files import write_csv

INDEX = ".faiss"  # ends the name of an index
IDS = "ids.csv"  # lies beside it
HEADER = ("id", "path", "class", "images_dir")


def export_index(opened: OpenedRun, target: Path, which: str, console: Console) -> None:
    """Write the codes of an archive as a binary index that is searched exactly, and the image of each id.

    Args:
        opened: The run.
        target: The index; an older one is replaced.
        which: The archive: "test", "train", "database", or "all" for them and all that was added.
        console: Where it is reported.
    """
    faiss = _faiss()
    _check_target(target)
    archive = opened.archive(which)
    index = faiss.IndexBinaryFlat(8 * archive.parts[0].codes.shape[1])
    for part in archive.parts:
        index.add(np.ascontiguousarray(part.codes))
    ids = target.with_name(IDS)
    paths = (path for part in archive.parts for path in part.paths)
    rows = ((row, path, archive.class_of(row), archive.images_dir_of(row)) for row, path in enumerate(paths))
    with locked(target.parent):
        _check_target(target)
        with replacing(target) as index_part, replacing(ids) as ids_part:
            faiss.serialize_index_binary(index).tofile(index_part)
            write_csv(ids_part, HEADER, rows)
            target.unlink(missing_ok=True)  # until both are renamed there is no index, rather than one of other ids
    console.say(f"{len(archive):,} codes of {archive.bits} bits: {target}; the image of each id: {ids}")


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError:
        raise UserError(f"--export to a {INDEX} file needs faiss; pip install faiss-cpu") from None
    return faiss


def _check_target(target: Path) -> None:
    """Raise UserError if files would be lost, or the ids of another index."""
    if target.is_dir():
        raise UserError(f"--export={target} is a folder; give the name of a file in it")
    ids = target.with_name(IDS)
    if not ids.exists():
        return
    with ids.open("rb") as handle:
        if handle.readline() != ",".join(HEADER).encode() + b"\n":
            raise UserError(f"{ids} is not of an export and would be replaced; export into another folder")
    others = sorted(path.name for path in target.parent.glob(f"*{INDEX}") if path.name != target.name)
    if others:
        raise UserError(f"{ids} holds the ids of {others[0]} and would be replaced; export into another folder")
