"""What hashing costs: the same figures for the real-valued vectors that the codes stand for, and bytes per image."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln import artifacts, evaluation
from mhcln.artifacts import Codes
from mhcln.evaluation import Trial
from mhcln.files import read_npz, sha256_of
from mhcln.trained import Run

FLOAT_BYTES = 4


def compare(dump_dir: Path, run: Run, chosen: Trial, values: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """One entry for features, activations and codes, as far as they are there, and a note for each that is not.

    An entry holds `what`, `stored` ("2048 floats"), `bytes_per_image`, and the figures of
    `mhcln.evaluation.evaluate_vectors`; those of the codes are taken from `values`. Raises UserError where a file
    is damaged.
    """
    entries, notes = [], []
    for what, read in (("features", _features), ("activations", _activations)):
        vectors = read(dump_dir, run)
        if isinstance(vectors, str):
            notes.append(f"no comparison with the {what}: {vectors}")
            continue
        figures = evaluation.evaluate_vectors(vectors, chosen)
        width = vectors.shape[1]
        entries.append(_entry(what, f"{width} floats", width * FLOAT_BYTES, figures))
    bits = run.codes.bits
    figures = {name: values[name] for name in evaluation.shared_figures(chosen.k)}
    entries.append(_entry("codes", f"{bits} bits", (bits + 7) // 8, figures))
    return entries, notes


def _entry(what: str, stored: str, size: int, figures: dict[str, float]) -> dict[str, Any]:
    return {"what": what, "stored": stored, "bytes_per_image": size, **figures}


def _features(dump_dir: Path, run: Run) -> NDArray[np.float32] | str:
    """Features [n, d] in the row order of the codes, or why there are none."""
    path = dump_dir / "features.npz"
    if not path.is_file():
        return f"{path} is not there"
    recorded = run.setup["features_sha256"]
    if recorded is not None and recorded != sha256_of(path):
        return f"{path} has changed since the training"
    features = artifacts.read_features(dump_dir)
    return _in_order(features.features, features.paths, run.codes, path)


def _activations(_dump_dir: Path, run: Run) -> NDArray[np.float32] | str:
    """Activations [n, K] in the row order of the codes, or why there are none."""
    path = run.checked("activations.npz")
    if path is None:
        return f"{run.folder / 'activations.npz'} is not there"
    arrays = read_npz(path, artifacts.TRAIN, ["activations", "paths"])
    activations, paths = arrays.get("activations"), arrays.get("paths", np.array([])).tolist()
    if activations is None or activations.shape != (len(paths), run.codes.bits) or activations.dtype != np.float32:
        return f"{path} does not hold {run.codes.bits} float32 for each of its paths"
    return _in_order(activations, paths, run.codes, path)


def _in_order(vectors: NDArray[np.float32], paths: list[str], codes: Codes, path: Path) -> NDArray[np.float32] | str:
    if paths == codes.paths:
        return vectors
    row_of = {name: row for row, name in enumerate(paths)}
    absent = [name for name in codes.paths if name not in row_of]
    if absent:
        return f"{path} lacks {len(absent)} of the images, first {absent[0]}"
    return vectors[[row_of[name] for name in codes.paths]]
