"""The table over many runs: what is averaged with what, what stands beside it, and how it is written."""

import csv
import dataclasses
from typing import Any

import factories
import pytest

from mhcln.data.datasets import Published
from mhcln.reporting import tables
from mhcln.reporting.tables import CLEAN, CONTAMINATED, PUBLISHED, UNKNOWN, Row
from mhcln.storage.text_files import write_csv

METRICS = ["mAP@20"]
TITLES = {"mhcln": "MHCLN", "orthohash": "OrthoHash"}


def made(value: float, **changes) -> dict[str, Any]:
    values = {"mAP@20": value, "dataset": "UCMD", "bits": 32, "loss": "mhcln", **changes}
    return factories.results(**values).to_json()


def own_rows(*results: dict[str, Any]) -> list[Row]:
    return tables.own_rows(results, METRICS, TITLES)


def test_seeds_share_a_row_and_bits_a_column():
    (row,) = own_rows(made(0.9), made(0.92, seed=1, split_seed=1), made(0.8, bits=16))
    assert (row.dataset, row.method, row.split) == ("UCMD", "MHCLN", CLEAN)
    assert row.values == {(32, "mAP@20"): [0.9, 0.92], (16, "mAP@20"): [0.8]}


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "AID"},
        {"loss": "orthohash"},
        {"contaminated": 3},
        {"contaminated": None},
        {"extractor": "other"},
        {"iterations": 500},
        {"iterations_done": 500},
        {"alpha": 0.3},
        {"split_ratio": 0.8},
        {"archive": "all"},
        {"precision": "float16"},
    ],
)
def test_other_set_ups_are_kept_apart(change):
    rows = own_rows(made(0.9), made(0.8, **change))
    assert sorted(row.values[32, "mAP@20"] for row in rows) == [[0.8], [0.9]]


def test_contamination_is_named_whatever_its_size():
    rows = own_rows(made(0.9, contaminated=3), made(0.7, contaminated=9), made(0.5, contaminated=None))
    assert {row.split: row.values[32, "mAP@20"] for row in rows} == {CONTAMINATED: [0.9, 0.7], UNKNOWN: [0.5]}
    assert "also trained on" in next(row.note for row in rows if row.split == CONTAMINATED)


def test_a_method_without_a_title_has_the_name_of_its_loss():
    rows = own_rows(made(0.9), made(0.8, loss="other"), made(0.7, loss=None))
    assert [row.method for row in rows] == ["MHCLN", "other", "unknown method"]
    assert "iterations" not in rows[2].note


def test_clean_comes_before_contaminated():
    rows = own_rows(made(0.9, contaminated=3), made(0.7))
    assert [row.split for row in rows] == [CLEAN, CONTAMINATED]


def published(value: float = 0.904, **changes) -> Published:
    entry = Published(method="Paper", metric="mAP@20", bits=32, value=value, source="a journal", protocol="60/40")
    return dataclasses.replace(entry, **changes)


def test_published_results_stand_beside_with_their_source():
    rows = tables.published_rows("UCMD", [published(), published(0.8, bits=16), published(metric="mAP@5")], METRICS)
    assert [(row.method, row.split, row.note) for row in rows] == [("Paper", PUBLISHED, "source: a journal; 60/40")]
    assert rows[0].values == {(32, "mAP@20"): [0.904], (16, "mAP@20"): [0.8]}


def both() -> list[Row]:
    own = own_rows(made(0.90), made(0.92, seed=1), made(0.85, bits=16))
    return own + tables.published_rows("UCMD", [published(method="A|B")], METRICS)


def test_markdown_has_a_column_for_each_number_of_bits_and_a_note_for_each_row():
    lines = tables.markdown(both(), {"mAP@20": "what it is"}).splitlines()
    assert lines[0] == "**mAP@20**: what it is"
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:6]]
    assert cells[0] == ["Data set", "Method", "Split", "16 bits", "32 bits"]
    assert cells[2] == ["UCMD", "MHCLN [1]", "clean", "0.8500 (1)", "0.9100 ± 0.0141 (2)"]
    assert cells[3] == ["UCMD", r"A\|B [2]", "as published", "", "0.9040"]
    assert len({len(line) for line in lines[2:6]}) == 1
    assert lines[-1].startswith("[2] source: a journal")
    assert "60% train (stratified), 10,000 iterations, batch 90, ALPHA 0.2, float32" in lines[-2]


def test_csv_has_a_line_for_each_row_and_number_of_bits(tmp_path):
    write_csv(tmp_path / "table.csv", tables.CSV_COLUMNS, tables.csv_rows(both()))
    head, *lines = csv.reader((tmp_path / "table.csv").read_text().splitlines())
    assert tuple(head) == tables.CSV_COLUMNS
    assert [line[:8] for line in lines] == [
        ["UCMD", "MHCLN", "clean", "16", "mAP@20", "0.850000", "", "1"],
        ["UCMD", "MHCLN", "clean", "32", "mAP@20", "0.910000", "0.014142", "2"],
        ["UCMD", "A|B", "as published", "32", "mAP@20", "0.904000", "", "1"],
    ]
    assert lines[2][8] == "source: a journal; 60/40"
