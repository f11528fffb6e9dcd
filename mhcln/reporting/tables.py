"""Many runs in one table: mean and standard deviation over seeds, beside published results with their source."""

import dataclasses
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mhcln.data.datasets import Published

CLEAN, UNKNOWN, CONTAMINATED, PUBLISHED = "clean", "unknown", "CONTAMINATED", "as published"
# Runs that agree on these, on the archive and on contamination are averaged; bits and seed vary within the table.
_SAME = (
    *("dataset", "loss", "extractor", "split_rule", "split_ratio", "iterations", "iterations_done", "batch_size"),
    *("alpha", "precision", "training_views"),
)
CSV_COLUMNS = ("dataset", "method", "split", "bits", "metric", "mean", "std", "count", "setup")


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        dataset: Name of the data set.
        method: Name of the method, for people.
        split: CLEAN, UNKNOWN, CONTAMINATED or PUBLISHED.
        note: The set-up or the source, for the notes below the table.
        values: For each number of bits and metric, one value per seed.
    """

    dataset: str
    method: str
    split: str
    note: str
    values: dict[tuple[int, str], list[float]] = dataclasses.field(default_factory=dict)

    def add(self, bits: int, metric: str, value: float) -> None:
        """Add the value of one run or publication."""
        self.values.setdefault((bits, metric), []).append(value)


def own_rows(results: Iterable[Mapping[str, Any]], metrics: Sequence[str], titles: Mapping[str, str]) -> list[Row]:
    """Return the rows of runs. Runs of one set-up share a row, whatever their seeds.

    Runs on splits that leak into the test set never share a row with clean ones.

    Args:
        results: The keys of `results.json` for each run.
        metrics: Names of the metrics to take from them.
        titles: Name for people of each method, by the name that `--loss` takes.
    """
    groups: dict[tuple[object, ...], Row] = {}
    for each in results:
        split, loss = _split(each["contaminated"]), each["loss"]
        key = (split, bool(each["train_test_duplicates"]), each["archive"], *(each[name] for name in _SAME))
        if key not in groups:
            method = titles.get(loss, loss) if loss else "unknown method"
            groups[key] = Row(each["dataset"] or "unknown", method, split, _note(each))
        for metric in metrics:
            if each[metric] is not None:
                groups[key].add(each["bits"], metric, each[metric])
    return sorted(groups.values(), key=lambda row: (row.dataset, row.split != CLEAN, row.method, row.note))


def published_rows(dataset: str, published: Iterable[Published], metrics: Sequence[str]) -> list[Row]:
    """Return the rows of results from the literature: one for each method, source and protocol.

    Args:
        dataset: Name of the data set.
        published: Its published results.
        metrics: Names of the metrics to take from them.
    """
    rows: dict[tuple[str, str], Row] = {}
    for entry in published:
        if entry.metric in metrics:
            row = Row(dataset, entry.method, PUBLISHED, f"source: {entry.source}; {entry.protocol}")
            rows.setdefault((entry.method, row.note), row).add(entry.bits, entry.metric, entry.value)
    return list(rows.values())


def markdown(rows: Sequence[Row], metrics: Mapping[str, str]) -> str:
    """Return the tables as Markdown, one for each of `metrics` (name to definition), with notes on the rows below."""
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


def csv_rows(rows: Iterable[Row]) -> Iterator[Sequence[object]]:
    """Yield the table as rows of CSV_COLUMNS, one for each row, bits and metric; `std` is empty for a single run."""
    for row in rows:
        for (bits, metric), values in sorted(row.values.items()):
            spread = f"{statistics.stdev(values):.6f}" if len(values) > 1 else ""
            mean = f"{statistics.fmean(values):.6f}"
            yield [row.dataset, row.method, row.split, bits, metric, mean, spread, len(values), row.note]


def _split(contaminated: int | None) -> str:
    if contaminated is None:
        return UNKNOWN
    return CONTAMINATED if contaminated else CLEAN


def _note(results: Mapping[str, Any]) -> str:
    parts = ["some test images were also trained on"] if results["contaminated"] else []
    if results["train_test_duplicates"]:
        parts.append("some test images are equal to training images")
    if results["split_ratio"]:
        parts.append(f"{results['split_ratio']:.0%} train ({results['split_rule']})")
    if results["training_views"]:
        parts.append(f"{results['training_views']} rotations and flips of each training image")
    if results["loss"]:
        done = f"{results['iterations_done']:,} of " if results["iterations_done"] is not None else ""
        parts += [f"{done}{results['iterations']:,} iterations"] if results["iterations"] else ["closed form"]
        parts += [f"batch {results['batch_size']}"] if results["batch_size"] else []
        parts += [f"ALPHA {results['alpha']:g}"] if results["alpha"] else []
        parts.append(results["precision"])
    parts += [f"searched: {results['archive']}", f"features: {results['extractor'] or 'unknown'}"]
    return ", ".join(parts)


def _cell(values: Sequence[float], counted: bool) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}" + (f" ({len(values)})" if counted else "")


def _aligned(table: list[list[str]]) -> str:
    table = [[cell.replace("|", "\\|") for cell in line] for line in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in table
    ]
    return "\n".join([lines[0], "| " + " | ".join("-" * width for width in widths) + " |", *lines[1:]])
