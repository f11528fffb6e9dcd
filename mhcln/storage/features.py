"""The features of a dump folder: in `features.npz`, or in shards that `features.json` lists if there are many images.

Where both are, `features.npz` counts, as it does for a program that knows no shards; whoever writes the one removes the
other.
"""

import dataclasses
from pathlib import Path

from mhcln.console import UserError
from mhcln.storage import layout, shard_writing, shards
from mhcln.storage.features_file import FEATURES_MADE_BY, Features, ImageTable, read_file, read_table, write_file
from mhcln.storage.files import check_npz
from mhcln.storage.mapped import MappedArray, MappedVectors, state_of
from mhcln.storage.source import Source
from mhcln.storage.zip_members import DamagedError

SHARD_IMAGES = 65_536  # of 2,048 floats: half a GiB a shard
FILES = (".npz", ".json")  # endings of files that features are read from


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
    """Read the features of a dump folder, or those of a `.npz`, or of a list of shards, under any name.

    Raises:
        UserError: A file is missing or damaged, or holds features that are not finite floats.
    """
    file = file_of(Path(place))
    return read_file(file) if file.suffix == ".npz" else shards.read_sharded(file)


def read_image_table(dump_dir: Path) -> ImageTable:
    """Read the features of a dump folder but for the vectors; raises UserError if a file is missing or damaged."""
    file = file_of(dump_dir)
    return read_table(file) if file.suffix == ".npz" else shards.read_sharded_table(file)


def read_intact(dump_dir: Path) -> Features | None:
    """Read the features of a dump folder as far as they are as they were written; None if there are none.

    Their vectors stay in their files. `inputs` of the images is "" if some of the features are damaged.
    """
    file = file_of(dump_dir)
    if file.suffix != ".npz":
        return shards.read_intact(file)
    try:
        return _mapped(file)
    except UserError:
        return None


def _mapped(file: Path) -> Features:
    """Read a file of features, but leave the vectors there if that can be; raises UserError if it is damaged."""
    check_npz(file, FEATURES_MADE_BY)
    state = state_of(file)
    try:
        vectors = MappedArray.find(file, "features", state)
    except DamagedError:
        return read_file(file)
    return Features(MappedVectors([vectors]), read_table(file))


@dataclasses.dataclass(frozen=True)
class Maker:
    """What made features: `extractor` and `model_file` as in ImageTable."""

    extractor: str
    model_file: str = ""


def read_maker(dump_dir: Path) -> Maker:
    """Read what made the features of a dump folder; raises UserError if a file is missing or damaged."""
    file = file_of(dump_dir)
    return Source(file if file.suffix == ".npz" else shards.first_shard(file), FEATURES_MADE_BY).read(Maker)


def shard_sizes(dump_dir: Path) -> list[int]:
    """Return how many images each shard of a dump folder has, none if there is one file; raises UserError as above."""
    file = file_of(dump_dir)
    return [] if file.suffix == ".npz" else [shard.images for shard in shards.read_list(file)]


def write_features(dump_dir: Path, content: Features, shard_images: int | None = None) -> None:
    """Write `features.npz`, or shards if there are more than `shard_images` images; all in one file if that is None."""
    if shard_images is not None and shard_writing.shards_of(len(content.images), shard_images):
        shard_writing.write_shards(dump_dir, content.images, content.vectors.__getitem__, shard_images)
        return
    write_file(dump_dir / layout.FEATURES, dataclasses.replace(content, vectors=content.vectors[:]))
    shard_writing.remove_unlisted(dump_dir)
