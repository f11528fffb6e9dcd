"""Codes and labels to metrics: what is searched, in which order, what is left out, what is refused."""

import dataclasses

import factories
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mhcln.console import UserError
from mhcln.evaluation import ranking
from mhcln.evaluation.definitions import definitions, metric_names, shared_names
from mhcln.evaluation.evaluate import ARCHIVES, choose_protocol, evaluate, evaluate_vectors
from mhcln.hamming.codes import pack, unpack
from mhcln.storage.formats import Codes
from mhcln.storage.results import ConfusedPair


def codes_of(bits, labels, split=None, classes=None) -> Codes:
    bits, labels = np.asarray(bits), np.asarray(labels, np.int32)
    names = [f"class{c}" for c in range(classes or labels.max() + 1)]
    paths = [f"{names[label]}/{row}.tif" for row, label in enumerate(labels)]
    return Codes(pack(bits), bits.shape[1], labels, paths, split or ["test"] * len(labels), names)


def random_codes(random, n=40, bits=5, classes=4) -> Codes:
    split = random.choice(["test", "train"], n).tolist()
    split[:2] = ["test", "test"]
    return codes_of(random.integers(0, 2, (n, bits)), random.integers(0, classes, n), split, classes)


def published_map(codes: Codes, k: int, archive: str) -> float:
    """The published evaluator, pair by pair: Python's stable sort on the distance, storage order below it."""
    bits = unpack(codes.codes, codes.bits)
    searched = [row for row, part in enumerate(codes.split) if archive in (part, "all")]
    scores = []
    for query in (row for row, part in enumerate(codes.split) if part == "test"):
        others = [row for row in searched if row != query]
        if not any(codes.labels[row] == codes.labels[query] for row in others):
            continue
        others.sort(key=lambda row: (bits[row] != bits[query]).sum())
        hits, total = 0, 0.0
        for rank, row in enumerate(others[:k], start=1):
            if codes.labels[row] == codes.labels[query]:
                hits += 1
                total += hits / rank
        scores.append(total / hits if hits else 0)
    return float(np.mean(scores))


@pytest.mark.parametrize("archive", ARCHIVES)
def test_equals_the_published_evaluator(archive):
    random = np.random.default_rng(6)
    for _ in range(30):
        codes = random_codes(random)
        assert evaluate(codes, archive, 4).metrics["mAP@4"] == pytest.approx(published_map(codes, 4, archive))


def test_a_search_worked_by_hand_is_found():
    # Distances from the first query: 1 (its class), 1 (the other class, later in storage), 2 (its class).
    found = evaluate(codes_of([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 0, 1, 0]), "test", 3)
    assert found.neighbours[0].tolist() == [1, 2, 3]
    assert found.distances[0].tolist() == [1, 1, 2]
    assert found.average_precision[0] == pytest.approx(5 / 6)
    assert found.protocol.has_relevant.tolist() == [True, True, False, True]


def test_a_duplicate_is_found_and_the_query_never():
    found = evaluate(codes_of([[0, 1]] * 3, [0, 0, 0]), "test", 2)
    assert found.neighbours.tolist() == [[1, 2], [0, 2], [0, 1]]
    assert found.distances.max() == 0


def test_each_archive_holds_what_it_says():
    codes = codes_of([[0], [0], [0], [0]], [0, 0, 0, 0], ["train", "test", "train", "test"])
    neighbours = {
        archive: evaluate(codes, archive, 1 if archive == "test" else 2).neighbours.tolist() for archive in ARCHIVES
    }
    assert neighbours == {"test": [[3], [1]], "train": [[0, 2], [0, 2]], "all": [[0, 2], [0, 1]]}
    reach = {archive: choose_protocol(codes, archive, 1).reach for archive in ARCHIVES}
    assert reach == {"test": 1, "train": 2, "all": 3}


def test_the_defaults_are_the_published_protocol():
    codes = random_codes(np.random.default_rng(12), n=60)
    assert evaluate(codes).metrics == evaluate(codes, "test", 20).metrics


def test_a_class_with_one_image_is_left_out_of_the_means():
    codes = codes_of([[0, 0], [0, 0], [0, 0], [1, 1]], [0, 0, 0, 1], classes=3)
    found = evaluate(codes, "test", 2)
    assert found.protocol.has_relevant.tolist() == [True, True, True, False]
    assert found.metrics["mAP@2"] == 1
    assert found.per_class == {"class0": 1}


def test_nothing_to_find_at_all_is_refused():
    with pytest.raises(UserError, match="no query has an image of its class"):
        evaluate(codes_of([[0], [1]], [0, 1]), "test", 1)


@pytest.mark.parametrize(("archive", "most"), [("test", 2), ("train", 1), ("all", 3)])
def test_k_beyond_the_archive_is_refused(archive, most):
    codes = codes_of([[0]] * 4, [0] * 4, ["test", "test", "train", "test"])
    choose_protocol(codes, archive, most)
    with pytest.raises(UserError, match=f"--k={most + 1} is more than the {most} images"):
        choose_protocol(codes, archive, most + 1)


def test_codes_without_a_test_image_are_refused():
    with pytest.raises(UserError, match="no test image"):
        choose_protocol(codes_of([[0]], [0], ["train"]), "train", 1)


def test_the_size_of_blocks_changes_nothing(monkeypatch):
    codes = random_codes(np.random.default_rng(7), n=60)
    whole = evaluate(codes, "all", 7)
    monkeypatch.setattr(ranking, "BLOCK_CELLS", 130)
    parts = evaluate(codes, "all", 7)
    for field in dataclasses.fields(whole):
        if field.name != "protocol":
            assert np.array_equal(getattr(parts, field.name), getattr(whole, field.name)), field.name


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(4)))
def test_renaming_classes_changes_nothing(seed, permutation):
    codes = random_codes(np.random.default_rng(seed))
    renamed = evaluate(dataclasses.replace(codes, labels=np.array(permutation, np.int32)[codes.labels]), "all", 5)
    found = evaluate(codes, "all", 5)
    assert {int(c[5:]): v for c, v in renamed.per_class.items()} == pytest.approx(
        {permutation[int(c[5:])]: v for c, v in found.per_class.items()}
    )
    assert [pair.share for pair in renamed.confused_pairs] == pytest.approx([p.share for p in found.confused_pairs])
    for curve in ("precision_by_radius", "recall_by_radius", "empty_by_radius"):
        assert getattr(renamed, curve) == pytest.approx(getattr(found, curve)), curve
    assert renamed.metrics == pytest.approx(found.metrics)


def test_radius_and_tie_metrics_agree_with_their_curves():
    found = evaluate(random_codes(np.random.default_rng(8), n=50, bits=9), "test", 3)
    assert found.metrics["P_radius2"] == found.precision_by_radius[2]
    assert found.metrics["R_radius2"] == found.recall_by_radius[2]
    assert found.metrics["empty_radius2"] == found.empty_by_radius[2]
    assert len(found.recall_by_radius) == 10
    assert found.recall_by_radius[-1] == pytest.approx(1)
    assert found.metrics["mAP@3_worst"] <= found.metrics["mAP@3"] <= found.metrics["mAP@3_best"]


def test_one_bit_has_a_radius_2_that_holds_everything():
    found = evaluate(codes_of([[0], [1], [0], [1]], [0, 0, 1, 1]), "test", 2)
    assert found.metrics["R_radius2"] == 1
    assert found.metrics["bit_correlation_mean"] is None


def test_confused_pairs_come_largest_first_and_name_both_classes():
    codes = codes_of([[0, 0], [0, 0], [1, 1], [1, 1], [1, 1]], [0, 0, 0, 1, 1])
    assert evaluate(codes, "test", 2).confused_pairs == [
        ConfusedPair("class1", "class0", 0.5),
        ConfusedPair("class0", "class1", pytest.approx(1 / 3)),
    ]


def test_every_metric_is_computed_and_defined():
    codes = random_codes(np.random.default_rng(9))
    found = evaluate(codes, "test", 3)
    assert found.metrics.keys() == set(metric_names(3))
    assert found.metrics.keys() <= definitions(3).keys()
    vectors = unpack(codes.codes, codes.bits).astype(np.float32)
    assert list(evaluate_vectors(vectors, found.protocol)) == shared_names(3)


def test_vectors_by_cosine_equal_a_loop():
    random = np.random.default_rng(10)
    for _ in range(20):
        codes = random_codes(random, n=30)
        vectors = random.normal(size=(30, 6)).astype(np.float32)
        protocol = choose_protocol(codes, "all", 5)
        scores = []
        for query in protocol.queries:
            others = [row for row in range(30) if row != query]
            lengths = np.linalg.norm(vectors, axis=1)
            others.sort(key=lambda row: -(vectors[row] @ vectors[query]) / lengths[row] / lengths[query])
            right = [codes.labels[row] == codes.labels[query] for row in others]
            hits = np.cumsum(right)
            if hits[-1]:
                gains = [hits[i] / (i + 1) for i in range(5) if right[i]]
                scores.append(np.mean(gains) if gains else 0)
        assert evaluate_vectors(vectors, protocol)["mAP@5"] == pytest.approx(np.mean(scores))


def test_codes_as_vectors_rank_as_codes():
    # Bits as +1 and -1 have cosine 1 - 2 d / K: the same order, so the same metrics.
    codes = random_codes(np.random.default_rng(11), bits=8)
    found = evaluate(codes, "test", 6)
    assert evaluate_vectors(factories.features_of_codes(codes).vectors, found.protocol) == pytest.approx(
        {name: found.metrics[name] for name in shared_names(6)}
    )
