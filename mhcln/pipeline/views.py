"""Features of the images in several views, quarter turns and mirror images, to train on."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from mhcln.backbone.recipe import Recipe
from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.features import file_of, is_there, read_features
from mhcln.storage.features_file import Features


def read_views(dump_dir: str | Path, count: int = 1) -> Features:
    """Read the features of a dump folder and, to train on, those of other views of the same images.

    Args:
        dump_dir: The folder, or a file of features in it.
        count: Views of an image, 1 to 8; 1 is the image as it is.

    Raises:
        UserError: A file is missing or damaged, or views are of other images or made in another way.
    """
    features = read_features(dump_dir)
    if count == 1:
        return features
    file = file_of(Path(dump_dir))
    folder, again = file.parent, f"{layout.EXTRACT} --training_views={count}"
    recipe = _recipe(features, file, again)
    views = tuple(_read_view(features, folder, dataclasses.replace(recipe, turn=n), again) for n in range(1, count))
    return dataclasses.replace(features, views=views)


def _recipe(features: Features, file: Path, again: str) -> Recipe:
    """Return what described the images as they are; raises UserError if that describes no single views."""
    extractor = features.images.extractor
    try:
        recipe = Recipe.parse(extractor)
    except UserError:
        made = f"{file} was made by {extractor!r}, which {layout.EXTRACT} does not know"
        raise UserError(f"{made}; leave --training_views out, or make the features by {again}") from None
    if recipe.views > 1:
        raise UserError(
            f"{file} has means of {recipe.views} views, beside which there are no single ones; leave --training_views "
            f"out, or make the features again with {again} without --views"
        )
    return recipe


def _read_view(features: Features, dump_dir: Path, recipe: Recipe, again: str) -> Features:
    folder = layout.view_folder(dump_dir, recipe.turn)
    if not is_there(folder):
        raise UserError(f"{folder} has no features of that view; make them with {again}")
    try:
        view, images = read_features(folder), features.images
    except UserError as error:
        raise UserError(f"{error}, with the flags of {again}") from None
    if view.images.extractor != str(recipe):
        raise UserError(
            f"{folder} was made by {view.images.extractor!r}, not by {str(recipe)!r}; make it again with {again}"
        )
    same = view.images.paths == images.paths and np.array_equal(view.images.stamps, images.stamps)
    if not same or view.vectors.shape != features.vectors.shape:
        raise UserError(
            f"{folder} is of other images than {dump_dir}; make both again with {again}, if that finds nothing to do "
            f"after deleting {folder.parent} and {file_of(dump_dir)}"
        )
    return view


def views_sha256(features: Features) -> str | None:
    """Return the SHA-256 of the SHA-256 of all views but the first, one after another; None if there are none."""
    digests = "".join(view.sha256 for view in features.views)
    return hashlib.sha256(digests.encode()).hexdigest() if digests else None
