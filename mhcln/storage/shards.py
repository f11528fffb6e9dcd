"""Features that do not fit one file: shards, each a file of features of its own, and `features.json`, their list."""

import contextlib
import dataclasses
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.features_file import FEATURES_MADE_BY, Features, ImageTable, read_table
from mhcln.storage.mapped import MappedArray, MappedVectors, state_of
from mhcln.storage.source import Source, read_json_content
from mhcln.storage.zip_members import DamagedError

SHARD_FILE = re.compile(rf"{layout.SHARDS}/part-(\d{{5,9}})\.npz")


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
class ShardList:
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
    content = source.parse(ShardList, read_json_content(path, FEATURES_MADE_BY, digest), complete=True)
    shards = []
    for entry in content.shards:
        if not isinstance(entry, dict):
            source.require(False, "a shard is not described by an object")
            continue
        shard = source.parse(FeatureShard, entry, complete=True)
        source.require(bool(SHARD_FILE.fullmatch(shard.file)), f"it lists {shard.file[:60]!r}")
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
