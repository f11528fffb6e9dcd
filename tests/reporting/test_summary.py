"""The summary: which lines there are, and how numbers are written."""

import dataclasses

import factories
import pytest

from mhcln.evaluation.definitions import metric_names
from mhcln.reporting import summary


@pytest.mark.parametrize(
    ("value", "plain", "grouped"),
    [(0.891048, "0.8910", "0.8910"), (1312, "1312", "1,312"), (None, "-", "–"), (1.0, "1.0000", "1.0000")],
)
def test_a_fraction_has_four_decimals_and_a_count_has_none(value, plain, grouped):
    assert summary.number(value) == plain
    assert summary.number(value, missing="–", separator=",") == grouped


def test_every_metric_has_a_line_of_its_own():
    first, *lines = summary.lines(factories.results())
    assert first == "K8: mine, 2 bits, 1200 test images, each compared with 1199 test images"
    names = metric_names(20)
    assert [line.split()[0] for line in lines[: len(names)]] == names
    texts = [line.split()[1] for line in lines[: len(names)]]
    assert (texts[0], texts[names.index("distinct_codes")], texts[-1]) == ("0.9000", "1312", "-")
    assert len({line.index(text) for line, text in zip(lines, texts, strict=False)}) == 1
    assert lines[len(names)].startswith("one split, one seed: differences below 0.02 mean nothing; ")


def test_the_contamination_and_what_was_left_out_come_first():
    changes = {"stamp": "CONTAMINATED: 7 of 12", "queries_left_out": 3, "archive": "all", "dataset": None}
    lines = summary.lines(factories.results(**changes))
    assert lines[0].startswith("K8: unknown data set")
    assert lines[0].endswith("1199 training and test images")
    assert lines[1] == "CONTAMINATED: 7 of 12"
    assert lines[2] == "3 queries have no other image of their class to find: left out of every mean"


def test_costs_are_a_table_if_there_is_something_to_compare_with():
    results = factories.results()
    heading, *table = summary.lines(results)[-4:]
    assert heading == "what hashing costs:"
    cells = [line.split() for line in table]
    assert cells[0] == ["mAP@20", "mAP@20_tie_aware", "mAP", "P@20"]
    assert cells[1] == ["features", "2048", "floats", "8192", "B", "0.9000", "0.8800", "0.8500", "0.8400"]
    assert cells[2][:5] == ["codes", "2", "bits", "1", "B"]
    assert len({len(line) for line in table}) == 1
    alone = dataclasses.replace(results, costs=results.costs[1:])
    assert summary.lines(alone) == summary.lines(results)[:-4]
