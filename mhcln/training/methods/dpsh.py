"""DPSH: deep pairwise-supervised hashing (Li et al., IJCAI 2016): likelihood of the pairs of a batch.

Authors' code: github.com/jiangqy/DPSH-pytorch. It pairs each image of a batch with the outputs that it keeps of all
training images; here pairs are of one batch. The weight is that of github.com/swuxyj/DeepHash-pytorch, `DPSH.py`, which
takes the mean over bits too, as here; the authors' is 50 over the number of training images, for the sum.
"""

from __future__ import annotations

from mhcln.quiet_tensorflow import tf
from mhcln.training.methods.pairs import distance_to_signs, half_products, mean_of, similarity
from mhcln.training.methods.shared import shared_spec

WEIGHT = 0.1  # of the quantisation term
TERMS = ("total", "likelihood", "quantisation")


def dpsh_terms(outputs: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
    """Negative log-likelihood of which pairs are of one class, and the squared distance to the signs.

    With T = u1 . u2 / 2 for two outputs u, and s = 1 for a pair of one class, 0 for another:

    - likelihood = mean over pairs of log(1 + exp(T)) - s T
    - quantisation = mean over images and bits of (u - sign u)²
    - total = likelihood + 0.1 quantisation

    Example: (1, 1) and (1, 1) have T = 1: likelihood is log(1 + e) - 1 = 0.3133 if they are of one class, else 1.3133.

    Args:
        outputs: `[b, K] float32`, before the sign.
        labels: `[b] int`.

    Returns:
        The terms by name.
    """
    same, pairs = similarity(labels)
    products = half_products(outputs)
    likelihood = mean_of(tf.nn.softplus(products) - same * products, pairs)
    quantisation = distance_to_signs(outputs)
    return {"total": likelihood + WEIGHT * quantisation, "likelihood": likelihood, "quantisation": quantisation}


SPEC = shared_spec("DPSH", TERMS, lambda _config, _labels: dpsh_terms, needs_pairs=True)
