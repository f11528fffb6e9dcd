"""The list of methods, and that reading it does not load TensorFlow."""

import subprocess
import sys

import factories
import numpy as np
import pytest
from conftest import REPO_ROOT
from learners import ITERATIVE, WIDTH, make_images

from mhcln.console import UserError
from mhcln.quiet_tensorflow import tf
from mhcln.storage.run_record import TrainConfig
from mhcln.training.learner import Learner
from mhcln.training.methods import METHODS
from mhcln.training.trained import encode
from mhcln.training.validation import mean_average_precision

SHARED = ("dsh", "dpsh", "dtsh", "hashnet", "greedyhash", "csq", "dpn")  # beside orthohash
ROOM = REPO_ROOT / "mhcln/training"
MODULES = [".".join(path.relative_to(ROOM).with_suffix("").parts) for path in sorted(ROOM.rglob("[a-z]*.py"))]


def test_importing_the_room_does_not_load_tensorflow():
    imports = "; ".join(f"import mhcln.training.{module}" for module in MODULES)
    check = "import sys; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", f"{imports}; {check}"], cwd=REPO_ROOT, check=False)
    assert result.returncode == 0


@pytest.mark.parametrize("loss", ITERATIVE)
def test_terms_are_what_the_loss_returns(loss):
    vectors, labels = make_images()
    method = METHODS[loss].build(TrainConfig(bits=5, batch_size=6), labels, WIDTH)
    terms = method.loss(method.forward(tf.constant(vectors), tf.constant(0, tf.int64)), tf.constant(labels))
    assert {*terms} == {*method.terms}
    assert method.terms[0] == "total"
    assert method.network(vectors).shape == (len(labels), 5)


@pytest.mark.parametrize("loss", ["mhcln", "semihard", "orthohash", "greedyhash", "csq", "dpn"])
def test_only_methods_that_need_pairs_refuse_or_ignore_images_without_one(loss):
    # each class has one image: no anchor has a positive, but each image has a class code
    labels = np.arange(6, dtype=np.int32)
    config = TrainConfig(bits=5, batch_size=6)
    if loss == "mhcln":
        with pytest.raises(UserError, match="no triplets"):
            METHODS[loss].build(config, labels, WIDTH)
        return
    method = METHODS[loss].build(config, labels, WIDTH)
    outputs = method.forward(tf.eye(6, WIDTH), tf.constant(0, tf.int64))
    terms = method.loss(outputs, tf.constant(labels))
    pulls = float(terms["triplet" if loss == "semihard" else "total"]) > 0
    assert pulls != METHODS[loss].needs_pairs


@pytest.mark.parametrize("loss", ["orthohash", *SHARED])
def test_images_that_were_not_trained_on_are_found_by_their_class(loss):
    features = factories.separable_features(4, 30, 12)
    vectors, labels = features.vectors, features.images.labels
    config = TrainConfig(bits=8, loss=loss, batch_size=20, iterations=150)
    learner = Learner(METHODS[loss].build(config, labels[::2], 12), vectors[::2], labels[::2])
    before = mean_average_precision(encode(learner.method.network, vectors[1::2]), labels[1::2])
    learner.advance(150)
    after = mean_average_precision(encode(learner.method.network, vectors[1::2]), labels[1::2])
    assert after > max(0.97, before)


def test_rate_of_orthohash_falls_to_zero_along_half_a_cosine():
    _, labels = make_images()
    rate = METHODS["orthohash"].build(TrainConfig(bits=5, iterations=100), labels, WIDTH).adam.rate
    rates = [float(rate(tf.constant(iteration, tf.int64))) for iteration in (0, 50, 100)]
    np.testing.assert_allclose(rates, [1e-3, 0.5e-3, 0], atol=1e-9)
