"""Files that Keras saves networks to, read without Keras: layers as JSON, weights as arrays of the shapes asked for.

Keras makes any object that the JSON names, of any size, before it looks at the weights; and HDF5 follows links and
layouts into other files. Here nothing is made but JSON and arrays, and these only as large as the file is.
"""

import contextlib
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from mhcln.storage.zip_members import DamagedError, open_member, read_directory

FloatArray = NDArray[np.float32]

CONFIG, WEIGHTS, METADATA = b"config.json", b"model.weights.h5", b"metadata.json"
FILE_BYTES = 2**29  # InceptionV3 takes 88 MB, three times that with the state of an optimiser
CONFIG_BYTES = 2**22  # that of InceptionV3 takes 306,774
NAMES_BYTES = 2**20  # of a list of layers or weights; HDF5 writes at most 64 KiB
SIGNATURE = b"\x89HDF\r\n\x1a\n"  # begins every HDF5 file
WHOLE_MODEL = (
    "model_weights"  # the group of the weights in an .h5 of a whole model, beside the description in attributes
)
ROOTS = ("layers", "_layer_checkpoint_dependencies")  # of Keras 3, of Keras 2.13
SNAKE_CASE = {"BatchNormalization": "batch_normalization", "Conv2D": "conv2d", "Dense": "dense"}


class OtherLayoutError(ValueError):
    """What a sound file holds may be right, but is laid out in a way that is not read."""


class SavedLayer(NamedTuple):
    """A layer as the JSON of a `.keras` file describes it.

    Attributes:
        name: Its name.
        kind: Name of its class.
        config: Its options.
        inputs: Names of the layers that it reads.
    """

    name: str
    kind: str
    config: dict[str, object]
    inputs: list[str]


class Shapes(NamedTuple):
    """The weights that a layer must have.

    Attributes:
        kind: Name of its class, one of SNAKE_CASE.
        shapes: Shapes of its weights, in Keras's order: those that are trained, then the others.
    """

    kind: str
    shapes: list[tuple[int, ...]]


def read_archive(path: Path) -> tuple[list[SavedLayer], io.BytesIO]:
    """Read a `.keras` file.

    Returns:
        Its layers in their order, and the HDF5 file of its weights, for `read_weights`.

    Raises:
        ValueError: It is not such a file, or is damaged.
    """
    _check_size(path)
    try:
        with path.open("rb") as handle:
            members = {member.name: member for member in read_directory(handle, path.stat().st_size)}
            if not members.keys() <= {CONFIG, WEIGHTS, METADATA}:
                raise ValueError("it holds other files than a network of Keras")
            content = {}
            for name, most in ((CONFIG, CONFIG_BYTES), (WEIGHTS, FILE_BYTES)):
                if name not in members or members[name].size > most:
                    raise ValueError(f"it holds no {name.decode()} of at most {most} bytes")
                stream = open_member(handle, members[name])
                content[name] = stream.take(members[name].size)
                stream.finish()
    except DamagedError as error:
        raise ValueError(f"it is damaged: {error}") from None
    return parse_config(content[CONFIG]), io.BytesIO(content[WEIGHTS])


def parse_config(content: str | bytes) -> list[SavedLayer]:
    """Return the layers that the JSON of a network describes; raises ValueError if it describes none."""
    try:
        layers = [_saved_layer(layer) for layer in json.loads(content)["config"]["layers"]]
    except (LookupError, TypeError, RecursionError):
        raise ValueError(f"its {CONFIG.decode()} is not that of a network") from None
    if len({layer.name for layer in layers}) != len(layers):
        raise ValueError(f"its {CONFIG.decode()} names a layer twice")
    return layers


def _saved_layer(layer: dict[str, Any]) -> SavedLayer:
    name, kind, config = layer["config"]["name"], layer["class_name"], layer["config"]
    if not isinstance(name, str) or not isinstance(kind, str):
        raise TypeError
    return SavedLayer(name, kind, dict(config), list(_inputs(layer["inbound_nodes"])))


def _inputs(nodes: object) -> Iterator[str]:
    """Find the names of layers in `inbound_nodes`: `{"keras_history": [name, 0, 0]}`, in Keras 2 `[name, 0, 0, {}]`."""
    if isinstance(nodes, dict):
        if "keras_history" in nodes:
            yield nodes["keras_history"][0]
        else:
            for node in nodes.values():
                yield from _inputs(node)
    elif isinstance(nodes, list):
        if nodes and isinstance(nodes[0], str):
            yield nodes[0]
        else:
            for node in nodes:
                yield from _inputs(node)


def read_weights(source: Path | io.BytesIO, layers: Sequence[Shapes]) -> list[list[FloatArray]]:
    """Read the weights of layers from HDF5, as Keras 2 and 3 write it.

    Args:
        source: The file, of weights alone or of a whole model. In one of Keras 2, other layers may follow.
        layers: What the layers that have weights must have, in their order.

    Returns:
        For each layer its weights, finite, of the shapes asked for.

    Raises:
        ValueError: The file does not hold them, or is damaged; OtherLayoutError if another program can tell.
    """
    if isinstance(source, Path):
        _check_size(source)
    with _hdf5_errors(), h5py.File(source, "r") as whole:
        file = _child(whole, WHOLE_MODEL) if WHOLE_MODEL in whole else whole
        is_legacy = "layer_names" in file.attrs
        names = _legacy_names(file)[: len(layers)] if is_legacy else _names(file, layers)
        if [len(found) for found in names] != [len(layer.shapes) for layer in layers]:
            raise ValueError(f"it has {len(names)} layers with weights, or another number of weights in one of them")
        return [
            [_array(file, name, shape) for name, shape in zip(found, layer.shapes, strict=True)]
            for found, layer in zip(names, layers, strict=True)
        ]


def _check_size(path: Path) -> None:
    if path.stat().st_size > FILE_BYTES:
        raise ValueError(f"it has more than {FILE_BYTES} bytes")


@contextlib.contextmanager
def _hdf5_errors() -> Iterator[None]:
    """Raise a ValueError for whatever h5py raises if a file is damaged."""
    try:
        yield
    except (OSError, RuntimeError, LookupError, TypeError, AttributeError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno:  # of the file system
            raise
        raise ValueError(f"its HDF5 is damaged: {error}") from None


def _names(file: h5py.Group, layers: Sequence[Shapes]) -> list[list[str]]:
    """Return the paths of all weights as Keras 3 names them: `layers/conv2d_3/vars/0`."""
    roots = [name for name in ROOTS if isinstance(file.get(name, getlink=True), h5py.HardLink)]
    if not roots:
        raise ValueError(f"it has none of the groups {', '.join(ROOTS)}")
    seen: Counter[str] = Counter()
    names = []
    for layer in layers:
        name = SNAKE_CASE[layer.kind]
        number = f"_{seen[name]}" if seen[name] else ""
        seen[name] += 1
        names.append([f"{roots[0]}/{name}{number}/vars/{place}" for place in range(len(layer.shapes))])
    return names


def _legacy_names(file: h5py.Group) -> list[list[str]]:
    """Return the paths of all weights of a file of Keras 2, or of Keras's downloads, which lists them."""
    layers = {layer: _listed(_child(file, layer), "weight_names") for layer in _listed(file, "layer_names")}
    return [[f"{layer}/{name}" for name in names] for layer, names in layers.items() if names]


def _listed(group: h5py.Group, attribute: str) -> list[str]:
    """Return the names in an attribute, of fixed length as Keras 2 wrote them: HDF5 hangs at some damaged others."""
    found = group.attrs.get_id(attribute)
    if found.shape == (0,):
        return []
    kind = found.get_type()
    is_fixed = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
    if not is_fixed or len(found.shape or ()) != 1 or found.get_storage_size() > NAMES_BYTES:
        raise OtherLayoutError(f"its {attribute} is not a list of names of fixed length")
    names = [name.decode() for name in group.attrs[attribute]]
    if len(set(names)) != len(names):
        raise ValueError(f"its {attribute} names something twice")
    return names


def _child(parent: h5py.Group, path: str) -> h5py.HLObject:
    """Return what lies at a path inside the file: other links may lead into other files."""
    for name in path.split("/"):
        if not isinstance(parent, h5py.Group) or not isinstance(parent.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"it has no {path!r} of its own"[:200])
        parent = parent[name]
    return parent


def _array(file: h5py.Group, path: str, shape: tuple[int, ...]) -> FloatArray:
    found = _child(file, path)
    if not isinstance(found, h5py.Dataset) or found.shape != shape or found.dtype.kind != "f":
        what = f"{found.dtype} {found.shape}" if isinstance(found, h5py.Dataset) else "a group"
        raise ValueError(f"its {path!r} is {what}, not float32 {shape}"[:200])
    # one piece of this file, all of it written: external files, virtual and chunked layouts are of other kinds
    layout = found.id.get_create_plist()
    whole = layout.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) and not layout.get_external_count()
    if not whole or found.id.get_storage_size() != math.prod(shape) * found.dtype.itemsize:
        raise ValueError(f"its {path!r} is not stored in one piece"[:200])
    with np.errstate(over="ignore"):
        array = np.asarray(found[()], np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"its {path!r} has numbers that are not finite"[:200])
    return array
