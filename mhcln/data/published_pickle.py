"""Features that the published code pickled, read without running any code in the pickle.

A pickle is a program that calls the functions that it names. This reader allows the names that make an array and
refuses all others (docs.python.org, pickle, "Restricting Globals"). It keeps the arguments and calls nothing, since
NumPy crashes on some damaged ones. No other module reads pickles.
"""

import codecs
import io
import pickle
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.data import datasets
from mhcln.storage.features import FEATURES_SECTION, Features
from mhcln.storage.files import one_line, sha256_of
from mhcln.storage.image_table import ImageTable

# The names of NumPy 1 and 2 that make an array again.
_NAMES = {
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.numeric._frombuffer",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.numeric._frombuffer",
}


class _Call:
    """A call that a pickle asks for: its arguments, and the state that the result is to get."""

    state: Any = None

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401, whatever the pickle holds
        self.arguments = arguments

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Unpickler(pickle._Unpickler):
    """The unpickler in Python: the one in C allocates memory for any memo number of a damaged file."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return codecs.encode
        if f"{module}.{name}" not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _Call


def read_published(path: Path) -> Features:
    """Read a published `features.pkl` as features, class by class, within a class in the order of the pickle."""
    vectors, labels, paths = _read_rows(path)
    files = [PurePosixPath(text.replace("\\", "/")) for text in paths]
    folders = {file.parent.name: label for file, label in zip(files, labels, strict=True)}
    names = {label: folder for folder, label in folders.items()}
    if len(names) != len(folders) or sorted(names) != list(range(len(names))):
        raise UserError(f"{path} does not give each class folder one label; make features with extract_features.py")
    known = [s for s in datasets.known().values() if {f: i for i, f in enumerate(s.folders)} == folders]
    images = ImageTable(
        labels=np.array(labels, np.int32),
        paths=[f"{file.parent.name}/{file.name}" for file in files],
        class_names=list(known[0].class_names) if known else [names[label] for label in sorted(names)],
        dataset=known[0].name if known else files[0].parent.parent.name or "published",
        images_dir=str(files[0].parent.parent),
        extractor=f"published features.pkl; sha256={sha256_of(path)}",
    )
    return Features(vectors, images)


def _read_rows(path: Path) -> tuple[NDArray[np.float32], list[int], list[str]]:
    """Return vectors `[n, d]`, labels, and absolute paths on the machine that made them, sorted by label."""
    if not path.is_file():
        raise UserError(f"{path} is missing; give --features a .npz, or the features.pkl of the published code")
    content = io.BytesIO(path.read_bytes())
    try:
        rows = [_row(entry) for entry in _Unpickler(content, encoding="latin1").load()]
        rows.sort(key=lambda row: row[1])
        vectors = np.stack([vector for vector, _, _ in rows])
        if not np.isfinite(vectors).all():
            raise ValueError("its features are not finite")
    except Exception as error:  # a damaged pickle may do anything that its names allow
        what = one_line(error, 160) or "it is damaged"
        raise UserError(
            f"{path} is not a features.pkl of the published code ({what}), and nothing of it was run; --features takes "
            f"one, or a .npz that is written as {FEATURES_SECTION}"
        ) from None
    return vectors, [label for _, label, _ in rows], [text for _, _, text in rows]


def _row(entry: object) -> tuple[NDArray[np.float32], int, str]:
    """Return a row of the published code, `[feature, label, path]`."""
    if not isinstance(entry, list | tuple) or len(entry) != 3:
        raise ValueError("a row is not [feature, label, path]")
    feature, label, path = entry
    if not isinstance(feature, _Call):
        raise ValueError("a row has no array")
    if type(label) is not int or not isinstance(path, str):
        raise ValueError("a row has no label or no path")
    return _vector(feature), label, path


def _vector(array: _Call) -> NDArray[np.float32]:
    """Return the numbers of an array, whatever its shape: the published code keeps one dimension."""
    if array.state:
        _version, _shape, dtype, _order, data = array.state  # as numpy.ndarray.__reduce__ writes it
    else:
        data, dtype, _shape, _order = array.arguments  # as numpy.ndarray.__reduce_ex__(5) does
    order, kind = dtype.state[1], dtype.arguments[0]
    if order not in ("<", ">") or kind not in ("f4", "f8"):
        raise ValueError("a feature is not of float32 or float64")
    content = data.encode("latin1") if isinstance(data, str) else data
    with np.errstate(over="ignore"):  # infinity is refused later
        return np.frombuffer(content, f"{order}{kind}").astype(np.float32)
