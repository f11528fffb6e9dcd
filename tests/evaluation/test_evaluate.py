"""Codes and labels to metrics: what is searched, in which order, what is left out, what is refused."""

import dataclasses
import tracemalloc

import factories
import numpy as np
import pytest
from factories import coded
from ranking_oracles import published

from mhcln.console import UserError
from mhcln.evaluation import ranking
from mhcln.evaluation.definitions import definitions, metric_names, shared_names
from mhcln.evaluation.evaluate import ARCHIVES, choose_protocol, evaluate, evaluate_vectors
from mhcln.hamming.codes import pack, unpack
from mhcln.storage.coded_images import CodedImages
from mhcln.storage.results import ConfusedPair


def codes_of(bits, labels, split=None, classes=None) -> CodedImages:
    bits, labels = np.asarray(bits), np.asarray(labels, np.int32)
    names = [f"class{c}" for c in range(classes or labels.max() + 1)]
    paths = [f"{names[label]}/{row}.tif" for row, label in enumerate(labels)]
    return coded(pack(bits), bits.shape[1], labels, paths, split or ["test"] * len(labels), names)


def random_codes(random, n=40, bits=5, classes=4) -> CodedImages:
    split = random.choice(["test", "train"], n).tolist()
    split[:2] = ["test", "test"]
    return codes_of(random.integers(0, 2, (n, bits)), random.integers(0, classes, n), split, classes)


def bit_distances(codes: CodedImages) -> np.ndarray:
    bits = unpack(codes.codes, codes.bits)
    return (bits[:, None] != bits).sum(axis=2)


def published_map(codes: CodedImages, k: int, archive: str, distances: np.ndarray) -> float:
    """The published evaluator: Python's stable sort on the distance `[n, n]`, storage order below it."""
    searched = [row for row, part in enumerate(codes.split) if archive in (part, "all")]
    scores = []
    for query in (row for row, part in enumerate(codes.split) if part == "test"):
        others = [row for row in searched if row != query]
        if any(codes.labels[row] == codes.labels[query] for row in others):
            others.sort(key=lambda row: distances[query, row])
            scores.append(float(published([codes.labels[row] == codes.labels[query] for row in others[:k]])))
    return float(np.mean(scores))


@pytest.mark.parametrize("archive", ARCHIVES)
def test_equals_the_published_evaluator(archive):
    random = np.random.default_rng(6)
    for _ in range(30):
        codes = random_codes(random)
        assert evaluate(codes, archive, 4).metrics["mAP@4"] == pytest.approx(
            published_map(codes, 4, archive, bit_distances(codes))
        )


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


def test_curves_are_means_over_the_queries_that_have_something_to_find():
    # Of the first class, query 0 finds its like at 1, the other class at 2; query 1 finds both at 1. Query 2 is alone.
    found = evaluate(codes_of([[0, 0], [0, 1], [1, 1]], [0, 0, 1]), "test", 2)
    assert found.precision_by_radius == [0, 3 / 4, 1 / 2]
    assert found.recall_by_radius == [0, 1, 1]
    assert found.empty_by_radius == [1, 0, 0]
    assert [found.metrics[name] for name in ("P_radius2", "R_radius2", "empty_radius2")] == [1 / 2, 1, 0]


def test_curves_of_all_queries_are_never_in_memory_together(monkeypatch):
    monkeypatch.setattr(ranking, "BLOCK_CELLS", 1000)
    random = np.random.default_rng(8)
    split = ["train"] * 10 + ["test"] * 4000
    codes = codes_of(random.integers(0, 2, (4010, 400)), random.integers(0, 2, 4010), split)
    tracemalloc.start()
    evaluate(codes, "train", 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000 * 401 * 8  # one curve


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


def test_vectors_by_cosine_equal_the_published_evaluator():
    random = np.random.default_rng(10)
    for _ in range(20):
        codes, vectors = random_codes(random, n=30), random.normal(size=(30, 6)).astype(np.float32)
        lengths = np.linalg.norm(vectors, axis=1)
        cosine = vectors @ vectors.T / lengths / lengths[:, None]
        score = evaluate_vectors(vectors, choose_protocol(codes, "all", 5))["mAP@5"]
        assert score == pytest.approx(published_map(codes, 5, "all", -cosine))


def test_codes_as_vectors_rank_as_codes():
    # Bits as +1 and -1 have cosine 1 - 2 d / K: the same order, so the same metrics.
    codes = random_codes(np.random.default_rng(11), bits=8)
    found = evaluate(codes, "test", 6)
    assert evaluate_vectors(factories.features_of_codes(codes).vectors, found.protocol) == pytest.approx(
        {name: found.metrics[name] for name in shared_names(6)}
    )
