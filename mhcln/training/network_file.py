"""A hashing network out of the `model.keras` that it was saved to, built of the few kinds of layers that such have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mhcln.console import UserError
from mhcln.quiet_tensorflow import keras
from mhcln.storage import layout
from mhcln.storage.files import one_line
from mhcln.storage.keras_file import SavedLayer, Shapes, read_archive, read_weights

# Options that layers of a kind must have; none other counts where a network is used, but `_built` reads some.
KINDS: dict[str, dict[str, object]] = {
    "Dense": {"use_bias": True},
    "LeakyReLU": {},
    "Dropout": {},
    "BatchNormalization": {"center": True, "scale": True},
    "Activation": {"activation": "sigmoid"},
    "Sqrt": {},
    "UnitNormalization": {"axis": -1},
}
DENSE_ACTIVATIONS = ("linear", "exponential")
MOST_LAYERS = 20  # the networks of `mhcln.training.networks` have 7


def read_network(path: Path) -> keras.Model:
    """Return the network `[n, d] float32` to `[n, K] float32` that `mhcln.training.networks` built and Keras saved.

    Raises:
        UserError: The file is damaged, or holds anything else. Nothing else that it describes is made.
    """
    try:
        layers, weights = read_archive(path)
        shapes = _shapes(layers)
        arrays = iter(read_weights(weights, shapes))
        values = inputs = keras.Input((shapes[0].shapes[0][0],), name="features", dtype="float32")
        for layer in layers[1:]:
            built = _built(layer)
            values = built(values)
            if isinstance(built, keras.layers.Layer) and built.weights:
                built.set_weights(next(arrays))
    except ValueError as error:
        raise UserError(
            f"{path} is not a hashing network ({one_line(error)}); make it again with {layout.retrain(path.parent)}"
        ) from error
    return keras.Model(inputs, values)


def _shapes(layers: list[SavedLayer]) -> list[Shapes]:
    """Return the weights that a chain of layers has; raises ValueError if they are another network's."""
    if len(layers) > MOST_LAYERS or [layer.inputs for layer in layers] != [
        [],
        *([layer.name] for layer in layers[:-1]),
    ]:
        raise ValueError(f"its {len(layers)} layers are not a few, one after another")
    for layer in layers[1:]:
        wanted = KINDS.get(layer.kind)
        if wanted is None or any(layer.config.get(option) != value for option, value in wanted.items()):
            raise ValueError(f"its layer {layer.name!r}, a {layer.kind}, is of another network"[:200])
    shape = layers[0].config.get("batch_shape")
    width = _positive(shape[-1] if isinstance(shape, list) and len(shape) == 2 else None)
    shapes = []
    for layer in layers[1:]:
        if layer.kind == "Dense":
            if layer.config.get("activation") not in DENSE_ACTIVATIONS:
                raise ValueError(f"its layer {layer.name!r} is of another network"[:200])
            units = _positive(layer.config.get("units"))
            shapes.append(Shapes(layer.kind, [(width, units), (units,)]))
            width = units
        elif layer.kind == "BatchNormalization":
            shapes.append(Shapes(layer.kind, [(width,)] * 4))
    if not shapes:
        raise ValueError("it has no layer with weights")
    return shapes


def _positive(value: object) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"one of its layers has {value!r} units"[:200])
    return value


def _built(layer: SavedLayer) -> Callable[[Any], Any]:
    if layer.kind == "Dense":
        units, activation = layer.config["units"], layer.config["activation"]
        return keras.layers.Dense(units, activation, kernel_initializer="zeros", name=layer.name)
    if layer.kind == "LeakyReLU":
        return keras.layers.LeakyReLU(negative_slope=_share(layer, "negative_slope"), name=layer.name)
    if layer.kind == "BatchNormalization":
        return keras.layers.BatchNormalization(epsilon=_share(layer, "epsilon"), name=layer.name)
    if layer.kind == "Activation":
        return keras.layers.Activation("sigmoid", name=layer.name)
    if layer.kind == "UnitNormalization":
        return keras.layers.UnitNormalization(name=layer.name)
    if layer.kind == "Sqrt":
        return keras.ops.sqrt
    return keras.layers.Dropout(0.0, name=layer.name)  # no part of a network that is used


def _share(layer: SavedLayer, option: str) -> float:
    value = layer.config.get(option)
    if not isinstance(value, float) or not 0 <= value <= 1:
        raise ValueError(f"its layer {layer.name!r} has {option} {value!r}"[:200])
    return value
