"""A run's archive to an index of FAISS, for programs that search with it."""

from pathlib import Path
from types import ModuleType

import numpy as np

from mhcln.console import Console, UserError
from mhcln.data import datasets
from mhcln.pipeline.evaluate import open_run
from mhcln.storage import runs
from mhcln.storage.archive import load_archive
from mhcln.storage.files import locked, replacing
from mhcln.storage.text_files import write_csv

INDEX = ".faiss"  # ends the name of an index
IDS = "ids.csv"  # lies beside it
HEADER = ("id", "path", "class", "images_dir")


def export_index(
    dump_dir: Path, run_name: str | None, target: Path, which: str, images_dir: Path | None, console: Console
) -> None:
    """Write the codes of an archive as a binary index that is searched exactly, and which image each id is.

    Args:
        dump_dir: Folder of the run's folder.
        run_name: The run; None for the only one.
        target: The index; an older one is replaced.
        which: The archive: "test", "train", "database", or "all" for them and all that was added.
        images_dir: Where the run's images are; None if where extraction found them.
        console: Where it is reported.

    Raises:
        UserError: There is no faiss, the archive cannot be read, or something else lies where the files would.
    """
    faiss = _faiss()
    _check_place(target)
    run = open_run(runs.choose_run(dump_dir, run_name))
    class_names = datasets.display_names(run.inputs.dataset, run.codes.class_names)
    archive = load_archive(run, which, class_names, images_dir)
    index = faiss.IndexBinaryFlat(8 * archive.parts[0].codes.shape[1])
    for part in archive.parts:
        index.add(np.ascontiguousarray(part.codes))
    ids = target.with_name(IDS)
    paths = (path for part in archive.parts for path in part.paths)
    rows = ((row, path, archive.class_of(row), archive.images_dir_of(row)) for row, path in enumerate(paths))
    with locked(target.parent):
        _check_place(target)
        with replacing(target) as index_part, replacing(ids) as ids_part:
            faiss.serialize_index_binary(index).tofile(index_part)
            write_csv(ids_part, HEADER, rows)
            target.unlink(missing_ok=True)  # until both are renamed there is no index, rather than one of other ids
    console.say(f"{len(archive):,} codes of {archive.bits} bits: {target}; which image an id is: {ids}")


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError:
        raise UserError(f"--export to a {INDEX} file needs faiss; pip install faiss-cpu") from None
    return faiss


def _check_place(target: Path) -> None:
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
        raise UserError(f"{ids} tells the ids of {others[0]} and would be replaced; export into another folder")
