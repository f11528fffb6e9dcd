"""Features to shards and the list of them, so that a writing that was stopped goes on from the shards that are whole.

What `features.json` lists is there, for it is written last; other shards are left from a writing that was stopped, or
from an earlier list. A new list has new names, so that the shards of the old one stay until it is replaced.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.features_file import Features, ImageTable, read_file, write_file
from mhcln.storage.files import PART, sha256_of
from mhcln.storage.shards import SHARD_FILE, FeatureShard, ShardList, read_list
from mhcln.storage.source import write_json_content

# Fields of an ImageTable that may differ between a shard of a stopped writing and what would be written now.
_INCIDENTAL = ("device", "software")

Read = Callable[[NDArray[np.int64]], NDArray[np.float32]]  # the vectors [m, d] of these rows


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
    content = ShardList(len(images), [vars(shard) for shard in shards])
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
        if name not in listed and (SHARD_FILE.fullmatch(name) or path.name.startswith(PART)):
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _planned(dump_dir: Path, images: int, shard_images: int) -> Iterator[tuple[Path, slice]]:
    """Yield path and rows of each shard of a new list, whose numbers begin after those of the list that is in use."""
    numbers = [int(found[1]) for found in map(SHARD_FILE.fullmatch, _listed(dump_dir)) if found]
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
