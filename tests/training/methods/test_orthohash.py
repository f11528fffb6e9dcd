"""The cosines to class codes, against a plain loop."""

import numpy as np
import pytest

from mhcln.quiet_tensorflow import tf
from mhcln.training.methods.orthohash import orthohash_terms


def orthohash_by_hand(outputs, labels, class_codes, margin, scale):
    losses, right = [], []
    for z, label in zip(outputs.astype(np.float64), labels, strict=True):
        cosines = [z @ t / np.linalg.norm(z) / np.linalg.norm(t) for t in class_codes.astype(np.float64)]
        right.append(int(np.argmax(cosines)) == label)
        logits = [scale * (c - margin * (i == label)) for i, c in enumerate(cosines)]
        losses.append(np.log(np.sum(np.exp(logits))) - logits[label])
    return np.mean(losses), np.mean(right)


@pytest.mark.parametrize("seed", range(5))
def test_orthohash_matches_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(9, 6)).astype(np.float32)
    labels, class_codes = rng.integers(0, 4, 9).astype(np.int32), rng.choice([-1.0, 1.0], (4, 6)).astype(np.float32)
    terms = orthohash_terms(outputs, tf.constant(labels), tf.constant(class_codes), margin=0.3, scale=5.0)
    total, accuracy = orthohash_by_hand(outputs, labels, class_codes, 0.3, 5.0)
    assert float(terms["total"]) == pytest.approx(total, abs=1e-5)
    assert float(terms["accuracy"]) == pytest.approx(accuracy)
