"""Codes and labels to results: who is searched, in which order, what is left out, what is told."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mhcln import evaluation, hamming, ranking
from mhcln.artifacts import Codes
from mhcln.definitions import definitions
from mhcln.errors import UserError


def made(bits, labels, split=None, classes=None) -> Codes:
    bits, labels = np.asarray(bits), np.asarray(labels, np.int32)
    names = [f"class{c}" for c in range(classes or labels.max() + 1)]
    paths = [f"{names[label]}/{row}.tif" for row, label in enumerate(labels)]
    return Codes(hamming.pack(bits), bits.shape[1], labels, paths, split or ["test"] * len(labels), names)


def random_codes(random, n=40, bits=5, classes=4) -> Codes:
    split = random.choice(["test", "train"], n).tolist()
    split[:2] = ["test", "test"]
    return made(random.integers(0, 2, (n, bits)), random.integers(0, classes, n), split, classes)


def published_map(codes: Codes, k: int, archive: str) -> float:
    """The published evaluator, pair by pair: Python's stable sort on the distance, storage order below it."""
    bits = hamming.unpack(codes.codes, codes.bits)
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


@pytest.mark.parametrize("archive", evaluation.ARCHIVES)
def test_equals_the_published_evaluator(archive):
    random = np.random.default_rng(6)
    for _ in range(30):
        codes = random_codes(random)
        chosen = evaluation.trial(codes, archive, 4)
        assert evaluation.evaluate(codes, chosen).values["mAP@4"] == pytest.approx(published_map(codes, 4, archive))


def test_hand_worked_search():
    # Distances from the first query: 1 (its class), 1 (the other class, later in storage), 2 (its class).
    codes = made([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 0, 1, 0])
    found = evaluation.evaluate(codes, evaluation.trial(codes, "test", 3))
    assert found.neighbours[0].tolist() == [1, 2, 3]
    assert found.distances[0].tolist() == [1, 1, 2]
    assert found.average_precision[0] == pytest.approx(5 / 6)
    assert found.possible.tolist() == [True, True, False, True]


def test_a_duplicate_is_found_and_the_query_never():
    codes = made([[0, 1]] * 3, [0, 0, 0])
    found = evaluation.evaluate(codes, evaluation.trial(codes, "test", 2))
    assert found.neighbours.tolist() == [[1, 2], [0, 2], [0, 1]]
    assert found.distances.max() == 0


def test_each_archive_holds_what_it_says():
    codes = made([[0], [0], [0], [0]], [0, 0, 0, 0], ["train", "test", "train", "test"])
    neighbours = {
        archive: evaluation.evaluate(codes, evaluation.trial(codes, archive, 1 if archive == "test" else 2)).neighbours
        for archive in evaluation.ARCHIVES
    }
    assert neighbours["test"].tolist() == [[3], [1]]
    assert neighbours["train"].tolist() == [[0, 2], [0, 2]]
    assert neighbours["all"].tolist() == [[0, 2], [0, 1]]
    reach = {archive: evaluation.trial(codes, archive, 1).reach for archive in evaluation.ARCHIVES}
    assert reach == {"test": 1, "train": 2, "all": 3}


def test_a_class_with_one_image_is_left_out_of_the_means():
    codes = made([[0, 0], [0, 0], [0, 0], [1, 1]], [0, 0, 0, 1], classes=3)
    found = evaluation.evaluate(codes, evaluation.trial(codes, "test", 2))
    assert found.possible.tolist() == [True, True, True, False]
    assert found.values["mAP@2"] == 1
    assert found.values["per_class"] == {"class0": 1}


def test_nothing_to_find_at_all_is_told():
    codes = made([[0], [1]], [0, 1])
    with pytest.raises(UserError, match="no query has an image of its class"):
        evaluation.evaluate(codes, evaluation.trial(codes, "test", 1))


@pytest.mark.parametrize(("archive", "most"), [("test", 2), ("train", 1), ("all", 3)])
def test_k_beyond_the_archive_is_told(archive, most):
    codes = made([[0]] * 4, [0] * 4, ["test", "test", "train", "test"])
    evaluation.trial(codes, archive, most)
    with pytest.raises(UserError, match=f"--k={most + 1} is more than the {most} images"):
        evaluation.trial(codes, archive, most + 1)


def test_no_test_image_is_told():
    with pytest.raises(UserError, match="no test image"):
        evaluation.trial(made([[0]], [0], ["train"]), "train", 1)


def test_blocks_do_not_show(monkeypatch):
    codes = random_codes(np.random.default_rng(7), n=60)
    chosen = evaluation.trial(codes, "all", 7)
    whole = evaluation.evaluate(codes, chosen)
    monkeypatch.setattr(ranking, "BLOCK_CELLS", 130)
    parts = evaluation.evaluate(codes, chosen)
    assert parts.values == whole.values
    assert np.array_equal(parts.neighbours, whole.neighbours)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(4)))
def test_renaming_classes_changes_nothing(seed, permutation):
    codes = random_codes(np.random.default_rng(seed))
    renamed = dataclasses.replace(codes, labels=np.array(permutation, np.int32)[codes.labels])
    results = [evaluation.evaluate(one, evaluation.trial(one, "all", 5)).values for one in (codes, renamed)]
    for name, value in results[0].items():
        if name == "per_class":
            assert {int(c[5:]): v for c, v in results[1][name].items()} == pytest.approx(
                {permutation[int(c[5:])]: v for c, v in value.items()}
            )
        elif name == "confused_pairs":
            assert [pair["share"] for pair in results[1][name]] == pytest.approx([pair["share"] for pair in value])
        else:
            assert results[1][name] == pytest.approx(value), name


def test_radius_and_tie_figures_agree_with_their_curves():
    codes = random_codes(np.random.default_rng(8), n=50, bits=9)
    values = evaluation.evaluate(codes, evaluation.trial(codes, "test", 3)).values
    assert values["P_radius2"] == values["precision_by_radius"][2]
    assert values["R_radius2"] == values["recall_by_radius"][2]
    assert values["empty_radius2"] == values["empty_by_radius"][2]
    assert len(values["recall_by_radius"]) == 10
    assert values["recall_by_radius"][-1] == pytest.approx(1)
    assert values["mAP@3_worst"] <= values["mAP@3"] <= values["mAP@3_best"]


def test_one_bit_has_a_radius_2_that_holds_everything():
    codes = made([[0], [1], [0], [1]], [0, 0, 1, 1])
    values = evaluation.evaluate(codes, evaluation.trial(codes, "test", 2)).values
    assert values["R_radius2"] == 1
    assert values["bit_correlation_mean"] is None


def test_confused_pairs_come_largest_first_and_name_both_classes():
    codes = made([[0, 0], [0, 0], [1, 1], [1, 1], [1, 1]], [0, 0, 0, 1, 1])
    pairs = evaluation.evaluate(codes, evaluation.trial(codes, "test", 2)).values["confused_pairs"]
    assert pairs == [
        {"query": "class1", "found": "class0", "share": 0.5},
        {"query": "class0", "found": "class1", "share": pytest.approx(1 / 3)},
    ]


def test_every_figure_is_defined():
    codes = random_codes(np.random.default_rng(9))
    values = evaluation.evaluate(codes, evaluation.trial(codes, "test", 3)).values
    assert values.keys() <= definitions(3).keys()
    assert "top 3" in definitions(3)["P@3"]


def test_vectors_by_cosine_against_a_loop():
    random = np.random.default_rng(10)
    for _ in range(20):
        codes = random_codes(random, n=30)
        vectors = random.normal(size=(30, 6)).astype(np.float32)
        chosen = evaluation.trial(codes, "all", 5)
        scores = []
        for query in chosen.queries:
            others = [row for row in range(30) if row != query]
            lengths = np.linalg.norm(vectors, axis=1)
            others.sort(key=lambda row: -(vectors[row] @ vectors[query]) / lengths[row] / lengths[query])
            right = [codes.labels[row] == codes.labels[query] for row in others]
            hits = np.cumsum(right)
            if hits[-1]:
                gains = [hits[i] / (i + 1) for i in range(5) if right[i]]
                scores.append(np.mean(gains) if gains else 0)
        assert evaluation.evaluate_vectors(vectors, chosen)["mAP@5"] == pytest.approx(np.mean(scores))


def test_equal_vectors_keep_the_storage_order_and_zeros_are_far():
    vectors = np.array([[1, 0], [0, 0], [2, 0], [0, 3], [1, 0]], np.float32)
    (block,) = ranking.by_cosine(vectors[[0]], vectors, np.array([0]))
    assert block.order[0].tolist() == [2, 4, 1, 3]
    assert (block.distances[0] / ranking.STEPS).tolist() == [0, 0, 1, 1]


def test_codes_as_vectors_rank_as_codes():
    # Bits as +1 and -1 have cosine 1 - 2 d / K: the same order, so the same figures.
    codes = random_codes(np.random.default_rng(11), bits=8)
    chosen = evaluation.trial(codes, "test", 6)
    vectors = hamming.unpack(codes.codes, 8).astype(np.float32) * 2 - 1
    values = evaluation.evaluate(codes, chosen).values
    assert evaluation.evaluate_vectors(vectors, chosen) == pytest.approx(
        {name: values[name] for name in evaluation.evaluate_vectors(vectors, chosen)}
    )
