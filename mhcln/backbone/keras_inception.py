"""The layers of Keras's InceptionV3: weights from a file, from Keras's download, or drawn at random."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np

from mhcln.backbone.layers import Conv, Join, Layer, Network, Pool, Scaling, ancestors_of, fold
from mhcln.console import UserError
from mhcln.quiet_tensorflow import keras
from mhcln.storage.files import one_line

# keras/src/applications/inception_v3.py: the file without the classifier, and the MD5 that Keras checks
IMAGENET = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
IMAGENET_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/{IMAGENET}"
IMAGENET_MD5 = "bcbd6486424b2319ff4ef7d526e38f63"

ENDINGS = (".h5", ".hdf5", ".keras")
OUTPUT = "mixed10"  # the last layer before global pooling
MIXED = re.compile(r"mixed(\d+)")  # the blocks, which the 2015 graph calls mixed, mixed_1, ...
# keras.applications.inception_v3.preprocess_input: x / 127.5 - 1; TF2's bilinear resize, since Keras has no other
SCALING = Scaling((299, 299), half_pixel=True, mean=127.5, factor=1 / 127.5)
RANDOM_SCALE = 200  # brings the mean feature of a random network to about 0.3, that of the paper's graph


def is_weights(path: Path) -> bool:
    """Return whether a file has a name that Keras saves weights under."""
    return path.name.endswith(ENDINGS)


def read_weights(path: Path) -> Network:
    """Return the network of a Keras InceptionV3 file, `.h5`, `.weights.h5` or `.keras`, with or without classifier.

    The layers are Keras's own, with the weights of the file: no layer of the file is made.
    """
    model = _inception()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of each part that a file lacks before it fails
            _load_weights(model, path)
        return _network_of(model)
    except Exception as error:  # a damaged file makes each library raise errors of its own
        raise UserError(
            f"{path} does not hold Keras InceptionV3 weights ({one_line(error)}); "
            f"take {IMAGENET}, or save such a Keras model to a file"
        ) from error


def _inception() -> keras.Model:
    return keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(299, 299, 3))


def _load_weights(model: keras.Model, path: Path) -> None:
    if path.suffix == ".keras":
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
            model.load_weights(archive.extract("model.weights.h5", folder))  # Keras takes seconds to read it in the zip
        return
    with h5py.File(path) as file:
        saved = file.get("model_weights", file)  # a whole model has its description beside them
        if "layer_names" in saved.attrs:
            _load_listed_weights(model, saved)
            return
    model.load_weights(path)


def _load_listed_weights(model: keras.Model, saved: h5py.Group) -> None:
    """Load a file of Keras 2 or a download of Keras; Keras itself refuses one with a classifier."""
    groups = [saved[name] for name in saved.attrs["layer_names"]]
    groups = [group for group in groups if len(group.attrs["weight_names"])]
    layers = [layer for layer in model.layers if layer.weights]
    if len(groups) < len(layers):
        raise ValueError(f"it has {len(groups)} layers with weights, not {len(layers)}")
    for layer, group in zip(layers, groups, strict=False):
        layer.set_weights([group[name][()] for name in group.attrs["weight_names"]])


def imagenet_file() -> Path:
    """Return Keras's own ImageNet weights in Keras's cache, which it downloads if they are not there whole."""
    in_a_log = not sys.stdout.isatty()  # where Keras would print a line for each step of its progress bar
    try:
        with contextlib.redirect_stdout(io.StringIO()) if in_a_log else contextlib.nullcontext():
            return Path(keras.utils.get_file(IMAGENET, IMAGENET_URL, cache_subdir="models", file_hash=IMAGENET_MD5))
    except Exception as error:  # it raises Exception itself
        raise UserError(
            f"Keras's ImageNet weights cannot be downloaded ({one_line(error)}); get {IMAGENET_URL} another way, and "
            "give that file, or classify_image_graph_def.pb, as --model_dir"
        ) from error


def random_network(seed: int) -> Network:
    """Return InceptionV3 with random normal weights (He et al. 2015, equation 10), drawn from `seed` alone.

    Each filter's mean is taken off, since activations after a ReLU share a large mean that would otherwise be most
    of every feature: features of two images would point the same way. The scale that this costs comes back at the
    input: without biases, the network's output is proportional to it.
    """
    network = _network_of(_inception())
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
    """Return the layers of Keras from the image to `mixed10`, then the mean over space."""
    first, *others = model.layers
    name_of = {id(layer.output): layer.name for layer in model.layers}
    layers: dict[str, Layer] = {}
    for layer in others:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        layers[layer.name] = _layer_of(layer, [name_of[id(tensor)] for tensor in inputs], layers)
    layers["avg_pool"] = Pool(OUTPUT, "average", (8, 8), (1, 1), "VALID")
    found = {name: MIXED.fullmatch(name) for name in layers}
    blocks = {f"mixed_{match[1]}".removesuffix("_0"): name for name, match in found.items() if match}
    return Network(ancestors_of("avg_pool", layers), first.name, SCALING, {"pool_3": OUTPUT, **blocks})


def _layer_of(layer: keras.Layer, inputs: list[str], layers: dict[str, Layer]) -> Layer:
    """Return a layer of Keras, joined with the convolution before it if it is a batch norm or a ReLU."""
    if isinstance(layer, keras.layers.Concatenate):
        return Join(tuple(inputs))
    (source,) = inputs
    if isinstance(layer, keras.layers.Conv2D):
        (kernel,) = layer.get_weights()
        bias = np.zeros(kernel.shape[-1], np.float32)
        return Conv(source, kernel, bias, layer.strides, layer.padding.upper(), relu=False)
    if isinstance(layer, keras.layers.MaxPooling2D | keras.layers.AveragePooling2D):
        kind = "max" if isinstance(layer, keras.layers.MaxPooling2D) else "average"
        return Pool(source, kind, layer.pool_size, layer.strides, layer.padding.upper())
    conv = layers[source]
    assert isinstance(conv, Conv)
    if isinstance(layer, keras.layers.BatchNormalization):
        beta, mean, variance = layer.get_weights()
        return fold(conv, mean, variance, beta, 1.0, layer.epsilon)
    return dataclasses.replace(conv, relu=True)
