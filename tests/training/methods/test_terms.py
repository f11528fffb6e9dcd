"""The terms of the losses of pairs, of triplets and of class codes, against plain loops over a batch of outputs."""

import functools
import itertools
import math

import numpy as np
import pytest

from mhcln.quiet_tensorflow import tf
from mhcln.training.methods.csq import csq_terms
from mhcln.training.methods.dpn import dpn_terms
from mhcln.training.methods.dpsh import dpsh_terms
from mhcln.training.methods.dsh import dsh_terms
from mhcln.training.methods.dtsh import dtsh_terms
from mhcln.training.methods.greedyhash import greedyhash_terms
from mhcln.training.methods.hashnet import hashnet_terms, scale_at
from mhcln.training.methods.orthohash import orthohash_terms

RANDOM = np.random.default_rng(0)
OUTPUTS = (1.5 * RANDOM.normal(size=(9, 4))).astype(np.float32)
LABELS = RANDOM.integers(0, 3, 9).astype(np.int32)
CODES = RANDOM.choice([-1.0, 1.0], (3, 4)).astype(np.float32)  # of the three classes
MARGIN, SCALE = 0.3, 5.0  # of orthohash
Terms = dict[str, float]


def loss_of_chance(logit: float) -> float:
    """-log of the sigmoid."""
    return math.log(1 + math.exp(-logit))


def cross_entropy(logits: list[float], label: int) -> float:
    return math.log(sum(math.exp(logit) for logit in logits)) - logits[label]


def distance_to_signs(outputs: np.ndarray) -> float:
    return np.mean([(x - math.copysign(1, x)) ** 2 for x in outputs.ravel()])


def bits_and_targets(outputs: np.ndarray, labels: np.ndarray, codes: np.ndarray) -> list[tuple[float, float]]:
    targets = codes[labels].ravel().tolist()
    return list(zip(outputs.ravel().tolist(), targets, strict=True))


def csq(outputs: np.ndarray, labels: np.ndarray, codes: np.ndarray) -> Terms:
    pairs = [(math.tanh(x), target) for x, target in bits_and_targets(outputs, labels, codes)]
    central = np.mean([-math.log((1 + h) / 2 if target > 0 else (1 - h) / 2) for h, target in pairs])
    quantisation = np.mean([(abs(h) - 1) ** 2 for h, _ in pairs])
    return {"central": central, "quantisation": quantisation, "total": central + 1e-4 * quantisation}


def dpn(outputs: np.ndarray, labels: np.ndarray, codes: np.ndarray) -> Terms:
    products = [x * target for x, target in bits_and_targets(outputs, labels, codes)]
    total = np.mean([max(1 - product, 0) for product in products])
    return {"total": total, "accuracy": np.mean([product > 0 for product in products])}


def dpsh(outputs: np.ndarray, labels: np.ndarray) -> Terms:
    losses = []
    for i, j in itertools.permutations(range(len(outputs)), 2):
        logit = outputs[i] @ outputs[j] / 2
        losses.append(loss_of_chance(logit if labels[i] == labels[j] else -logit))
    likelihood, quantisation = np.mean(losses), distance_to_signs(outputs)
    return {"likelihood": likelihood, "quantisation": quantisation, "total": likelihood + 0.1 * quantisation}


def dsh(outputs: np.ndarray, labels: np.ndarray) -> Terms:
    pairs, regularisers = [], []
    for i, j in itertools.permutations(range(len(outputs)), 2):
        square = ((outputs[i] - outputs[j]) ** 2).sum()
        pairs.append(square / 2 if labels[i] == labels[j] else max(2 * outputs.shape[1] - square, 0) / 2)
        regularisers.append(sum(abs(abs(x) - 1) for x in (*outputs[i], *outputs[j])))
    loss, regulariser = np.mean(pairs), np.mean(regularisers)
    return {"pairs": loss, "regulariser": regulariser, "total": loss + 0.01 * regulariser}


def dtsh(outputs: np.ndarray, labels: np.ndarray) -> Terms:
    half, losses = outputs @ outputs.T / 2, []
    for a, p, n in itertools.product(range(len(outputs)), repeat=3):
        if a != p and labels[a] == labels[p] != labels[n]:
            losses.append(loss_of_chance(half[a, p] - half[a, n] - outputs.shape[1] / 2))
    return {"likelihood": np.mean(losses), "total": np.mean(losses) + distance_to_signs(outputs)}


def greedyhash(outputs: np.ndarray, labels: np.ndarray, classifier: np.ndarray) -> Terms:
    logits = np.sign(outputs) @ classifier
    losses = [cross_entropy(row.tolist(), label) for row, label in zip(logits, labels, strict=True)]
    penalty = np.mean([abs(abs(x) - 1) ** 3 for x in outputs.ravel()])
    return {"penalty": penalty, "total": np.mean(losses) + 0.1 * penalty}


def hashnet(codes: np.ndarray, labels: np.ndarray) -> Terms:
    losses = {True: [], False: []}
    for i, j in itertools.permutations(range(len(codes)), 2):
        same, logit = bool(labels[i] == labels[j]), 10 / codes.shape[1] * (codes[i] @ codes[j])
        losses[same].append(loss_of_chance(logit if same else -logit))
    return {"total": sum(np.mean(kind) for kind in losses.values())}  # each kind of pairs counts as much as the other


def orthohash(outputs: np.ndarray, labels: np.ndarray, codes: np.ndarray) -> Terms:
    losses, right = [], []
    for row, label in zip(outputs, labels, strict=True):
        cosines = [row @ code / np.linalg.norm(row) / np.linalg.norm(code) for code in codes]
        right.append(int(np.argmax(cosines)) == label)
        losses.append(cross_entropy([SCALE * (c - MARGIN * (k == label)) for k, c in enumerate(cosines)], label))
    return {"total": np.mean(losses), "accuracy": np.mean(right)}


@pytest.mark.parametrize(
    ("terms", "by_hand", "given"),
    [
        (csq_terms, csq, (OUTPUTS, LABELS, CODES)),
        (dpn_terms, dpn, (OUTPUTS, LABELS, CODES)),
        (dpsh_terms, dpsh, (OUTPUTS, LABELS)),
        (dsh_terms, dsh, (OUTPUTS, LABELS)),
        (dtsh_terms, dtsh, (OUTPUTS, LABELS)),
        (greedyhash_terms, greedyhash, (OUTPUTS, LABELS, OUTPUTS[:3].T)),
        (hashnet_terms, hashnet, (np.tanh(OUTPUTS), LABELS)),
        (functools.partial(orthohash_terms, margin=MARGIN, scale=SCALE), orthohash, (OUTPUTS, LABELS, CODES)),
    ],
    ids=["csq", "dpn", "dpsh", "dsh", "dtsh", "greedyhash", "hashnet", "orthohash"],
)
def test_terms_match_a_plain_loop(terms, by_hand, given):
    found = terms(*map(tf.constant, given))
    outputs, *others = given
    for name, value in by_hand(outputs.astype(np.float64), *others).items():
        assert float(found[name]) == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_without_triplets_dtsh_pulls_nothing(labels):
    terms = dtsh_terms(tf.constant([[1.0, 1], [1, 1], [-1, -1]]), tf.constant(labels))
    assert float(terms["total"]) == 0


def test_the_gradient_of_greedyhash_passes_the_sign_as_if_it_were_not_there():
    outputs, classifier = tf.Variable([[1.0, -1]]), tf.constant([[1.0, 0], [0, 1]])  # no penalty, nor its gradient
    with tf.GradientTape() as tape:
        total = greedyhash_terms(outputs, tf.constant([0]), classifier)["total"]
    wrong = 1 / (1 + math.exp(2))  # logits 1 and -1
    np.testing.assert_allclose(tape.gradient(total, outputs), [[-wrong, wrong]], rtol=1e-5)


def test_hashnet_takes_pairs_of_one_kind():
    different = hashnet_terms(tf.constant([[1.0, 1], [1, -1]]), tf.constant([0, 1]))
    assert float(different["total"]) == pytest.approx(math.log(2))
    equal = hashnet_terms(tf.constant(np.sign(OUTPUTS[[0, 0]])), tf.constant([1, 1]))
    assert float(equal["accuracy"]) == 1


def test_the_scale_of_hashnet_grows_every_200_iterations():
    scales = [float(scale_at(tf.constant(t, tf.int64))) for t in (0, 198, 199, 398, 399, 1999)]
    np.testing.assert_allclose(scales, [1, 1, math.sqrt(2), math.sqrt(2), math.sqrt(3), math.sqrt(11)], rtol=1e-6)
