"""A run to a SavedModel of TensorFlow: encoded images in, codes and activations out, all weights inside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mhcln.backbone.backbone import Backbone
from mhcln.backbone.recipe import Recipe
from mhcln.console import Console, UserError, is_printable
from mhcln.device import open_device
from mhcln.hamming.codes import THRESHOLD
from mhcln.pipeline.hasher import Hasher
from mhcln.pipeline.opened_run import OpenedRun
from mhcln.quiet_tensorflow import keras, tf
from mhcln.storage import layout
from mhcln.storage.files import locked, one_line, replacing
from mhcln.storage.runs import Run
from mhcln.storage.text_files import write_json
from mhcln.training.trained import check_width

VERSION = re.compile(r"[1-9]\d{0,17}", re.ASCII)  # TensorFlow Serving reads the name of a folder as int64
ORIGIN = "assets.extra/model.json"  # in that folder, files lie that TensorFlow does not load
_BIT_VALUES = (128, 64, 32, 16, 8, 4, 2, 1)  # of the bits of a byte, the first highest, as numpy.packbits has them


def export_model(opened: OpenedRun, folder: Path, model_dir: Path | None, console: Console) -> None:
    """Write the backbone and the hashing network of a run as the next version of a model, such as `folder/1`.

    Versions are folders with numbers, of which TensorFlow Serving loads the highest. None is ever replaced.

    Args:
        opened: The run.
        folder: Folder of the versions; made if absent.
        model_dir: Folder of the backbone; None for the folder where extraction found it.
        console: Where it is reported.
    """
    next_version(folder)
    run = opened.run
    open_device("cpu", console)  # which computes TF32 by rounding, so that any device does
    hasher = Hasher.of_run(run)
    backbone = hasher.open_backbone(model_dir)
    served = serving_function(backbone, hasher)
    if backbone.recipe.inference.reading:
        how = str(backbone.recipe.inference.reading).removeprefix("; ")
        console.warn(f"rasters were read with {how}; the exported model cannot: give it pictures of 8 bits made so")
    with locked(folder):
        path = folder / str(next_version(folder))
        with replacing(path) as part:
            _save(served, hasher.network, part)
            write_json(part / ORIGIN, _origin(run, backbone.recipe))
    console.say(f"{run.folder.name}, encoded images to codes of {hasher.bits} bits: {path}")


def next_version(folder: Path) -> int:
    """Return the number of the next version in a folder, 1 if there is none."""
    if not is_printable(str(folder)):
        raise UserError(f"--export={folder} has a character in it that cannot be printed; choose another folder")
    if not folder.exists():
        return 1
    if not folder.is_dir():
        raise UserError(f"--export={folder} is a file; give a folder, or the name of an index that ends in .faiss")
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    others = sorted(name for name in names if not VERSION.fullmatch(name))
    if others:
        raise UserError(f"--export={folder} holds {others[0]}, which is no version of a model; choose another folder")
    return max(map(int, names), default=0) + 1


def serving_function(backbone: Backbone, hasher: Hasher) -> Any:  # noqa: ANN401, TensorFlow has no types
    """Return the graph of one or more encoded images.

    Args:
        backbone: Extracts the features.
        hasher: Hashes them.

    Returns:
        A concrete function of `images`, strings `[n]`, that returns `codes` `[n, ceil(K / 8)] uint8`, packed, and
        `activations` `[n, K] float32`.

    """

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "images")], autograph=False)
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        features = backbone.features_of_encoded(images)
        check_width(hasher.network, features.shape[1], f"the backbone {backbone.extractor!r}")
        activations = hasher.network(features, training=False)
        return {"codes": _packed(activations > THRESHOLD, hasher.bits), "activations": activations}

    return serve.get_concrete_function()


def _packed(set_bits: tf.Tensor, bits: int) -> tf.Tensor:
    """Pack bits as `mhcln.hamming.codes.pack` does."""
    filled = tf.pad(tf.cast(set_bits, tf.int32), [(0, 0), (0, -bits % 8)])
    return tf.cast(tf.reduce_sum(tf.reshape(filled, [-1, -(-bits // 8), 8]) * _BIT_VALUES, axis=2), tf.uint8)


def _save(served: Any, network: keras.Model, folder: Path) -> None:  # noqa: ANN401, as above
    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]  # the backbone's are constants of the graph
    try:
        tf.saved_model.save(module, str(folder), signatures=served)
    except tf.errors.OpError as error:  # of a full disk and the like; the reason follows a path that may be long
        reason = one_line(error, most=10_000).rpartition("; ")[2]
        raise UserError(f"the model cannot be written to {folder.parent} ({reason[:200]}); free its disk") from error
    (folder / ORIGIN).parent.mkdir()


def _origin(run: Run, recipe: Recipe) -> dict[str, object]:
    """Return the origin of a served model; the extractor includes the SHA-256 of the backbone's file."""
    assert run.config is not None  # a run without run.json has no network that can be opened
    return {
        "run": run.folder.name,
        "dataset": run.inputs.dataset,
        "class_names": run.codes.class_names,
        "bits": run.config.bits,
        "loss": run.config.loss,
        "extractor": str(recipe),
        "model_sha256": run.files[layout.MODEL],
        "codes_sha256": run.codes_sha256,
        "tensorflow": tf.__version__,
    }
