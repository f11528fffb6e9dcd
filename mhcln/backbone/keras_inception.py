"""The layers of Keras's InceptionV3: weights from a file, from Keras's download, or drawn at random."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.client
import os
import re
import urllib.request
from pathlib import Path
from typing import Any, cast

import numpy as np

from mhcln.backbone.layers import BatchNorm, Conv, FloatArray, Join, Layer, Network, Pool, Scaling, ancestors_of, fold
from mhcln.console import Console, UserError, user_path
from mhcln.quiet_tensorflow import keras
from mhcln.storage import keras_file
from mhcln.storage.files import one_line, replacing
from mhcln.storage.keras_file import SIGNATURE as HDF5
from mhcln.storage.keras_file import OtherLayoutError, SavedLayer, Shapes

# keras/src/applications/inception_v3.py: the file without the classifier, and the MD5 that Keras checks
IMAGENET = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
IMAGENET_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/{IMAGENET}"
IMAGENET_MD5 = "bcbd6486424b2319ff4ef7d526e38f63"
DOWNLOAD_SECONDS = 30  # without a byte, after which a download is given up

ENDINGS = (".h5", ".hdf5", ".keras")
ZIP = b"PK\3\4"  # begins a .keras file
OUTPUT = "mixed10"  # the last layer before global pooling
BLOCK = re.compile(r"mixed(\d+)")  # the blocks, which the 2015 graph calls mixed, mixed_1, ...
# options of layers on which it depends what they compute; initial weights, regularisers and names do not count
DECISIVE = (
    *("activation", "axis", "center", "data_format", "dilation_rate", "epsilon", "filters", "groups", "kernel_size"),
    *("padding", "pool_size", "scale", "strides", "use_bias"),
)
# keras.applications.inception_v3.preprocess_input: x / 127.5 - 1; TF2's bilinear resize, since Keras has no other
SCALING = Scaling((299, 299), half_pixel=True, mean=127.5, factor=1 / 127.5)
RANDOM_SCALE = 200  # brings the mean feature of a random network to about 0.3, that of the paper's graph


def is_weights(path: Path) -> bool:
    """Return whether a file is one that Keras saves weights to, by what it begins with or, if damaged, by its name."""
    return _start(path).startswith((HDF5, ZIP)) or path.name.endswith(ENDINGS)


def read_weights(path: Path) -> Network:
    """Return the network of a Keras InceptionV3 file, `.h5`, `.weights.h5` or `.keras`, with or without classifier.

    Its layers are those that Keras defines, with the weights of the file: nothing that the file describes is made.
    Raises UserError if the file is not of that network.
    """
    try:
        found, source = keras_file.read_archive(path) if _is_archive(path) else (None, path)
        layers, shapes = _architecture()
        if found is not None:
            _check_layers(found, layers)
        weights = keras_file.read_weights(source, list(shapes.values()))
        return _network_of(layers, dict(zip(shapes, weights, strict=True)))
    except OtherLayoutError as error:
        raise UserError(
            f"{path} is an HDF5 file of Keras, but {one_line(error)}; load it with Keras, save that model again by "
            "model.save('inception.keras'), and give that file"
        ) from error
    except ValueError as error:
        raise UserError(
            f"{path} does not hold Keras InceptionV3 weights ({one_line(error)}); "
            f"take {IMAGENET} or a file that such a Keras model was saved to"
        ) from error


def _is_archive(path: Path) -> bool:
    """Return whether a file is a `.keras` file: by what it begins with, or, if that is damaged, by its name."""
    start = _start(path)
    return start.startswith(ZIP) or (path.suffix == ".keras" and start != HDF5)


def _start(path: Path) -> bytes:
    with path.open("rb") as handle:
        return handle.read(len(HDF5))


@functools.cache
def _architecture() -> tuple[list[SavedLayer], dict[str, Shapes]]:
    """Return the layers of InceptionV3, and by their names the shapes of the weights of those that have some.

    Keras, which is asked, takes more than a second to build it.
    """
    model = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(299, 299, 3))
    shapes = {
        layer.name: Shapes(type(layer).__name__, [tuple(each.shape) for each in layer.weights])
        for layer in model.layers
        if layer.weights
    }
    return keras_file.parse_config(model.to_json()), shapes


def _check_layers(found: list[SavedLayer], wanted: list[SavedLayer]) -> None:
    """Raise ValueError if layers of a file are not those of InceptionV3; a classifier may follow them."""
    if len(found) < len(wanted):
        raise ValueError(f"it has {len(found)} layers, not {len(wanted)}")
    found_names, names = ([layer.name for layer in layers] for layers in (found, wanted))
    name_there = dict(zip(names, found_names, strict=False))
    for layer, right in zip(found, wanted, strict=False):
        same = all(
            layer.config.get(option) in (value, [value]) for option, value in right.config.items() if option in DECISIVE
        )
        if layer.kind != right.kind or layer.inputs != [name_there[name] for name in right.inputs] or not same:
            raise ValueError(f"its layer {layer.name!r} is not the {right.kind} that InceptionV3 has there"[:200])


def imagenet_file(console: Console) -> Path:
    """Return Keras's own ImageNet weights in Keras's cache, downloaded if they are not there whole.

    Not by `keras.utils.get_file`, which has no timeout and leaves a damaged file under its name. Raises UserError if
    they cannot be downloaded.
    """
    try:
        path = user_path(os.environ.get("KERAS_HOME") or "~/.keras") / "models" / IMAGENET
    except UserError:
        raise UserError(
            "nothing says where your home folder is, where Keras keeps its ImageNet weights; set KERAS_HOME to a "
            "folder, or give --model_dir"
        ) from None
    if path.is_file() and _is_imagenet(path.read_bytes()):
        return path
    console.say(f"downloading Keras's ImageNet weights to {path} (once, 88 MB)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(IMAGENET_URL, timeout=DOWNLOAD_SECONDS) as response:
            content = response.read()
        if not _is_imagenet(content):
            raise OSError("what arrived is not the file")
        with replacing(path) as part:
            part.write_bytes(content)
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"Keras's ImageNet weights cannot be downloaded ({one_line(error)}); put {IMAGENET} (from {IMAGENET_URL}) "
            f"into {path.parent}, or give --model_dir a folder that holds it or classify_image_graph_def.pb"
        ) from error
    return path


def _is_imagenet(content: bytes) -> bool:
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == IMAGENET_MD5


def random_network(seed: int) -> Network:
    """Return InceptionV3 with random normal weights (He et al. 2015, equation 10), drawn from `seed` alone.

    Each filter's mean is taken off, since activations after a ReLU share a large mean that would otherwise be most
    of every feature: features of two images would point the same way. The scale that this costs comes back at the
    input: without biases, the network's output is proportional to it.
    """
    architecture, shapes = _architecture()
    network = _network_of(architecture, {name: _initial(each) for name, each in shapes.items()})
    random = np.random.default_rng(seed)
    layers = dict(network.layers)
    for name, layer in layers.items():
        if isinstance(layer, Conv):
            kernel = random.standard_normal(layer.kernel.shape, np.float32)
            kernel -= kernel.mean(axis=(0, 1, 2))
            kernel *= np.float32(np.sqrt(2 / np.prod(kernel.shape[:3])))
            layers[name] = dataclasses.replace(layer, kernel=kernel)
    scaling = dataclasses.replace(SCALING, factor=RANDOM_SCALE * SCALING.factor)
    return dataclasses.replace(network, layers=layers, scaling=scaling)


def _initial(layer: Shapes) -> list[FloatArray]:
    """Return weights of 0, but for the variance of a batch norm, its last, which is 1."""
    weights = [np.zeros(shape, np.float32) for shape in layer.shapes]
    if layer.kind == "BatchNormalization":
        weights[-1] += 1
    return weights


def _network_of(architecture: list[SavedLayer], weights: dict[str, list[FloatArray]]) -> Network:
    """Return what layers of Keras compute from their image to `mixed10`, then the mean over space."""
    layers: dict[str, Layer] = {}
    first = ""
    for layer in architecture:
        if layer.kind == "InputLayer":
            first = first or layer.name
        else:
            layers[layer.name] = _layer_of(layer, weights.get(layer.name, []), layers)
        if layer.name == OUTPUT:
            break
    layers["avg_pool"] = Pool(OUTPUT, "average", (8, 8), (1, 1), "VALID")
    found = {name: BLOCK.fullmatch(name) for name in layers}
    blocks = {f"mixed_{match[1]}".removesuffix("_0"): name for name, match in found.items() if match}
    return Network(ancestors_of("avg_pool", layers), first, SCALING, {"pool_3": OUTPUT, **blocks})


def _layer_of(layer: SavedLayer, weights: list[FloatArray], layers: dict[str, Layer]) -> Layer:
    source, config = layer.inputs[0], cast(dict[str, Any], layer.config)
    if layer.kind == "Conv2D":
        kernel, *biases = weights
        bias = biases[0] if biases else np.zeros(kernel.shape[-1], np.float32)
        return Conv(source, kernel, bias, tuple(config["strides"]), config["padding"].upper(), relu=False)
    if layer.kind in ("MaxPooling2D", "AveragePooling2D"):
        kind = "max" if layer.kind == "MaxPooling2D" else "average"
        return Pool(source, kind, tuple(config["pool_size"]), tuple(config["strides"]), config["padding"].upper())
    if layer.kind == "Concatenate":
        return Join(tuple(layer.inputs))
    conv = layers.get(source)
    if isinstance(conv, Conv) and layer.kind == "BatchNormalization" and not conv.relu:
        values = iter(weights)  # in Keras's order
        gamma = next(values) if config["scale"] else 1.0
        beta = next(values) if config["center"] else np.zeros(conv.kernel.shape[-1], np.float32)
        return fold(conv, BatchNorm(next(values), next(values), beta, gamma, config["epsilon"]))
    if isinstance(conv, Conv) and layer.kind == "Activation":
        return dataclasses.replace(conv, relu=True)
    raise ValueError(f"its layer {layer.name!r} is a {layer.kind}, which InceptionV3 does not have there")
