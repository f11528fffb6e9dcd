"""The vectors behind the codes of a run: features and activations, in the order of the codes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.storage import layout
from mhcln.storage.coded_images import CodedImages
from mhcln.storage.features import file_of, read_file
from mhcln.storage.files import read_npz
from mhcln.storage.runs import Run
from mhcln.storage.source import write_npz_content

Floats = NDArray[np.float32]


class UnavailableError(Exception):
    """Why there are no vectors to the codes."""


def write_activations(run_dir: Path, activations: Floats, paths: list[str]) -> None:
    """Write `activations.npz` of a training run: activations `[n, K]` between 0 and 1, and the path of each image."""
    write_npz_content(run_dir / layout.ACTIVATIONS, activations=activations, paths=paths)


def features_of(run: Run) -> Floats:
    """Read the features `[n, d]` of the codes' images, in their order. Those in shards are too many to be compared.

    Raises:
        UnavailableError: There are none.
    """
    path = file_of(run.folder.parent)
    if not path.is_file():
        raise UnavailableError(f"{path} is not there")
    if path.name == layout.FEATURES_LIST:
        raise UnavailableError(f"{path} lists them in shards, which are too many to compare")
    recorded = run.inputs.features_sha256
    features = read_file(path)
    if recorded is not None and recorded != features.sha256:
        raise UnavailableError(f"{path} has changed since the training")
    return _in_order_of(run.codes, features.vectors[:], list(features.images.paths), path)


def activations_of(run: Run) -> Floats:
    """Read the activations `[n, K]` of the codes' images, in their order.

    Raises:
        UnavailableError: There are none.
    """
    path = run.checked(layout.ACTIVATIONS)
    if path is None:
        raise UnavailableError(f"{run.folder / layout.ACTIVATIONS} is not there")
    arrays = read_npz(path, layout.retrain(run.folder), ["activations", "paths"])
    found, paths = (arrays.get(name, np.empty(0)) for name in ("activations", "paths"))
    if found.shape != (len(paths), run.codes.bits) or found.dtype != np.float32 or paths.dtype.kind != "U":
        raise UnavailableError(f"{path} does not hold {run.codes.bits} float32 for each of its paths")
    return _in_order_of(run.codes, found, paths.tolist(), path)


def _in_order_of(codes: CodedImages, vectors: Floats, paths: list[str], source: Path) -> Floats:
    if paths == codes.paths:
        return vectors
    row_of = {path: row for row, path in enumerate(paths)}
    absent = [path for path in codes.paths if path not in row_of]
    if absent:
        raise UnavailableError(f"{source} lacks {len(absent)} of the images, first {absent[0]}")
    return vectors[[row_of[path] for path in codes.paths]]
