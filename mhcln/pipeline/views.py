"""Features of the images in several views, quarter turns and mirror images, to train on."""

import dataclasses
import hashlib
from pathlib import Path

from mhcln.backbone.recipe import Recipe
from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.features import is_there, read_features
from mhcln.storage.features_file import Features


def read_views(dump_dir: str | Path, count: int = 1) -> Features:
    """Read the features of a dump folder and, to train on, those of other views of the same images.

    Args:
        dump_dir: The folder.
        count: Views of an image, 1 to 8; 1 is the image as it is.

    Raises:
        UserError: A file is missing or damaged, or views are of other images or made in another way.
    """
    features = read_features(dump_dir)
    views = tuple(_read_view(features, Path(dump_dir), turn, count) for turn in range(1, count))
    return dataclasses.replace(features, views=views)


def _read_view(features: Features, dump_dir: Path, turn: int, count: int) -> Features:
    folder, again = layout.view_folder(dump_dir, turn), f"{layout.EXTRACT} --training_views={count}"
    if not is_there(folder):
        raise UserError(f"{folder} has no features of that view; make them with {again}")
    view, images = read_features(folder), features.images
    wanted = str(dataclasses.replace(Recipe.parse(images.extractor), turn=turn))
    if view.images.extractor != wanted:
        raise UserError(
            f"{folder} was made by {view.images.extractor!r}, not by {wanted!r}; make it again with {again}"
        )
    same = view.images.paths == images.paths and view.images.stamps.tolist() == images.stamps.tolist()
    if not same or view.vectors.shape != features.vectors.shape:
        raise UserError(f"{folder} is of other images than {dump_dir}; make both again with {again}")
    return view


def views_sha256(features: Features) -> str | None:
    """Return the SHA-256 of the SHA-256 of all views but the first, one after another; None if there are none."""
    digests = "".join(view.sha256 for view in features.views)
    return hashlib.sha256(digests.encode()).hexdigest() if digests else None
