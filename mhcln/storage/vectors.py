"""The vectors that the codes of a run stand for: features and activations, in the order of the codes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.storage import formats, layout
from mhcln.storage.features import file_of
from mhcln.storage.features_file import read_file
from mhcln.storage.formats import Codes
from mhcln.storage.runs import Run


class UnavailableError(Exception):
    """Why there are no vectors to the codes."""


def features_of(run: Run) -> NDArray[np.float32]:
    """Read the features `[n, d]` of the codes' images, in their order; raises UnavailableError if there are none.

    Those in shards are left where they are: all of them may be more than there is memory.
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
    return _in_order_of(run.codes, features.vectors[:], features.images.paths, path)


def activations_of(run: Run) -> NDArray[np.float32]:
    """Read the activations `[n, K]` of the codes' images, in their order.

    Raises:
        UnavailableError: There are none.
        UserError: The file is damaged, or not the one that the trainer wrote.
    """
    path = run.checked(layout.ACTIVATIONS)
    if path is None:
        raise UnavailableError(f"{run.folder / layout.ACTIVATIONS} is not there")
    stored = formats.read_activations(run.folder, run.codes.bits)
    if stored is None:
        raise UnavailableError(f"{path} does not hold {run.codes.bits} float32 for each of its paths")
    return _in_order_of(run.codes, stored.activations, stored.paths, path)


def _in_order_of(codes: Codes, vectors: NDArray[np.float32], paths: list[str], source: Path) -> NDArray[np.float32]:
    if paths == codes.paths:
        return vectors
    row_of = {path: row for row, path in enumerate(paths)}
    absent = [path for path in codes.paths if path not in row_of]
    if absent:
        raise UnavailableError(f"{source} lacks {len(absent)} of the images, first {absent[0]}")
    return vectors[[row_of[path] for path in codes.paths]]
