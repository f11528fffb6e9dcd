"""Many runs in one table: mean and standard deviation over seeds, beside published figures with their source."""

import csv
import dataclasses
import io
import statistics
from collections.abc import Iterable
from typing import Any

METHODS = {"mhcln": "MHCLN", "orthohash": "OrthoHash", None: "unknown method"}
CLEAN, UNKNOWN, CONTAMINATED, PUBLISHED = "clean", "unknown", "CONTAMINATED", "as published"
# What two runs must agree on to be averaged; bits and seed are what the table varies.
SETUP = (
    *("dataset", "loss", "contaminated", "extractor", "split_rule", "split_ratio"),
    *("iterations", "batch_size", "alpha", "precision", "archive"),
)
CSV_COLUMNS = ("dataset", "method", "split", "bits", "metric", "mean", "std", "count", "setup")


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table: `values` maps bits and metric to one figure for each seed; `note` goes below the table."""

    dataset: str
    method: str
    split: str
    note: str
    values: dict[tuple[int, str], list[float]]


def own_rows(results: Iterable[dict[str, Any]], metrics: list[str]) -> list[Row]:
    """Rows of runs, from what their `results.json` hold: runs of one set-up share a row, whatever their seeds.

    Runs on splits that leak into the test set never share a row with clean ones.
    """
    groups: dict[tuple, Row] = {}
    for content in results:
        split = _split(content["contaminated"])
        key = tuple(split if name == "contaminated" else content[name] for name in SETUP)
        row = groups.get(key)
        if row is None:
            method = METHODS.get(content["loss"], content["loss"])
            row = groups[key] = Row(content["dataset"] or "unknown", method, split, _note(content), {})
        for metric in metrics:
            row.values.setdefault((content["bits"], metric), []).append(content[metric])
    return sorted(groups.values(), key=lambda row: (row.dataset, row.split != CLEAN, row.method, row.note))


def published_rows(dataset: str, published: Iterable[dict[str, Any]], metrics: list[str]) -> list[Row]:
    """Rows of the literature's figures, as `dataset.json` holds them: one for each method and source."""
    rows: dict[tuple[str, str], Row] = {}
    for entry in published:
        if entry["metric"] in metrics:
            key = entry["method"], entry["source"]
            row = rows.setdefault(key, Row(dataset, key[0], PUBLISHED, f"source: {key[1]}", {}))
            row.values.setdefault((entry["bits"], entry["metric"]), []).append(entry["value"])
    return list(rows.values())


def markdown(rows: list[Row], metrics: dict[str, str]) -> str:
    """The tables as Markdown, one for each of `metrics` (name to definition), with notes on the rows below."""
    notes = list(dict.fromkeys(row.note for row in rows))
    parts = []
    for metric, definition in metrics.items():
        chosen = [row for row in rows if any(name == metric for _, name in row.values)]
        bits = sorted({number for row in chosen for number, name in row.values if name == metric})
        head = ["Data set", "Method", "Split", *(f"{number} bits" for number in bits)]
        body = [
            [row.dataset, f"{row.method} [{notes.index(row.note) + 1}]", row.split]
            + [_cell(row.values.get((number, metric), []), row.split != PUBLISHED) for number in bits]
            for row in chosen
        ]
        parts.append(f"**{metric}**: {definition}\n\n{_aligned([head, *body])}")
    parts.append("Mean ± sample standard deviation over seeds (number of runs).")
    parts.append("\n".join(f"[{number}] {note}  " for number, note in enumerate(notes, start=1)))
    return "\n\n".join(parts) + "\n"


def as_csv(rows: list[Row]) -> str:
    """The same figures as CSV, one line for each row, bits and metric; `std` is empty for a single run."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for row in rows:
        for (bits, metric), values in sorted(row.values.items()):
            spread = f"{statistics.stdev(values):.6f}" if len(values) > 1 else ""
            mean = f"{statistics.fmean(values):.6f}"
            table.writerow([row.dataset, row.method, row.split, bits, metric, mean, spread, len(values), row.note])
    return text.getvalue()


def _split(contaminated: int | None) -> str:
    if contaminated is None:
        return UNKNOWN
    return CONTAMINATED if contaminated else CLEAN


def _note(content: dict[str, Any]) -> str:
    told = [
        "some test images were also trained on" if content["contaminated"] else "",
        f"{content['split_ratio']:.0%} train ({content['split_rule']})" if content["split_ratio"] else "",
        f"{content['iterations']:,} iterations" if content["iterations"] else "",
        f"batch {content['batch_size']}" if content["batch_size"] else "",
        f"ALPHA {content['alpha']:g}" if content["alpha"] is not None else "",
        content["precision"] or "",
        f"searched: {content['archive']}",
        f"features: {content['extractor'] or 'unknown'}",
    ]
    return ", ".join(part for part in told if part)


def _cell(values: list[float], counted: bool) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}" + (f" ({len(values)})" if counted else "")


def _aligned(table: list[list[str]]) -> str:
    table = [[cell.replace("|", "\\|") for cell in line] for line in table]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in table
    ]
    return "\n".join([lines[0], "| " + " | ".join("-" * width for width in widths) + " |", *lines[1:]])
