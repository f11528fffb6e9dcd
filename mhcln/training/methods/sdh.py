"""SDH: class codes by kernel regression, the second step of Supervised Discrete Hashing (Shen et al., CVPR 2015).

There, codes B and the map P from kernel features φ to them are found by turns; P solves a ridge regression.
Here B is fixed to the class codes of `orthohash`, so that one such step is all. Kernel codes with RBF anchors are those
of KSH too (Liu et al., CVPR 2012). Authors' code: github.com/bd622/DiscretHashing.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import keras
from mhcln.storage.run_record import TrainConfig
from mhcln.training.class_codes import class_codes
from mhcln.training.methods.method import ClosedForm
from mhcln.training.methods.projections import ROW_BLOCK, Matrix, require_variation
from mhcln.training.networks import centring, kernel_network

# Chosen on splits 100 to 103 of UCMD, 32 bits, by tests/benchmarks/constants.py: mAP@20 published / tie-aware
# 0.9803 / 0.9741 with these; a width of 1 or 4 gave 0.9786 and 0.9803 (0.9732, 0.9739), a ridge of 0.01 or 0.1 0.9798
# and 0.9748, no square root 0.9743. tests/benchmarks/README.md has what else was tried.
WIDTH = 2.0  # times the median squared distance of two training images: exp(-d² / (2 median))
RIDGE = 1e-3
MOST_ANCHORS = 10_000  # training images of which each is an anchor; their kernel takes 800 MB
# Drawn among more of them. Of AID's 6,000 training images (150x150 pixels, splits 100 and 101, 32 bits) all gave
# 0.9359 / 0.9254, 4,000 gave 0.9344 / 0.9208, 2,000 gave 0.9274 / 0.9112.
NYSTROEM_ANCHORS = 4_000
JITTER = 1e-12  # of the mean of the diagonal, where anchors are nearly equal
MEDIAN_IMAGES = 2_000  # evenly spaced ones that the median is taken over


def normalised(vectors: NDArray[np.float32], mean: Matrix | None, root: bool) -> tuple[Matrix, Matrix]:
    """Return vectors `[n, d]` after square root, centring and scaling to length 1, and the mean that was taken off.

    Args:
        vectors: The features.
        mean: `[d]`, of the roots of the training images; None to take that of these.
        root: Whether the square root is taken; of features below 0 there is none.
    """
    values = vectors.astype(np.float64)
    if root:
        values = np.sqrt(np.maximum(values, 0))
    mean = values.mean(axis=0) if mean is None else mean
    values -= mean
    lengths: Matrix = np.linalg.norm(values, axis=1, keepdims=True)
    values /= np.maximum(lengths, 1e-12)
    return values, np.asarray(mean, np.float64)


def mean_in_blocks(vectors: NDArray[np.float32], root: bool) -> Matrix:
    """Return the mean `[d]` of vectors `[n, d]`, or of their square roots; a block at a time is float64."""
    total = np.zeros(vectors.shape[1])
    for at in range(0, len(vectors), ROW_BLOCK):
        block = vectors[at : at + ROW_BLOCK].astype(np.float64)
        total += (np.sqrt(block) if root else block).sum(axis=0)
    return np.asarray(total / len(vectors), np.float64)


def kernel(units: Matrix, anchors: Matrix, spread: float) -> Matrix:
    """Return exp(-d² / spread) `[n, m]` of vectors of length 1, whose squared distances d² are 2 - 2 cosine."""
    exponents: Matrix = units @ anchors.T
    exponents -= 1
    exponents *= 2 / spread
    return np.exp(exponents, out=exponents)


def sampled_rows(vectors: NDArray[np.float32]) -> slice | NDArray[np.int64]:
    """Return `MEDIAN_IMAGES` evenly spaced rows of vectors `[n, d]`; of the different ones if those are all equal."""
    spaced = slice(None, None, -(-len(vectors) // MEDIAN_IMAGES))
    if (vectors[spaced] != vectors[0]).any():
        return spaced
    different = np.unique(vectors, axis=0, return_index=True)[1]
    return different[:: -(-len(different) // MEDIAN_IMAGES)]


def median_spread(units: Matrix) -> float:
    """Return `WIDTH` times the median squared distance of two different images `[n, d]` of length 1."""
    squares = (2 - 2 * units @ units.T)[np.triu_indices(len(units), 1)]
    return WIDTH * float(np.median(squares[squares > 1e-9]))


def coefficients(units: Matrix, targets: Matrix, spread: float) -> Matrix:
    """Solve the ridge regression of targets on the kernels of anchors, where every training image is an anchor.

    Args:
        units: `[n, d]`, training images, normalised.
        targets: `[n, K]`, Y.
        spread: As `kernel` takes it.

    Returns:
        `[n, K]`, C of (K + ridge I) C = Y.
    """
    gram = kernel(units, units, spread)
    gram[np.diag_indices_from(gram)] += RIDGE
    return np.asarray(np.linalg.solve(gram, targets), np.float64)


def nystroem_coefficients(blocks: Iterable[tuple[Matrix, Matrix]], anchors: Matrix, spread: float) -> Matrix:
    """Solve the ridge regression of targets on the kernels of fewer anchors than there are training images.

    Args:
        blocks: Training images `[b, d]`, normalised, and their targets `[b, K]`, block by block.
        anchors: `[m, d]`, normalised.
        spread: As `kernel` takes it.

    Returns:
        `[m, K]`, C of (Kₙₘᵀ Kₙₘ + ridge Kₘₘ) C = Kₙₘᵀ Y: that of `coefficients` if all training images are anchors.
    """
    left = RIDGE * kernel(anchors, anchors, spread)
    right: Matrix | float = 0.0
    for units, targets in blocks:
        block = kernel(units, anchors, spread)
        left += block.T @ block
        right = right + block.T @ targets
    left[np.diag_indices_from(left)] += JITTER * np.trace(left) / len(left)
    return np.asarray(np.linalg.solve(left, right), np.float64)


def _solve(config: TrainConfig, vectors: NDArray[np.float32], labels: NDArray[np.int32]) -> keras.Model:
    require_variation(vectors)
    targets = class_codes(int(labels.max()) + 1, config.bits, config.seed).astype(np.float64)[labels]
    root = bool((vectors >= 0).all())
    sample = sampled_rows(vectors)
    if len(vectors) <= MOST_ANCHORS:
        anchors, mean = normalised(vectors, None, root)
        spread = median_spread(anchors[sample])
        solved = coefficients(anchors, targets, spread)
    else:
        mean = mean_in_blocks(vectors, root)
        drawn = np.random.default_rng(config.seed).choice(len(vectors), NYSTROEM_ANCHORS, replace=False)
        anchors, _ = normalised(vectors[np.sort(drawn)], mean, root)
        spread = median_spread(normalised(vectors[sample], mean, root)[0])
        parts = (slice(at, at + ROW_BLOCK) for at in range(0, len(vectors), ROW_BLOCK))
        blocks = ((normalised(vectors[part], mean, root)[0], targets[part]) for part in parts)
        solved = nystroem_coefficients(blocks, anchors, spread)
    network = kernel_network(vectors.shape[1], config.bits, len(anchors), root)
    kernels = [anchors.T * (2 / spread), np.full(len(anchors), -2 / spread)]  # exp(-d² / spread), d² = 2 - 2 cosine
    network.set_weights([*centring(mean, 1.0), *kernels, solved, np.zeros(config.bits)])
    return network


SPEC = ClosedForm("SDH, class codes", kernel_network, _solve)
