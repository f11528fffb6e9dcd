"""Features of the rotated and mirrored images, for training."""

import dataclasses
from pathlib import Path

import numpy as np

from mhcln.backbone.recipe import Recipe
from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.features import Features, file_of, is_there, read_features


def read_rotations(dump_dir: str | Path, count: int = 1) -> Features:
    """Read the features of a dump folder, and the features of the same images rotated and mirrored.

    Args:
        dump_dir: The folder, or a file of features in it.
        count: Rotations of an image, 1 to 8; 1 is the image itself.
    """
    file = file_of(Path(dump_dir))
    features = read_features(file)
    if count == 1:
        return features
    folder, again = file.parent, f"{layout.EXTRACT} --training_views={count}"
    recipe = _recipe(features, file, again)
    rotations = tuple(_read_rotation(features, folder, _rotated(recipe, n), again) for n in range(1, count))
    return dataclasses.replace(features, rotations=rotations)


def _recipe(features: Features, file: Path, again: str) -> Recipe:
    """Return the recipe of the features; raises UserError if they are no features of single rotations."""
    extractor = features.images.extractor
    try:
        recipe = Recipe.parse(extractor)
    except UserError:
        made = f"{file} was made by {extractor!r}, which {layout.EXTRACT} does not know"
        raise UserError(f"{made}; leave --training_views out, or make the features by {again}") from None
    if recipe.inference.rotations > 1:
        raise UserError(
            f"{file} holds means over {recipe.inference.rotations} rotations; leave --training_views out, or make the "
            f"features again with {again} without --views"
        )
    return recipe


def _rotated(recipe: Recipe, rotation: int) -> Recipe:
    return dataclasses.replace(recipe, inference=dataclasses.replace(recipe.inference, rotation=rotation))


def _read_rotation(features: Features, dump_dir: Path, recipe: Recipe, again: str) -> Features:
    folder = layout.rotation_folder(dump_dir, recipe.inference.rotation)
    if not is_there(folder):
        raise UserError(f"{folder} has no features of that rotation; make them with {again}")
    try:
        rotated, images = read_features(folder), features.images
    except UserError as error:
        raise UserError(f"{error}, with the flags of {again}") from None
    if rotated.images.extractor != str(recipe):
        raise UserError(
            f"{folder} was made by {rotated.images.extractor!r}, not by {str(recipe)!r}; make it again with {again}"
        )
    same = rotated.images.paths == images.paths and np.array_equal(rotated.images.stamps, images.stamps)
    if not same or rotated.vectors.shape != features.vectors.shape:
        raise UserError(
            f"{folder} is of other images than {dump_dir}; make both again with {again}, if that finds nothing to do "
            f"after deleting {folder.parent} and {file_of(dump_dir)}"
        )
    return rotated
