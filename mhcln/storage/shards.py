"""Features that do not fit one file: shards, each a file of features of its own, and `features.json` that lists them.

What `features.json` lists is there, for it is written last; other shards are left from a writing that was stopped, or
from an earlier list. A new list has new names, so that the shards of the old one stay until it is replaced.
"""

import contextlib
import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.features_file import FEATURES_MADE_BY, Features, ImageTable, read_file, read_table, write_file
from mhcln.storage.files import PART, sha256_of
from mhcln.storage.mapped import MappedArray, MappedVectors, state_of
from mhcln.storage.source import Source, read_json_content, write_json_content
from mhcln.storage.zip_members import DamagedError

_FILE = re.compile(rf"{layout.SHARDS}/part-(\d{{5,9}})\.npz")
# Fields of an ImageTable that may differ between a shard of a stopped writing and what would be written now.
_INCIDENTAL = ("device", "software")

Read = Callable[[NDArray[np.int64]], NDArray[np.float32]]  # the vectors [m, d] of these rows


@dataclasses.dataclass(frozen=True)
class FeatureShard:
    """An entry of `features.json`.

    Attributes:
        file: Its file, relative to the folder of the list.
        images: Number of images in it.
        sha256: Hex SHA-256 of the file.
    """

    file: str
    images: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class _List:
    """The content of `features.json`."""

    images: int
    shards: list[object]


def read_list(path: Path, digest: "hashlib._Hash | None" = None) -> list[FeatureShard]:
    """Read which shards `features.json` lists, at least one.

    Args:
        path: The list.
        digest: If given, the bytes of the file that is read are added to it.

    Raises:
        UserError: It is missing or damaged.
    """
    source = Source(path, FEATURES_MADE_BY)
    content = source.parse(_List, read_json_content(path, FEATURES_MADE_BY, digest), complete=True)
    shards = []
    for entry in content.shards:
        if not isinstance(entry, dict):
            source.require(False, "a shard is not described by an object")
            continue
        shard = source.parse(FeatureShard, entry, complete=True)
        source.require(bool(_FILE.fullmatch(shard.file)), f"it lists {shard.file[:60]!r}")
        source.require(shard.images > 0, f"it lists {shard.images} images of {shard.file}")
        shards.append(shard)
    source.require(len({shard.file for shard in shards}) == len(shards) > 0, "it does not list different shards")
    source.require(sum(shard.images for shard in shards) == content.images, "the images of its shards are not its own")
    return shards


def read_sharded(path: Path) -> Features:
    """Read the features that `features.json` lists, but for the vectors, which stay in their files.

    Every shard is compared with its checksum. That the vectors are finite was checked when they were written.

    Raises:
        UserError: The list or a shard is missing, damaged, or not what was written.
    """
    digest = hashlib.sha256()
    opened = [_open(path, shard) for shard in read_list(path, digest)]
    return _together(path, opened, digest.hexdigest())


def read_intact(path: Path) -> Features | None:
    """Read what is left of the features that `features.json` lists: those of shards that are as they were written.

    Returns:
        None if nothing is left. `inputs` of the images is "" if a shard is not.
    """
    try:
        shards = read_list(path)
    except UserError:
        return None
    opened = []
    for shard in shards:
        with contextlib.suppress(UserError):
            opened.append(_open(path, shard))
    if not opened:
        return None
    features = _together(path, opened, "")
    if len(opened) == len(shards):
        return features
    return dataclasses.replace(features, images=dataclasses.replace(features.images, inputs=""))


def read_sharded_table(path: Path) -> ImageTable:
    """Read the images that `features.json` lists; raises UserError if it or a shard is missing or damaged."""
    tables = []
    for shard in read_list(path):
        tables.append(read_table(path.parent / shard.file))
        _require_count(path, shard, tables[-1])
    return _joined(path, tables)


def first_shard(path: Path) -> Path:
    """Return the file of the first shard that `features.json` lists; raises UserError if that is damaged."""
    return path.parent / read_list(path)[0].file


def _open(path: Path, shard: FeatureShard) -> tuple[ImageTable, MappedArray]:
    file = path.parent / shard.file
    source, digest = Source(file, FEATURES_MADE_BY), hashlib.sha256()
    if not file.is_file():
        raise UserError(f"{file} is missing, which {path.name} lists; make it again with {FEATURES_MADE_BY}")
    state = state_of(file)
    images = source.read(ImageTable, digest=digest)
    if digest.hexdigest() != shard.sha256:
        raise UserError(f"{file} is not the one that {path.name} lists; make it again with {FEATURES_MADE_BY}")
    _require_count(path, shard, images)
    try:
        vectors = MappedArray.find(file, "features", state)
    except DamagedError as error:
        raise UserError(f"{file} is not usable ({error}); make it again with {FEATURES_MADE_BY}") from None
    source.require(vectors.rows == len(images), f"rows and paths differ: {vectors.rows} and {len(images)}")
    return images, vectors


def _require_count(path: Path, shard: FeatureShard, images: ImageTable) -> None:
    if len(images) != shard.images:
        raise UserError(
            f"{path.parent / shard.file} has {len(images)} images, {path.name} lists {shard.images}; "
            f"make it again with {FEATURES_MADE_BY}"
        )


def _together(path: Path, opened: Sequence[tuple[ImageTable, MappedArray]], sha256: str) -> Features:
    tables, arrays = zip(*opened, strict=True)
    widths = {array.width for array in arrays}
    source = Source(path, FEATURES_MADE_BY)
    source.require(len(widths) == 1, f"its shards are of {len(widths)} widths")
    return Features(MappedVectors(arrays), _joined(path, tables), sha256)


def _joined(path: Path, tables: Sequence[ImageTable]) -> ImageTable:
    images = ImageTable.joined(tables)
    Source(path, FEATURES_MADE_BY).require_different(images.paths)
    return images


def shards_of(images: int, shard_images: int | None) -> list[int]:
    """Return the number of images in each shard of so many images; nothing where one file is enough."""
    if shard_images is None or images <= shard_images:
        return []
    return [min(shard_images, images - start) for start in range(0, images, shard_images)]


def held_images(dump_dir: Path, images: ImageTable, shard_images: int) -> int:
    """Return how many of these images, from the first on, a stopped writing has left in shards that are whole.

    Args:
        dump_dir: The dump folder.
        images: The images that were being written.
        shard_images: Images of a shard.
    """
    held = 0
    for path, rows in _planned(dump_dir, len(images), shard_images):
        try:
            found = read_file(path).images
        except UserError:
            break
        if not _same(found, images.part(rows)):
            break
        held = rows.stop
    return held


def _same(found: ImageTable, wanted: ImageTable) -> bool:
    fields = [field.name for field in dataclasses.fields(ImageTable) if field.name not in _INCIDENTAL]
    return all(
        np.array_equal(one, two, equal_nan=True) if isinstance(one, np.ndarray) else one == two
        for one, two in ((getattr(found, name), getattr(wanted, name)) for name in fields)
    )


def write_shards(
    dump_dir: Path,
    images: ImageTable,
    read: Read,
    shard_images: int,
    held: int = 0,
    written: Callable[[int], None] | None = None,
) -> None:
    """Write features as shards and, when all are there, the list of them; remove what was there before.

    Args:
        dump_dir: The dump folder, which this process holds.
        images: The images.
        read: Returns the vectors of some rows; called for one shard after another.
        shard_images: Images of a shard.
        held: How many of the images are in shards already, as `held_images` returns it.
        written: Called after each shard with the number of images that are in shards so far.
    """
    (dump_dir / layout.SHARDS).mkdir(exist_ok=True)
    shards = []
    for path, rows in _planned(dump_dir, len(images), shard_images):
        if rows.stop > held:
            write_file(path, Features(read(np.arange(rows.start, rows.stop)), images.part(rows)))
        shards.append(FeatureShard(f"{layout.SHARDS}/{path.name}", rows.stop - rows.start, sha256_of(path)))
        if written:
            written(rows.stop)
    content = _List(len(images), [vars(shard) for shard in shards])
    write_json_content(dump_dir / layout.FEATURES_LIST, vars(content))
    (dump_dir / layout.FEATURES).unlink(missing_ok=True)
    remove_unlisted(dump_dir)


def remove_unlisted(dump_dir: Path) -> None:
    """Remove the shards that no list in use lists, and a list that is not in use since `features.npz` is there."""
    listed = _listed(dump_dir)
    if not listed:
        (dump_dir / layout.FEATURES_LIST).unlink(missing_ok=True)
    folder = dump_dir / layout.SHARDS
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        name = f"{layout.SHARDS}/{path.name}"
        if name not in listed and (_FILE.fullmatch(name) or path.name.startswith(PART)):
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _planned(dump_dir: Path, images: int, shard_images: int) -> Iterator[tuple[Path, slice]]:
    """Yield path and rows of each shard of a new list, whose numbers begin after those of the list that is in use."""
    numbers = [int(found[1]) for found in map(_FILE.fullmatch, _listed(dump_dir)) if found]
    first, start = max(numbers, default=-1) + 1, 0
    for number, size in enumerate(shards_of(images, shard_images), first):
        yield dump_dir / layout.SHARDS / f"part-{number:05d}.npz", slice(start, start + size)
        start += size


def _listed(dump_dir: Path) -> set[str]:
    """Return the files of the shards of the list that is in use; none if it is damaged, or `features.npz` is there."""
    if (dump_dir / layout.FEATURES).exists():
        return set()
    try:
        return {shard.file for shard in read_list(dump_dir / layout.FEATURES_LIST)}
    except UserError:
        return set()
