"""DTSH: deep supervised hashing with triplet labels (Wang, Shi and Kitani, ACCV 2016).

Authors' code: github.com/Minione/DTSH, `DTSH.m`, which has this margin. Its weight of 100 is for another network; 1 and
the mean over bits are those of github.com/swuxyj/DeepHash-pytorch, `DTSH.py`. Triplets are all those of a batch.
"""

from __future__ import annotations

from mhcln.quiet_tensorflow import tf
from mhcln.training.methods.pairs import distance_to_signs, half_products, mean_of, similarity
from mhcln.training.methods.shared import shared_spec

MARGIN = 0.5  # times the bits
WEIGHT = 1.0  # of the quantisation term
TERMS = ("total", "likelihood", "quantisation")


def dtsh_terms(outputs: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
    """Negative log-likelihood that positives are nearer than negatives by a margin, and the distance to the signs.

    With T = u1 . u2 / 2 for two outputs of K numbers, and x = T(anchor, positive) - T(anchor, negative) - K / 2:

    - likelihood = mean over the triplets of a batch of log(1 + exp(-x)), 0 if there are none
    - quantisation = mean over images and bits of (u - sign u)²
    - total = likelihood + quantisation

    Example: for K = 2, anchor and positive (1, 1) and negative (-1, -1) have x = 1 + 1 - 1 = 1: log(1 + 1/e) = 0.3133.

    Args:
        outputs: `[b, K] float32`, before the sign.
        labels: `[b] int`.

    Returns:
        The terms by name.
    """
    same, pairs = similarity(labels)
    products = half_products(outputs)
    margins = products[:, :, None] - products[:, None] - MARGIN * float(outputs.shape[1])
    likelihood = mean_of(tf.nn.softplus(-margins), same[:, :, None] * (pairs - same)[:, None])
    quantisation = distance_to_signs(outputs)
    return {"total": likelihood + WEIGHT * quantisation, "likelihood": likelihood, "quantisation": quantisation}


SPEC = shared_spec("DTSH", TERMS, lambda _config, _labels: dtsh_terms, needs_pairs=True)
