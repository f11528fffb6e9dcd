"""DSH: deep supervised hashing (Liu et al., CVPR 2016).

The authors' code is for Caffe; read was github.com/weixu000/DSH-pytorch, `main.py`, which the constants are from.
"""

from __future__ import annotations

from mhcln.quiet_tensorflow import tf
from mhcln.training.methods.pairs import mean_of, similarity, squared_distances
from mhcln.training.methods.shared import shared_spec

MARGIN = 2.0  # times the bits: two codes of -1 and 1 are then 4 per differing bit apart, so half of the bits differ
WEIGHT = 0.01  # of the regulariser
TERMS = ("total", "pairs", "regulariser")


def dsh_terms(outputs: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
    """Contrastive loss of all pairs of a batch, and how far outputs are from -1 and 1.

    With D the squared Euclidean distance of two outputs b of K numbers:

    - pairs = mean over pairs of D / 2 if they are of one class, max(2 K - D, 0) / 2 if not
    - regulariser = mean over pairs of the sum over bits of ||b1| - 1| + ||b2| - 1|
    - total = pairs + 0.01 regulariser

    Example: (1, 1) and (1, -1) have D = 4, which is 2 K: pairs is 2 if they are of one class, 0 if not. Regulariser 0.

    Args:
        outputs: `[b, K] float32`, before the sign.
        labels: `[b] int`.

    Returns:
        The terms by name.
    """
    same, pairs = similarity(labels)
    distances = squared_distances(outputs)
    apart = tf.nn.relu(MARGIN * float(outputs.shape[1]) - distances)
    contrast = mean_of((same * distances + (1.0 - same) * apart) / 2.0, pairs)
    regulariser = 2.0 * tf.reduce_mean(tf.reduce_sum(tf.abs(tf.abs(outputs) - 1.0), axis=1))
    return {"total": contrast + WEIGHT * regulariser, "pairs": contrast, "regulariser": regulariser}


SPEC = shared_spec("DSH", TERMS, lambda _config, _labels: dsh_terms, needs_pairs=True)
