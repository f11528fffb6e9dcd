"""The costs of hashing: the same metrics for features, their signs, activations and codes, and bytes an image."""

import numpy as np
from numpy.typing import NDArray

from mhcln.evaluation.definitions import shared_names
from mhcln.evaluation.evaluate import Evaluation, evaluate_vectors
from mhcln.storage.results import Cost
from mhcln.storage.runs import Run
from mhcln.storage.vectors import UnavailableError, activations_of, features_of
from mhcln.training.methods.sign import medians


def compare_costs(run: Run, evaluation: Evaluation) -> tuple[list[Cost], list[str]]:
    """Evaluate features and activations of a run as its codes were evaluated.

    Returns:
        One entry for each representation, and a note for each missing one.
    """
    costs, notes = [], []
    for what, read in (("features", features_of), ("activations", activations_of)):
        try:
            vectors = read(run)
        except UnavailableError as reason:
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
