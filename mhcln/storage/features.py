"""The features of a dump folder: in `features.npz`, or in shards that `features.json` lists if there are many images.

If both are there, `features.npz` counts, as for a program that knows no shards. Writing the one removes the other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.file_list import ListedFile, entry_of, read_list, remove_unlisted, require_listed, write_list
from mhcln.storage.image_table import ImageTable, require_images
from mhcln.storage.mapped import MappedArray, MappedVectors, Vectors, state_of
from mhcln.storage.npz import AnyArray, DamagedError
from mhcln.storage.source import Source, write_npz_content

FEATURES_SECTION = "mhcln/README.md says of features of another network"  # which has the line that writes them
FEATURES_MADE_BY = f"{layout.EXTRACT}, or write it as {FEATURES_SECTION}"
SHARD_IMAGES = 65_536  # of 2,048 floats: half a GiB a shard
FILES = (".npz", ".json")  # endings of files that features are read from

_FIELDS = [field.name for field in dataclasses.fields(ImageTable)]
_PROVENANCE = ("dataset", "images_dir", "extractor")  # that every file of features names


@dataclasses.dataclass(frozen=True)
class Features:
    """The content of `features.npz`, or of the shards that `features.json` lists.

    Attributes:
        vectors: `[n, d] float32`, finite; the array `features` of the file, which may be float16 or float64 there.
            Vectors of shards stay in their files: `vectors[rows]` are read when they are used.
        images: The table of the images, one row a vector.
        sha256: Hex SHA-256 of the file, or of the list of shards, which has the SHA-256 of each; "" if none was read.
        rotations: Features of the same images rotated or mirrored, for training.
    """

    vectors: Vectors
    images: ImageTable
    sha256: str = ""
    rotations: tuple[Features, ...] = ()

    @property
    def rotations_sha256(self) -> str | None:
        """SHA-256 of the joined SHA-256 of the rotations; None if there are none."""
        digests = "".join(rotated.sha256 for rotated in self.rotations)
        return hashlib.sha256(digests.encode()).hexdigest() if digests else None


def file_of(place: Path) -> Path:
    """Return the file that holds or lists the features of a dump folder, or `place` itself if it is such a file."""
    if place.suffix in FILES:
        return place
    single, listed = place / layout.FEATURES, place / layout.FEATURES_LIST
    return listed if listed.is_file() and not single.exists() else single


def is_there(dump_dir: Path) -> bool:
    """Return whether a dump folder has features."""
    return file_of(dump_dir).is_file()


def read_features(place: str | Path) -> Features:
    """Read the features of a dump folder, of a `.npz`, or of a list of shards, under any name.

    Every shard is compared with its checksum. Its vectors stay in the file: that they are finite was checked when they
    were written.
    """
    file = file_of(Path(place))
    if file.suffix == ".npz":
        return read_file(file)
    digest = hashlib.sha256()
    opened = [_open_shard(file, entry) for entry in _entries(file, digest)]
    return _together(file, opened, digest.hexdigest())


def read_file(path: Path) -> Features:
    """Read a file of features under any name."""
    source, digest = Source(path, FEATURES_MADE_BY), hashlib.sha256()
    arrays = source.arrays([*_FIELDS, "features"], digest)
    images, vectors = _images_of(source, arrays), source.array("features", arrays, np.float32)
    require_features(source, vectors, images)
    return Features(vectors, images, digest.hexdigest())


def require_features(source: Source, vectors: NDArray[np.float32], images: ImageTable) -> None:
    """Raise UserError unless vectors and images that were read belong together, and can be written and used."""
    require_images(source, images)
    source.require(vectors.ndim == 2 and vectors.shape[1] > 0, f"features are {vectors.shape}, not [n, d]")
    source.require(len(vectors) == len(images), f"rows and paths differ: {len(vectors)} and {len(images)}")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise UserError(
            f"{source.path}: features of {len(bad)} images are not finite, first {images.paths[bad[0]]}, row {bad[0]}; "
            f"make it again with {source.made_by}"
        )


def read_image_table(place: Path) -> ImageTable:
    """Read the table of the images of a dump folder, without their features."""
    file = file_of(place)
    if file.suffix == ".npz":
        return _read_table(file)
    tables = [_read_table(file.parent / layout.SHARDS / entry.file) for entry in _entries(file)]
    return ImageTable.joined(tables)


def read_intact(dump_dir: Path) -> Features | None:
    """Read the undamaged features of a dump folder; None if there are none.

    `inputs` of the images is "" if a shard is damaged.
    """
    file = file_of(dump_dir)
    with contextlib.suppress(UserError):
        if file.suffix == ".npz":
            return read_file(file)
        entries, opened = _entries(file), []
        for entry in entries:
            with contextlib.suppress(UserError):
                opened.append(_open_shard(file, entry))
        features = _together(file, opened, "")
        if len(opened) == len(entries):
            return features
        return dataclasses.replace(features, images=dataclasses.replace(features.images, inputs=""))
    return None


def shard_sizes(place: Path) -> list[int]:
    """Return how many images each shard of a dump folder has; nothing if the features are in one file."""
    file = file_of(place)
    return [] if file.suffix == ".npz" else [entry.images for entry in _entries(file)]


def shards_of(images: int, shard_images: int | None) -> list[range]:
    """Return the rows of each shard of so many images; nothing where one file is enough, or if that is None."""
    if shard_images is None or images <= shard_images:
        return []
    return [range(start, min(start + shard_images, images)) for start in range(0, images, shard_images)]


def write_features(dump_dir: Path, content: Features, shard_images: int | None = None) -> None:
    """Write `features.npz`, or shards if there are more than `shard_images` images; remove what was there before."""
    shards = []
    for rows in shards_of(len(content.images), shard_images):
        key = hashlib.sha256(f"{content.sha256} {rows}".encode()).hexdigest()
        shards.append(shard_path(dump_dir, key))
        write_file(shards[-1], Features(content.vectors[rows.start : rows.stop], content.images.at(rows)))
    if shards:
        write_shard_list(dump_dir, shards)
    else:
        write_file(dump_dir / layout.FEATURES, content)
        (dump_dir / layout.FEATURES_LIST).unlink(missing_ok=True)
        remove_unlisted(dump_dir / layout.SHARDS, ())


def write_file(path: Path, content: Features) -> None:
    """Write a file of features, whose folder is made if absent."""
    path.parent.mkdir(exist_ok=True)
    provenance = {name: getattr(content.images, name) for name in _PROVENANCE}  # also where it is ""
    write_npz_content(path, content.images, features=content.vectors[:], **provenance)


def shard_path(dump_dir: Path, key: str) -> Path:
    """Return the file of a shard; `key` is a checksum of its content."""
    return dump_dir / layout.SHARDS / f"part-{key[:32]}.npz"


def write_shard_list(dump_dir: Path, shards: Sequence[Path]) -> None:
    """Make these shards the features of a dump folder, in this order, and remove what was there before."""
    entries = [entry_of(path, len(_read_table(path))) for path in shards]
    write_list(dump_dir / layout.FEATURES_LIST, dump_dir / layout.SHARDS, entries)
    (dump_dir / layout.FEATURES).unlink(missing_ok=True)


def _entries(path: Path, digest: hashlib._Hash | None = None) -> list[ListedFile]:
    entries = read_list(path, FEATURES_MADE_BY, digest)
    Source(path, FEATURES_MADE_BY).require(len(entries) > 0, "it lists no file")
    return entries


def _images_of(source: Source, arrays: dict[str, AnyArray]) -> ImageTable:
    return source.build(ImageTable, arrays, also=_PROVENANCE)


def _read_table(path: Path) -> ImageTable:
    source = Source(path, FEATURES_MADE_BY)
    images = _images_of(source, source.arrays(_FIELDS))
    require_images(source, images)
    return images


def _open_shard(path: Path, entry: ListedFile) -> tuple[ImageTable, MappedArray]:
    file = path.parent / layout.SHARDS / entry.file
    state = state_of(file)  # before the file is compared: it must not be replaced from here on
    require_listed(file.parent, entry, FEATURES_MADE_BY)
    images, source = _read_table(file), Source(file, FEATURES_MADE_BY)
    try:
        vectors = MappedArray.find(file, "features", state)
    except DamagedError as error:
        raise UserError(f"{file} is not usable ({error}); make it again with {FEATURES_MADE_BY}") from None
    source.require(vectors.rows == len(images) == entry.images, "its rows, its paths and its entry differ in number")
    return images, vectors


def _together(path: Path, opened: Sequence[tuple[ImageTable, MappedArray]], sha256: str) -> Features:
    source = Source(path, FEATURES_MADE_BY)
    source.require(bool(opened), "none of its shards is")
    tables, arrays = zip(*opened, strict=True)
    widths = {array.width for array in arrays}
    source.require(len(widths) == 1, f"its shards are of {len(widths)} widths")
    images = ImageTable.joined(tables)
    source.require_different(images.paths)
    return Features(MappedVectors(arrays), images, sha256)
