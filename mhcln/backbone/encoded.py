"""Encoded images to features within one TensorFlow graph, for a server that has no Python."""

from __future__ import annotations

import functools

from mhcln.backbone.backbone import Backbone
from mhcln.backbone.compiled import turned
from mhcln.quiet_tensorflow import tf


def features_of_encoded(backbone: Backbone, images: tf.Tensor) -> tf.Tensor:
    """Return features `[n, d] float32` of one or more encoded images `[n]`, strings, each of a size of its own.

    A JPEG is decoded, resized and described by the operations of `mhcln.backbone.decoding`; a PNG, and what else
    TensorFlow decodes, as TensorFlow does it. If one image cannot be decoded, the graph fails with
    InvalidArgumentError and returns nothing for the others.
    """
    shape = (*backbone.scaling.size, 3)

    def resized(content: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_image(content, channels=3, expand_animations=False)
        return tf.ensure_shape(backbone.resize(pixels), shape)

    batch = tf.map_fn(resized, images, fn_output_signature=tf.TensorSpec(shape, tf.float32))
    return backbone.start(batch) if backbone.recipe.views == 1 else _mean_of_views(backbone, batch)


def _mean_of_views(backbone: Backbone, batch: tf.Tensor) -> tf.Tensor:
    """Return what `Backbone.start` does, in a loop: the graph would otherwise hold the weights once for each view."""
    views = backbone.recipe.views
    turns = [functools.partial(turned, batch, view) for view in range(views)]
    features = tf.map_fn(
        lambda view: backbone.network(tf.switch_case(view, turns)),
        tf.range(views),
        fn_output_signature=tf.float32,
        parallel_iterations=1,
    )
    return sum(tf.unstack(features, num=views)) / views
