"""The pretrained Inception-v3 as one batched function: resized images in, features out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone.aligned import as_tensor
from mhcln.backbone.compiled import compiled, rotated
from mhcln.backbone.decoding import resize
from mhcln.backbone.frozen_graph import GRAPH, GRAPH_ARCHIVE, GRAPHS, read_graph, weights_sha256
from mhcln.backbone.keras_inception import ENDINGS, IMAGENET, imagenet_file, is_weights, random_network, read_weights
from mhcln.backbone.layers import Scaling, with_outputs
from mhcln.backbone.recipe import KERAS, PAPER, POOL_3, RANDOM, BackboneOptions, Recipe
from mhcln.console import UserError
from mhcln.quiet_tensorflow import tf


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A feature extractor.

    Attributes:
        recipe: Everything that its features depend on.
        model_file: Path of the file of its weights; "" for random ones.
        scaling: How an image becomes the network's input.
        network: Function of resized images [batch, 299, 299, 3] float32, 0 to 255, that returns [batch, d] float32.
    """

    recipe: Recipe
    model_file: str
    scaling: Scaling
    network: Callable[[tf.Tensor], tf.Tensor]

    @property
    def extractor(self) -> str:
        """The recipe as text, as `features.npz` records it: features with equal texts may be compared."""
        return str(self.recipe)

    def resize(self, image: tf.Tensor | NDArray[np.uint8]) -> tf.Tensor:
        """Return an image [height, width, 3] uint8 in the network's size, [299, 299, 3] float32, 0 to 255."""
        return resize(image, self.scaling)

    def features(self, images: tf.Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
        """Return features [batch, d] float32, averaged over the rotations, of resized images [batch, 299, 299, 3]."""
        return self.start(images).numpy()

    def start(self, images: tf.Tensor | NDArray[np.float32]) -> tf.Tensor:
        """Return the result of `features` as a tensor that a GPU may still be computing.

        Its `numpy()` waits for it. Until then an array `images` must not change.
        """
        batch, inference = as_tensor(images), self.recipe.inference
        total = self.network(rotated(batch, inference.rotation))
        if inference.rotations == 1:
            return total
        for rotation in range(1, inference.rotations):
            total += self.network(rotated(batch, rotation))
        return total / inference.rotations

    def features_of_encoded(self, images: tf.Tensor) -> tf.Tensor:
        """Return features `[n, d] float32` of one or more encoded images `[n]`, strings, each of a size of its own.

        All of it is one TensorFlow graph, for a server that has no Python. A JPEG is decoded and resized by the
        operations of `mhcln.backbone.decoding`; a PNG, or another format of TensorFlow, by TensorFlow. If one image
        cannot be decoded, the graph fails with InvalidArgumentError and returns nothing for the others.
        """
        shape = (*self.scaling.size, 3)

        def resized(content: tf.Tensor) -> tf.Tensor:
            pixels = tf.io.decode_image(content, channels=3, expand_animations=False)
            return tf.ensure_shape(self.resize(pixels), shape)

        batch = tf.map_fn(resized, images, fn_output_signature=tf.TensorSpec(shape, tf.float32))
        count = self.recipe.inference.rotations
        if count == 1:
            return self.start(batch)
        # in a loop: the graph would otherwise hold the weights once for each rotation
        rotations = [functools.partial(rotated, batch, rotation) for rotation in range(count)]
        features = tf.map_fn(
            lambda rotation: self.network(tf.switch_case(rotation, rotations)),
            tf.range(count),
            fn_output_signature=tf.float32,
            parallel_iterations=1,
        )
        return sum(tf.unstack(features, num=count)) / count


def open_backbone(options: BackboneOptions) -> Backbone:
    """Open the backbone that the user chose.

    Args:
        options: The choice; Keras's ImageNet weights if it names neither a file nor a seed.

    Returns:
        The backbone, compiled.
    """
    file = chosen_file(options)
    return _open(recipe_of(file, options), file)


def chosen_file(options: BackboneOptions) -> Path | None:
    """Return the file of the weights that the user chose, downloaded if need be; None for random weights."""
    if options.random_seed is not None:
        if options.model_dir is not None:
            raise UserError("--random_weights and --model_dir exclude each other; give one of them")
        return None
    return imagenet_file() if options.model_dir is None else find_file(options.model_dir)


def recipe_of(file: Path | None, options: BackboneOptions) -> Recipe:
    """Return the recipe of the backbone of a file, None for random weights, without opening it."""
    if file is None:
        family, sha256 = RANDOM, ""
    else:
        family, sha256 = KERAS if is_weights(file) else PAPER, weights_sha256(file)
    tiff = options.inference.tiff or ("jpeg" if family == PAPER else "pixels")
    return Recipe(family, dataclasses.replace(options.inference, tiff=tiff), sha256, options.random_seed)


def reopen_backbone(recipe: Recipe, model_file: str, model_dir: Path | None) -> Backbone:
    """Open the backbone that made features before.

    Args:
        recipe: Recipe of those features.
        model_file: Where the file of the weights was; "" for random ones.
        model_dir: Folder of the file, or the file, if it is elsewhere now.

    Returns:
        A backbone of the same recipe.
    """
    if recipe.family == RANDOM:
        return _open(recipe, None)
    file = find_file(model_dir) if model_dir is not None else Path(model_file)
    if not file.is_file():
        raise UserError(f"the backbone {file} of the archive is gone; give its folder as --model_dir")
    if weights_sha256(file) != recipe.sha256:
        raise UserError(
            f"{file} is not the backbone that made the archive "
            f"({recipe.family} {'+'.join(recipe.inference.layers)}, SHA-256 {recipe.sha256[:12]}...); "
            "give the folder of that file as --model_dir"
        )
    return _open(recipe, file)


def find_file(model_dir: Path) -> Path:
    """Return the one backbone file in `model_dir`, or that file itself, in which case a graph may have any name."""
    if model_dir.is_file():
        return model_dir
    if not model_dir.is_dir():
        raise UserError(f"--model_dir {model_dir} does not exist; give the folder that holds {GRAPH}")
    known = (path for path in model_dir.iterdir() if path.name in GRAPHS or path.name.endswith(ENDINGS))
    found = sorted(path for path in known if path.is_file())
    if not found:
        raise UserError(
            f"--model_dir {model_dir} holds no backbone; put {GRAPH} (or .pb.gz), {GRAPH_ARCHIVE}, "
            f"{IMAGENET}, or another .h5 or .keras file of InceptionV3 there"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"--model_dir {model_dir} holds several backbones ({names}); leave one there")
    return found[0]


def _open(recipe: Recipe, file: Path | None) -> Backbone:
    """Open the backbone of a recipe, which is of the file, None for random weights."""
    if file is None:
        network = random_network(recipe.seed or 0)
    elif recipe.family == KERAS:
        network = read_weights(file)
    else:
        network = read_graph(file)
    if file is not None and weights_sha256(file) != recipe.sha256:
        raise UserError(f"{file} changed while it was read; run the same command again when it is complete")
    inference = recipe.inference
    if inference.layers != POOL_3:
        network = with_outputs(network, inference.layers)
    model_file = str(file.resolve()) if file is not None else ""
    return Backbone(recipe, model_file, network.scaling, compiled(network, inference.precision))
