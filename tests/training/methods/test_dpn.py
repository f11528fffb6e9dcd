"""DPN: the polarisation loss, by hand and by a plain loop."""

import numpy as np
import pytest

from mhcln.quiet_tensorflow import tf
from mhcln.training.methods.dpn import dpn_terms


@pytest.mark.parametrize("seed", range(5))
def test_terms_match_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    outputs = (1.5 * rng.normal(size=(9, 4))).astype(np.float32)
    labels = rng.integers(0, 3, 9).astype(np.int32)
    targets = rng.choice([-1.0, 1.0], (3, 4)).astype(np.float32)
    terms = dpn_terms(tf.constant(outputs), tf.constant(labels), tf.constant(targets))
    pairs = [
        (v, t)
        for row, label in zip(outputs.astype(float), labels, strict=True)
        for v, t in zip(row, targets[label], strict=True)
    ]
    assert float(terms["total"]) == pytest.approx(np.mean([max(1 - v * t, 0) for v, t in pairs]), rel=1e-5)
    assert float(terms["accuracy"]) == pytest.approx(np.mean([v * t > 0 for v, t in pairs]))


def test_the_worked_example_of_the_docstring_holds():
    terms = dpn_terms(tf.constant([[2.0, -0.5]]), tf.constant([0]), tf.constant([[1.0, 1]]))
    assert (float(terms["total"]), float(terms["accuracy"])) == (0.75, 0.5)
