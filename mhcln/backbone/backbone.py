"""The pretrained Inception-v3 as one batched function: resized images in, features out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone import frozen_graph, keras_inception
from mhcln.backbone.aligned import as_tensor
from mhcln.backbone.compiled import compiled, turned
from mhcln.backbone.decoding import resize
from mhcln.backbone.graph_file import ARCHIVE, GRAPH, GRAPHS, GraphFile
from mhcln.backbone.layers import Network, Scaling, with_outputs
from mhcln.backbone.recipe import KERAS, PAPER, POOL_3, RANDOM, BackboneOptions, Recipe
from mhcln.console import Console, UserError
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
        """What `features.npz` records: enough to say whether two features may be compared."""
        return str(self.recipe)

    def resize(self, image: tf.Tensor | NDArray[np.uint8]) -> tf.Tensor:
        """Return an image [height, width, 3] uint8 in the network's size, [299, 299, 3] float32, 0 to 255."""
        return resize(image, self.scaling)

    def features(self, images: tf.Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
        """Return features [batch, d] float32, averaged over the views, of resized images [batch, 299, 299, 3]."""
        return self.start(images).numpy()

    def start(self, images: tf.Tensor | NDArray[np.float32]) -> tf.Tensor:
        """Return what `features` does, but as a tensor that a GPU may still be computing.

        Its `numpy()` waits until it is there. Until then `images` must stay as they are, if they are an array.
        """
        batch = as_tensor(images)
        first = self.recipe.turn
        total = self.network(turned(batch, first))
        for view in range(first + 1, first + self.recipe.views):
            total += self.network(turned(batch, view))
        return total / self.recipe.views if self.recipe.views > 1 else total


def open_backbone(options: BackboneOptions, console: Console) -> Backbone:
    """Open the backbone that the user chose.

    Args:
        options: The choice; Keras's ImageNet weights if it names neither a file nor a seed.
        console: Prints a line before a download.

    Returns:
        The backbone, compiled at its first batch.

    Raises:
        UserError: There is not exactly one backbone in the folder, its file is damaged or lacks one of the layers,
            or the download failed.
    """
    file = chosen_file(options, console)
    if file is None:
        return _random(options)
    return _open_file(file, options)


def chosen_file(options: BackboneOptions, console: Console) -> Path | None:
    """Return the file of the weights that the user chose, None for random ones; arguments and errors as above."""
    if options.random_seed is not None:
        if options.model_dir is not None:
            raise UserError("--random_weights and --model_dir exclude each other; give one of them")
        return None
    return keras_inception.imagenet_file(console) if options.model_dir is None else find_file(options.model_dir)


def recipe_of(file: Path | None, options: BackboneOptions) -> Recipe:
    """Return the recipe of the backbone of a file, None for random weights, without opening it."""
    if file is None:
        return _recipe(RANDOM, options)
    return _recipe(KERAS if keras_inception.is_weights(file) else PAPER, options, GraphFile(file).sha256)


def reopen_backbone(recipe: Recipe, model_file: str, model_dir: Path | None) -> Backbone:
    """Open the backbone that made features before.

    Args:
        recipe: Recipe of those features.
        model_file: Where the file of the weights was; "" for random ones.
        model_dir: Folder of the file, or the file, if it is elsewhere now.

    Returns:
        A backbone of the same recipe.

    Raises:
        UserError: The file is gone, or its SHA-256 is not the recorded one.
    """
    options = recipe.options
    if recipe.seed is not None:
        return _random(options)
    file = find_file(model_dir) if model_dir is not None else Path(model_file)
    if not file.is_file():
        raise UserError(f"the backbone {file} of the archive is gone; give its folder as --model_dir")
    return _open_file(file, options, recipe)


def find_file(model_dir: Path) -> Path:
    """Return the one backbone file in `model_dir`, or that file itself; raises UserError if there is not exactly one.

    A file that is given itself may have any name.
    """
    if model_dir.is_file():
        return model_dir
    if not model_dir.is_dir():
        raise UserError(f"--model_dir {model_dir} does not exist; give the folder that holds {GRAPH}")
    known = (path for path in model_dir.iterdir() if path.name in GRAPHS or path.name.endswith(keras_inception.ENDINGS))
    found = sorted(path for path in known if path.is_file())
    if not found:
        raise UserError(
            f"--model_dir {model_dir} holds no backbone; put {GRAPH} (or .pb.gz), {ARCHIVE}, "
            f"{keras_inception.IMAGENET}, or another .h5 or .keras file of InceptionV3 there"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"--model_dir {model_dir} holds several backbones ({names}); leave one there")
    return found[0]


def _open_file(file: Path, options: BackboneOptions, recorded: Recipe | None = None) -> Backbone:
    """Open the backbone of a file; raises UserError if it is not the one that a recipe records."""
    graph = GraphFile(file)
    sha256 = graph.sha256  # that of the file for Keras's weights too
    if recorded is not None and sha256 != recorded.sha256:
        raise UserError(
            f"{file} is not the backbone that made the archive "
            f"({recorded.family} {'+'.join(recorded.layers)}, SHA-256 {recorded.sha256[:12]}...); "
            "give the folder of that file as --model_dir"
        )
    is_keras = keras_inception.is_weights(file)
    network = keras_inception.read_weights(file) if is_keras else frozen_graph.read_graph(graph)
    if graph.sha256 != sha256:  # of an archive: of what was unpacked
        raise UserError(f"{file} changed while it was read; run the same command again when it is complete")
    recipe = _recipe(KERAS if is_keras else PAPER, options, sha256)
    return _backbone(recipe, network, str(file.resolve()))


def _random(options: BackboneOptions) -> Backbone:
    return _backbone(_recipe(RANDOM, options), keras_inception.random_network(options.random_seed or 0))


def _recipe(family: str, options: BackboneOptions, sha256: str = "") -> Recipe:
    tiff = options.tiff or ("jpeg" if family == PAPER else "pixels")
    return Recipe(
        family,
        options.layers,
        tiff,
        options.precision,
        options.views,
        sha256=sha256,
        seed=options.random_seed,
        reading=options.reading,
        turn=options.turn,
    )


def _backbone(recipe: Recipe, network: Network, model_file: str = "") -> Backbone:
    if recipe.layers != POOL_3:
        network = with_outputs(network, recipe.layers)
    return Backbone(recipe, model_file, network.scaling, compiled(network, recipe.precision))
