"""The layers of Keras's InceptionV3: weights from a file, from Keras's download, or drawn at random."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import os
import re
import urllib.request
from pathlib import Path

import numpy as np

from mhcln.backbone.layers import BatchNorm, Conv, Join, Layer, Network, Pool, Scaling, ancestors_of, fold
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

    The network is built as Keras defines it and then filled with the weights of the file: nothing that the file
    describes is made. Raises UserError if the file is not of that network.
    """
    try:
        found, source = keras_file.read_archive(path) if _is_archive(path) else (None, path)
        model = _untrained()
        if found is not None:
            _check_layers(found, keras_file.parse_config(model.to_json()))
        with_weights = [layer for layer in model.layers if layer.weights]
        shapes = [Shapes(type(layer).__name__, [tuple(w.shape) for w in layer.weights]) for layer in with_weights]
        for layer, weights in zip(with_weights, keras_file.read_weights(source, shapes), strict=True):
            layer.set_weights(weights)
        return _network_of(model)
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


def _untrained() -> keras.Model:
    return keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(299, 299, 3))


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
    network = _network_of(_untrained())
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


def _network_of(model: keras.Model) -> Network:
    """Return what a Keras model computes from its image to `mixed10`, then the mean over space."""
    names = {id(layer.output): layer.name for layer in model.layers}
    layers: dict[str, Layer] = {}
    first = ""
    for layer in model.layers:
        read = layer.input if isinstance(layer.input, list) else [layer.input]
        if isinstance(layer, keras.layers.InputLayer):
            first = first or layer.name
        else:
            layers[layer.name] = _layer_of(layer, tuple(names[id(tensor)] for tensor in read), layers)
        if layer.name == OUTPUT:
            break
    layers["avg_pool"] = Pool(OUTPUT, "average", (8, 8), (1, 1), "VALID")
    found = {name: BLOCK.fullmatch(name) for name in layers}
    blocks = {f"mixed_{match[1]}".removesuffix("_0"): name for name, match in found.items() if match}
    return Network(ancestors_of("avg_pool", layers), first, SCALING, {"pool_3": OUTPUT, **blocks})


def _layer_of(layer: keras.Layer, read: tuple[str, ...], layers: dict[str, Layer]) -> Layer:
    if isinstance(layer, keras.layers.Conv2D):
        weights = layer.get_weights()
        bias = weights[1] if layer.use_bias else np.zeros(layer.filters, np.float32)
        return Conv(read[0], weights[0], bias, layer.strides, layer.padding.upper(), relu=False)
    if isinstance(layer, keras.layers.MaxPooling2D | keras.layers.AveragePooling2D):
        kind = "max" if isinstance(layer, keras.layers.MaxPooling2D) else "average"
        return Pool(read[0], kind, layer.pool_size, layer.strides, layer.padding.upper())
    if isinstance(layer, keras.layers.Concatenate):
        return Join(read)
    conv = layers.get(read[0])
    if isinstance(conv, Conv) and isinstance(layer, keras.layers.BatchNormalization) and not conv.relu:
        mean, variance = (np.asarray(value) for value in (layer.moving_mean, layer.moving_variance))
        beta = np.asarray(layer.beta) if layer.center else np.zeros_like(mean)
        gamma = np.asarray(layer.gamma) if layer.scale else 1.0
        return fold(conv, BatchNorm(mean, variance, beta, gamma, layer.epsilon))
    if isinstance(conv, Conv) and isinstance(layer, keras.layers.Activation):
        return dataclasses.replace(conv, relu=True)
    raise ValueError(f"its layer {layer.name!r} is a {type(layer).__name__}, which InceptionV3 does not have there")
