"""What hashing costs: the same metrics for features, their signs, activations and codes, and the bytes of an image."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.evaluation.definitions import shared_names
from mhcln.evaluation.evaluate import Evaluation, evaluate_vectors
from mhcln.storage import formats, layout
from mhcln.storage.formats import Codes
from mhcln.storage.results import Cost
from mhcln.storage.runs import Run
from mhcln.training.methods.sign import medians


def compare_costs(run: Run, evaluation: Evaluation) -> tuple[list[Cost], list[str]]:
    """Evaluate the vectors that the codes of a run stand for, as far as they are there, as the codes were evaluated.

    Returns:
        One entry for each that is there, and a note for each that is not.
    """
    costs, notes = [], []
    for what, read in (("features", _features_of), ("activations", _activations_of)):
        try:
            vectors = read(run)
        except _UnavailableError as reason:
            notes.append(f"no comparison with the {what}: {reason}")
            continue
        width = vectors.shape[1]
        metrics = evaluate_vectors(vectors, evaluation.protocol)
        costs.append(Cost(what, f"{width} floats", width * vectors.itemsize, metrics))
        if what == "features":
            signs = signs_of(vectors, np.array(run.codes.split) == "train")
            metrics = evaluate_vectors(signs, evaluation.protocol)
            costs.append(Cost("signs", f"{width} bits", (width + 7) // 8, metrics))
    bits = run.codes.bits
    metrics = {name: evaluation.metrics[name] for name in shared_names(evaluation.protocol.k)}
    return [*costs, Cost("codes", f"{bits} bits", (bits + 7) // 8, metrics)], notes


def signs_of(features: NDArray[np.float32], train: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the codes of `--loss=sign` as vectors `[n, d]` of -1 and 1, whose cosines rank as their Hamming distances.

    Args:
        features: `[n, d]`.
        train: `[n]`, which images trained: their medians cut the features. Without any, all images count.
    """
    cut = medians(features[train] if train.any() else features)
    return np.where(features > cut, np.float32(1), np.float32(-1))


class _UnavailableError(Exception):
    """Why there are no vectors to compare the codes with."""


def _features_of(run: Run) -> NDArray[np.float32]:
    """Read the features `[n, d]` of the codes' images, in their order."""
    dump_dir = run.folder.parent
    path = dump_dir / layout.FEATURES
    if not path.is_file():
        raise _UnavailableError(f"{path} is not there")
    recorded = run.inputs.features_sha256
    features = formats.read_features(dump_dir)
    if recorded is not None and recorded != features.sha256:
        raise _UnavailableError(f"{path} has changed since the training")
    return _in_order_of(run.codes, features.vectors, features.images.paths, path)


def _activations_of(run: Run) -> NDArray[np.float32]:
    """Read the activations `[n, K]` of the codes' images, in their order."""
    path = run.checked(layout.ACTIVATIONS)
    if path is None:
        raise _UnavailableError(f"{run.folder / layout.ACTIVATIONS} is not there")
    stored = formats.read_activations(run.folder, run.codes.bits)
    if stored is None:
        raise _UnavailableError(f"{path} does not hold {run.codes.bits} float32 for each of its paths")
    return _in_order_of(run.codes, stored.activations, stored.paths, path)


def _in_order_of(codes: Codes, vectors: NDArray[np.float32], paths: list[str], source: Path) -> NDArray[np.float32]:
    if paths == codes.paths:
        return vectors
    row_of = {path: row for row, path in enumerate(paths)}
    absent = [path for path in codes.paths if path not in row_of]
    if absent:
        raise _UnavailableError(f"{source} lacks {len(absent)} of the images, first {absent[0]}")
    return vectors[[row_of[path] for path in codes.paths]]
