"""Features of other images to codes in a run's archive, where queries find them."""

from pathlib import Path

import numpy as np

from mhcln.console import Console
from mhcln.device import explained, open_device
from mhcln.pipeline.additions import ARCHIVE_SHARD_IMAGES, ArchiveWriter, coded
from mhcln.pipeline.hasher import Hasher
from mhcln.pipeline.queries import read_of_same_extractor
from mhcln.storage import layout
from mhcln.storage.features import FILES
from mhcln.storage.files import locked
from mhcln.storage.runs import Run
from mhcln.training.trained import load_network


@explained("fewer images at a time")
def add_images(run: Run, added_dir: Path, device: str, console: Console) -> None:
    """Hash the features in `added_dir` with the network of a run, and add them to what its queries search.

    Args:
        run: The run.
        added_dir: Folder of a `features.npz` or `features.json`, or the file.
        device: What computes the codes, one of `mhcln.device.CHOICES`.
        console: Where it is reported.
    """
    features = read_of_same_extractor(added_dir, run)
    images = features.images
    folder = added_dir.parent if added_dir.suffix in FILES else added_dir
    open_device(device, console)
    hasher = Hasher(load_network(run))
    with locked(run.folder / layout.ARCHIVES):
        writer = ArchiveWriter(run)
        name = writer.name_of(layout.stem(folder.resolve().name), images.images_dir)
        replaced = writer.remove(name)
        if images.images_dir:  # else nothing says that an image of the same path is the same
            writer.remove_images(images.images_dir, set(images.paths).__contains__)
        for start in range(0, len(images), ARCHIVE_SHARD_IMAGES):
            here = np.arange(start, min(start + ARCHIVE_SHARD_IMAGES, len(images)))
            activations = hasher.activations(features.vectors, f"the backbone of {added_dir}", here)
            writer.append(name, coded(images.at(here), activations))
        writer.commit()
    where = f"{run.folder / layout.ARCHIVES}, {name}"
    console.say(f"{len(images):,} images {'replace those in' if replaced else 'added to'} {where}")
