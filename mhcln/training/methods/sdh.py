"""SDH: class codes by kernel regression, the second step of Supervised Discrete Hashing (Shen et al., CVPR 2015).

There, codes B and the map P from kernel features φ to them are found by turns; P solves a ridge regression.
Here B is fixed to the class codes of `orthohash`, so that one such step is all. Kernel codes with RBF anchors are those
of KSH too (Liu et al., CVPR 2012). Authors' code: github.com/bd622/DiscretHashing.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import keras
from mhcln.storage.run_record import TrainConfig
from mhcln.training.class_codes import class_codes
from mhcln.training.methods.method import ClosedForm
from mhcln.training.methods.projections import BLOCK, Matrix, require_variation
from mhcln.training.networks import kernel_network
from mhcln.training.samplers import check_classes

# Chosen on splits 100 to 103 of UCMD, 32 bits, one view, by tests/benchmarks/constants.py: mAP@20 published / tie-aware
# 0.9803 / 0.9741 with these; a width of 1 or 4 gave 0.9786 and 0.9803 (0.9732, 0.9739), a ridge of 0.01 or 0.1 0.9798
# and 0.9748, no square root 0.9743. What else was tried stands in tests/benchmarks/README.md.
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


@dataclasses.dataclass(frozen=True)
class Units:
    """Training images as `normalised` returns them, computed when rows are asked for: float64 of all would not fit.

    Attributes:
        vectors: `[n, d]`, the features.
        mean: `[d]`, of all their roots.
        root: Whether the square root is taken.
    """

    vectors: NDArray[np.float32]
    mean: Matrix
    root: bool

    @classmethod
    def of(cls, vectors: NDArray[np.float32], root: bool) -> Units:
        """Return the units of all training images."""
        total = np.zeros(vectors.shape[1])
        for at in range(0, len(vectors), BLOCK):
            block = vectors[at : at + BLOCK].astype(np.float64)
            total += (np.sqrt(block) if root else block).sum(axis=0)
        return cls(vectors, total / len(vectors), root)

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Matrix:
        return normalised(self.vectors[rows], self.mean, self.root)[0]


def kernel(units: Matrix, anchors: Matrix, spread: float) -> Matrix:
    """Return exp(-d² / spread) `[n, m]` of vectors of length 1, whose squared distances d² are 2 - 2 cosine."""
    exponents: Matrix = units @ anchors.T
    exponents -= 1
    exponents *= 2 / spread
    return np.exp(exponents, out=exponents)


def median_spread(units: Matrix | Units) -> float:
    """Return `WIDTH` times the median squared distance of two different images `[n, d]` of length 1."""
    some = units[:: -(-len(units) // MEDIAN_IMAGES)]
    squares = (2 - 2 * some @ some.T)[np.triu_indices(len(some), 1)]
    return WIDTH * float(np.median(squares[squares > 1e-9]))


def coefficients(units: Matrix | Units, anchors: Matrix | None, targets: Matrix, spread: float) -> Matrix:
    """Solve the ridge regression of targets on kernel features.

    With every training image an anchor that is (K + ridge I) C = Y. With others (Nystroem) it is
    (Kₙₘᵀ Kₙₘ + ridge Kₘₘ) C = Kₙₘᵀ Y, the same C if the anchors are all training images.

    Args:
        units: `[n, d]`, training images, normalised.
        anchors: `[m, d]`; None for all training images.
        targets: `[n, K]`, Y.
        spread: As `kernel` takes it.

    Returns:
        `[m, K]`, C.
    """
    if anchors is None:
        every = units[:]
        gram = kernel(every, every, spread)
        gram[np.diag_indices_from(gram)] += RIDGE
        return np.asarray(np.linalg.solve(gram, targets), np.float64)
    left, right = RIDGE * kernel(anchors, anchors, spread), np.zeros((len(anchors), targets.shape[1]))
    for at in range(0, len(units), BLOCK):
        block = kernel(units[at : at + BLOCK], anchors, spread)
        left += block.T @ block
        right += block.T @ targets[at : at + BLOCK]
    left[np.diag_indices_from(left)] += JITTER * np.trace(left) / len(left)
    return np.asarray(np.linalg.solve(left, right), np.float64)


def _solve(config: TrainConfig, vectors: NDArray[np.float32], labels: NDArray[np.int32]) -> keras.Model:
    check_classes(labels)
    require_variation(vectors)
    targets = class_codes(int(labels.max()) + 1, config.bits, config.seed).astype(np.float64)[labels]
    root = bool((vectors >= 0).all())
    if len(vectors) > MOST_ANCHORS:
        drawn = np.random.default_rng(config.seed).choice(len(vectors), NYSTROEM_ANCHORS, replace=False)
        units = Units.of(vectors, root)
        anchors, spread = units[np.sort(drawn)], median_spread(units)
        return kernel_network(units.mean, anchors, spread, coefficients(units, anchors, targets, spread), root)
    every, mean = normalised(vectors, None, root)
    spread = median_spread(every)
    return kernel_network(mean, every, spread, coefficients(every, None, targets, spread), root)


SPEC = ClosedForm("SDH, class codes", _solve)
