"""Features of other images to codes in a run's archive, where queries find them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import Console
from mhcln.data import datasets
from mhcln.device import open_device
from mhcln.hamming.codes import binarise, pack
from mhcln.hamming.ordered import quantise
from mhcln.pipeline.additions import SHARD_IMAGES, ArchiveWriter, Hashed
from mhcln.pipeline.hasher import Hasher, load_network
from mhcln.pipeline.query_features import read_of_same_maker
from mhcln.storage import layout
from mhcln.storage.features import FILES
from mhcln.storage.features_file import ImageTable
from mhcln.storage.files import locked
from mhcln.storage.runs import Run


def add_images(run: Run, added_dir: Path, device: str, console: Console) -> None:
    """Hash the features in `added_dir` with the network of a run, and add them to what its queries search.

    Args:
        run: The run.
        added_dir: Folder of a `features.npz` or `features.json`, or the file.
        device: What computes the codes, one of `mhcln.device.CHOICES`.
        console: Where it is reported.

    Raises:
        UserError: The features are of another backbone than the run's, or of no image.
    """
    features = read_of_same_maker(added_dir, run)
    images = features.images
    folder = added_dir.parent if added_dir.suffix in FILES else added_dir
    open_device(device, console)
    hasher = Hasher(load_network(run))
    with locked(run.folder / layout.ARCHIVES):
        writer = ArchiveWriter(run)
        name = writer.name_of(layout.stem(folder.resolve().name), images.images_dir)
        replaced = writer.has(name)
        writer.remove(name)
        if images.images_dir:  # else nothing says that an image of the same path is the same
            writer.remove_images(images.images_dir, set(images.paths).__contains__)
        for start in range(0, len(images), SHARD_IMAGES):
            rows = slice(start, min(start + SHARD_IMAGES, len(images)))
            here = np.arange(rows.start, rows.stop)
            activations = hasher.activations(features.vectors, f"the backbone of {added_dir}", here)
            writer.append(name, images.images_dir, _hashed_features(images, rows, activations))
        writer.commit()
    where = f"{run.folder / layout.ARCHIVES}, {name}"
    console.say(f"{len(images):,} images {'replace those in' if replaced else 'added to'} {where}")


def _hashed_features(images: ImageTable, rows: slice, activations: NDArray[np.float32]) -> Hashed:
    return Hashed(
        codes=pack(binarise(activations)),
        levels=quantise(activations),
        labels=images.labels[rows],
        paths=images.paths[rows],
        class_names=datasets.display_names(images.dataset, images.class_names),
        stamps=images.stamps[rows] if images.stamps.shape == (len(images), 3) else images.stamps[:0],
        lonlat=images.lonlat[rows],
        float_scale=images.float_scale,
    )
