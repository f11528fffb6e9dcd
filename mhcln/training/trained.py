"""A trained hashing network: read from `model.keras`, and applied to features."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.hamming.codes import binarise, pack
from mhcln.quiet_tensorflow import keras, tf
from mhcln.storage import layout
from mhcln.storage.files import one_line
from mhcln.storage.mapped import Vectors
from mhcln.storage.runs import Run
from mhcln.training.methods import METHODS
from mhcln.training.networks import kernel_network

ROWS_PER_CALL = 4096  # images hashed at a time


def load_network(run: Run) -> keras.Model:
    """Open the network that made the codes of a run."""
    path, width = run.checked(layout.MODEL), run.inputs.feature_width
    if path is None or run.config is None or width is None or path.name not in run.files:
        raise UserError(f"{run.folder} holds no model.keras of its run.json; make it with {layout.retrain(run.folder)}")
    return read_network(path, run.config.loss, width, run.config.bits)


def read_network(path: Path, loss: str, width: int, bits: int) -> keras.Model:
    """Read the network of a method from the `model.keras` that Keras saved it to.

    Only weights are taken from the file. The layers are built here, so that no file runs code, and any Keras 3 reads
    what another one saved.

    Args:
        path: The file.
        loss: The method, one of `mhcln.training.methods.METHODS`.
        width: Floats of a feature vector.
        bits: Bits of a code.
    """
    try:
        spec, saved = METHODS[loss], _saved_layers(path)
        sizes = {}
        if spec.network is kernel_network:
            by_name = {layer["name"]: layer["config"] for layer in saved}
            sizes = {"anchors": by_name["kernels"]["units"], "root": "positive" in by_name}
        network = spec.network(width, bits, **sizes)
        kinds = [layer["class_name"] for layer in saved]
        if kinds != [type(operation).__name__ for operation in network.operations]:
            raise ValueError(f"its layers are {', '.join(kinds)}")
        network.load_weights(path)
    except Exception as error:  # of zipfile, json, h5py and Keras, which share no class
        raise UserError(
            f"{path} is not a network of loss {loss} for {width} features and {bits} bits ({one_line(error)}); make it "
            f"again with {layout.retrain(path.parent)}"
        ) from error
    return network


def _saved_layers(path: Path) -> list[dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        layers: list[dict[str, Any]] = json.loads(archive.read("config.json"))["config"]["layers"]
    return layers


def check_width(network: keras.Model, found: int, source: str) -> None:
    """Raise UserError if `source` gives features of another width than a network takes."""
    width = network.input_shape[1]
    if found != width:
        raise UserError(
            f"{source} gives features of width {found}, the model takes {width}; extract them with the backbone that "
            "the run was trained on"
        )


def activations(
    network: keras.Model,
    vectors: tf.Tensor | Vectors,
    rows: NDArray[np.int64] | None = None,
    source: str = "this array",
) -> NDArray[np.float32]:
    """Return the activations `[m, K] float32` of vectors, computed as the trained network is used.

    Args:
        network: The network.
        vectors: `[n, d]`; vectors of files are read some rows at a time.
        rows: `[m]`, rows of the vectors; None for all.
        source: The origin of the vectors, for the message about another width than the network's.
    """
    check_width(network, vectors.shape[1], source)
    count = len(vectors) if rows is None else len(rows)
    blocks = []
    for start in range(0, count or 1, ROWS_PER_CALL):  # once for no vector, which gives [0, K]
        block = slice(start, start + ROWS_PER_CALL)
        some = vectors[block] if rows is None else vectors[rows[block]]
        blocks.append(network(tf.convert_to_tensor(some), training=False).numpy())
    return np.concatenate(blocks)


def encode(network: keras.Model, vectors: tf.Tensor | NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the packed codes `[n, ceil(K / 8)] uint8` of vectors `[n, d]`."""
    return pack(binarise(activations(network, vectors)))
