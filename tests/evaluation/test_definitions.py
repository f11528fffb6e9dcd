"""The registry of metrics: names, their order, and words for every key."""

import dataclasses

import numpy as np
import pytest
from ranking_oracles import precision_sum, relevance

from mhcln.evaluation import definitions
from mhcln.evaluation.definitions import Retrieved
from mhcln.evaluation.evaluate import Evaluation


def test_every_metric_and_curve_is_defined():
    words = definitions.definitions(3)
    curves = {field.name for field in dataclasses.fields(Evaluation) if field.name.endswith("_by_radius")}
    assert {*definitions.metric_names(3), *curves, "per_class", "confused_pairs"} <= words.keys()
    assert len(set(definitions.metric_names(3))) == len(definitions.metric_names(3))


def test_words_name_the_cutoff():
    words = definitions.definitions(3)
    assert "top 3" in words["P@3"]
    assert "ranks 3 and 4" in words["tied_at_k"]
    assert not any("{" in text for item in words.items() for text in item)


def test_each_name_has_its_function_for_a_ranking():
    # The top 3 is [+ - +]; ties allow [- + +], [- + -] (the worst, 1/2) and [+ - -] (the best, 1) as well.
    relevant = relevance("+-+-+-++")
    retrieved = Retrieved(relevant, np.array([[0, 0, 1, 1, 2, 3, 4, 5]]), 3)
    found = {metric.key(3): metric.function(retrieved)[0] for metric in definitions.RANKING_METRICS}
    assert found == pytest.approx(
        {
            "mAP@3": 5 / 6,
            "mAP@3_min_denominator": 5 / 9,
            "mAP@3_tie_aware": 13 / 36,  # (1/2 + 1/4 + 1/3) / 3
            "mAP@3_worst": 1 / 2,
            "mAP@3_best": 1,
            "mAP": float(precision_sum(relevant[0].tolist())) / 5,
            "P@3": 2 / 3,
            "R@3": 2 / 5,
            "tied_at_k": True,
        }
    )


def test_each_name_has_its_function_for_codes():
    bits = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]])
    assert {metric.name: metric.function(bits) for metric in definitions.CODE_METRICS} == pytest.approx(
        {"distinct_codes": 3, "bit_balance_mean": 1 / 6, "bit_balance_worst": 0, "bit_correlation_mean": 1 / 3}
    )
