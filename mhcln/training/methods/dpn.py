"""DPN: deep polarised network (Fan et al., IJCAI 2020): outputs pushed beyond a margin, towards class targets.

The authors' repository was empty; the constants are those of github.com/swuxyj/DeepHash-pytorch, `DPN.py`. Targets are
drawn once and kept ("random assignment"); the paper's adaptive ones are not here.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from mhcln.quiet_tensorflow import tf
from mhcln.storage.run_record import TrainConfig
from mhcln.training.class_codes import balanced_codes
from mhcln.training.methods.method import Loss
from mhcln.training.methods.shared import shared_spec

MARGIN = 1.0
TERMS = ("total", "accuracy")


def dpn_terms(outputs: tf.Tensor, labels: tf.Tensor, targets: NDArray[np.float32]) -> dict[str, tf.Tensor]:
    """Polarisation loss: how far outputs are from being beyond the margin on their target's side.

    With v an output and t the target, -1 or 1, of its class and bit:

    - total = mean over images and bits of max(1 - v t, 0)
    - accuracy = share of bits whose sign is the target's

    Example: the outputs 2 and -0.5 for the targets 1 and 1 give (0 + 1.5) / 2 = 0.75, and accuracy 0.5.

    Args:
        outputs: `[b, K] float32`, before the sign.
        labels: `[b] int`.
        targets: `[c, K] float32`, of each class.

    Returns:
        The terms by name.
    """
    toward = outputs * tf.gather(targets, labels)
    return {
        "total": tf.reduce_mean(tf.nn.relu(MARGIN - toward)),
        "accuracy": tf.reduce_mean(tf.cast(toward > 0.0, tf.float32)),
    }


def _loss(config: TrainConfig, labels: NDArray[np.int32]) -> Loss:
    targets = balanced_codes(int(labels.max()) + 1, config.bits, config.seed)
    return functools.partial(dpn_terms, targets=targets.astype(np.float32))


SPEC = shared_spec("DPN", TERMS, _loss, needs_pairs=False)
