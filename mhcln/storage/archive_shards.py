"""Images that were added to the archive of a run: shards of up to a million, which are mapped, and one manifest.

K32/archives/
  archive.json            which shards there are, in storage order, and what made their codes; replaced as a whole
  shards/00000001.npz     codes, paths and the rest of one shard, laid out for search
"""

import dataclasses
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.files import replacing, sha256_of
from mhcln.storage.formats import Addition
from mhcln.storage.npz import map_arrays, write_arrays
from mhcln.storage.paths import PathTable
from mhcln.storage.runs import Run
from mhcln.storage.source import FORMAT, Source, read_json_content, write_json_content
from mhcln.storage.zip_members import DamagedError

MADE_BY = f"{layout.HASH} or {layout.ADD}"
OTHER_FILES = 256  # that a process has open beside shards, at most


@dataclasses.dataclass(frozen=True)
class ArchiveShard:
    """The content of a shard; its arrays are mapped when it was read.

    Attributes:
        codes: `[n, b] uint8`, packed, in storage order.
        distinct: `[w, m]`, the different codes as machine words, sorted.
        first: `[m + 1] uint32`, where the rows of each of those begin in `rows`, and the end.
        rows: `[n] uint32`, code by code.
        levels: `[n, K] uint8`, activations in 256 steps, in the order of `rows`; `[0, K]` if they are not known.
        labels: `[n] int32`, numbers into the class names of the shard, -1 for an image without a class.
        path_bytes, path_starts, path_order: `content`, `starts` and `order` of a PathTable.
        stamps: `[n, 3] int64`, the stamp of each file when it was described; `[0, 3]` if they are not known.
        lonlat: `[n, 5, 2]`, where the images lie, NaN where that is not known; `[0, 5, 2]` if it is of none.
    """

    codes: NDArray[np.uint8]
    distinct: NDArray[np.unsignedinteger]
    first: NDArray[np.uint32]
    rows: NDArray[np.uint32]
    levels: NDArray[np.uint8]
    labels: NDArray[np.int32]
    path_bytes: NDArray[np.uint8]
    path_starts: NDArray[np.integer]
    path_order: NDArray[np.uint32]
    stamps: NDArray[np.int64]
    lonlat: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.codes)


# Kinds of each array of a shard, and its sides: n images, m different codes, b bytes and K bits of a code, any if None.
_ARRAYS: dict[str, tuple[tuple[str, ...], tuple[str | int | None, ...]]] = {
    "codes": (("u1",), ("n", "b")),
    "distinct": (("u2", "u4", "u8"), (None, "m")),
    "first": (("u4",), ("m + 1",)),
    "rows": (("u4",), ("n",)),
    "levels": (("u1",), ("n", "K")),
    "labels": (("i4",), ("n",)),
    "path_bytes": (("u1",), (None,)),
    "path_starts": (("u4", "i8"), ("n + 1",)),
    "path_order": (("u4",), ("n",)),
    "stamps": (("i8",), ("n", 3)),
    "lonlat": (("f8",), ("n", 5, 2)),
}
_MAY_BE_EMPTY = ("levels", "stamps", "lonlat")


@dataclasses.dataclass(frozen=True)
class ShardEntry:
    """What the manifest says of a shard.

    Attributes:
        source: Name of the addition that it belongs to.
        images_dir: Folder that its paths start from.
        class_names: Names of its classes, for people; empty for images without classes.
        float_scale: As in `mhcln.storage.features_file.ImageTable`.
        bits, extractor, model_sha256: What made its codes, as in `mhcln.storage.formats.Addition`.
        images: How many it holds.
        first_path, last_path: Bounds of its paths, as a PathTable has them.
        file: Name of the file; "" if it is not written yet.
        size, changed, sha256: Bytes and time of change (in nanoseconds) of the file as it was written, and its SHA-256.
    """

    source: str
    images_dir: str
    class_names: list[str]
    float_scale: str = ""
    bits: int = 0
    extractor: str = ""
    model_sha256: str = ""
    images: int = 0
    first_path: str = ""
    last_path: str = ""
    file: str = ""
    size: int = 0
    changed: int = 0
    sha256: str = ""

    def paths_of(self, shard: ArchiveShard) -> PathTable:
        """Return the paths of the shard."""
        bounds = self.first_path, self.last_path
        return PathTable.stored(shard.path_bytes, shard.path_starts, shard.path_order, bounds)


def read_entries(run: Run) -> list[ShardEntry]:
    """Read which shards the archive of a run has, in storage order; none if there is no manifest.

    Raises:
        UserError: The manifest is damaged, or gone although there are shards.
    """
    folder = run.folder / layout.ARCHIVES
    path = folder / layout.ARCHIVE_MANIFEST
    if not path.exists() and not _files(run):
        return []
    source = Source(path, f"{MADE_BY} once {folder} is deleted")
    content = read_json_content(path, source.made_by)
    shards = content.get("shards")
    source.require(isinstance(shards, list) and all(isinstance(each, dict) for each in shards), "it names no shards")
    return [source.parse(ShardEntry, each, complete=True) for each in shards]  # type: ignore[attr-defined]


def allow_open_files(shards: int) -> None:
    """Let this process keep so many shards open, as their maps do: the usual limit is 1,024 files.

    Raises:
        UserError: The system does not allow as many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = shards + OTHER_FILES
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except ValueError:  # above the hard limit; macOS has another one, whatever that is
        raise UserError(
            f"the archive has {shards} shards, each an open file, and this process may not open {wanted} files at a "
            "time; raise that limit (ulimit -Hn, on macOS kern.maxfilesperproc)"
        ) from None


def write_entries(run: Run, entries: Sequence[ShardEntry]) -> None:
    """Make these the shards of an archive at once, and remove the files of all others."""
    folder = run.folder / layout.ARCHIVES
    write_json_content(folder / layout.ARCHIVE_MANIFEST, {"shards": [dataclasses.asdict(entry) for entry in entries]})
    named = {entry.file for entry in entries}
    for path in _files(run):
        if path.name not in named:
            path.unlink()


def _files(run: Run) -> list[Path]:
    return list((run.folder / layout.ARCHIVES / layout.ARCHIVE_SHARDS).glob("*.npz"))


def write_shard(run: Run, shard: ArchiveShard, about: ShardEntry) -> ShardEntry:
    """Write a shard, which belongs to the archive once `write_entries` names it.

    Args:
        run: The run.
        shard: The content.
        about: The addition that it belongs to; the rest of the entry is filled in.
    """
    folder = run.folder / layout.ARCHIVES / layout.ARCHIVE_SHARDS
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(path.stem) for path in _files(run) if path.stem.isdecimal()), default=0)
    path = folder / f"{number:08}.npz"
    with replacing(path) as part, part.open("wb") as handle:
        write_arrays(handle, {**vars(shard), "format": np.int64(FORMAT)}, aligned=True)
    status = path.stat()
    return dataclasses.replace(
        about,
        bits=run.codes.bits,
        extractor=run.inputs.extractor or "",
        model_sha256=run.files.get(layout.MODEL, ""),
        images=len(shard),
        file=path.name,
        size=status.st_size,
        changed=status.st_mtime_ns,
        sha256=sha256_of(path),
    )


def read_shard(run: Run, entry: ShardEntry) -> ArchiveShard:
    """Map a shard.

    Its bytes are trusted if size and time of change are those of its writing, and read and compared otherwise.

    Raises:
        UserError: The file is missing, or is not the one that was written, or holds codes of another model.
    """
    path = run.folder / layout.ARCHIVES / layout.ARCHIVE_SHARDS / entry.file
    problem = other_maker(run, entry) or _change(path, entry)
    if problem:
        images = f"the images of {entry.source!r}" + (f" in {entry.images_dir}" if entry.images_dir else "")
        raise UserError(f"{path} {problem}; add {images} again with {MADE_BY}")
    try:
        with path.open("rb") as handle:
            arrays = map_arrays(handle)
    except DamagedError as error:
        raise UserError(f"{path} is damaged ({error}); add its images again with {MADE_BY}") from error
    source = Source(path, MADE_BY)
    source.require_format(arrays.pop("format", np.array(None)).tolist())
    _require_shapes(source, arrays, entry, run.codes.bits)
    return ArchiveShard(**{name: arrays[name] for name in _ARRAYS})


def other_maker(run: Run, made: ShardEntry | Addition) -> str:
    """Return which other codes than those of a run these are; "" if bits, backbone and model are the run's."""
    if made.bits != run.codes.bits:
        return f"holds codes of {made.bits} bits, those of {run.folder} have {run.codes.bits}"
    if made.extractor != run.inputs.extractor:
        return f"holds codes of features of {made.extractor!r}, {run.folder} was trained on {run.inputs.extractor!r}"
    if made.model_sha256 != run.files.get(layout.MODEL):
        return f"holds codes of another model than that of {run.folder}"
    return ""


def _change(path: Path, entry: ShardEntry) -> str:
    """Return how a file differs from what was written; "" if it does not."""
    if not path.is_file():
        return "is missing"
    status = path.stat()
    same = status.st_size == entry.size
    if same and status.st_mtime_ns != entry.changed:
        same = sha256_of(path) == entry.sha256
    return "" if same else f"is not the file that {layout.ARCHIVE_MANIFEST} tells of"


def _require_shapes(source: Source, arrays: dict[str, NDArray[Any]], entry: ShardEntry, bits: int) -> None:
    for name in _ARRAYS:
        source.require(name in arrays, f"it has no array {name!r}")
    n, m = entry.images, len(arrays["first"]) - 1
    sides = {"n": n, "n + 1": n + 1, "m": m, "m + 1": m + 1, "b": (bits + 7) // 8, "K": bits}
    for name, (kinds, names) in _ARRAYS.items():
        array = arrays[name]
        expected = [sides[side] if isinstance(side, str) else side for side in names]
        shape = [None if side is None else found for side, found in zip(expected, array.shape, strict=False)]
        empty = name in _MAY_BE_EMPTY and not array.size
        right = array.ndim == len(expected) and (shape == expected or (empty and shape[1:] == expected[1:]))
        source.require(right and array.dtype.str[1:] in kinds, f"{name} are {array.dtype} {array.shape}")
    complete = m >= 0 and arrays["first"][-1] == n and arrays["path_starts"][-1] == len(arrays["path_bytes"])
    source.require(bool(complete), "it does not hold the images that it claims")
