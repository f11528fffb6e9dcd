"""All runs of a dump folder to one table, beside published results."""

from pathlib import Path
from typing import Any

from mhcln.console import Console, UserError
from mhcln.data import datasets
from mhcln.evaluation.definitions import FULL_MAP, PUBLISHED_MAP, TIE_AWARE_MAP, definitions, shared_names
from mhcln.pipeline.evaluate import measure
from mhcln.pipeline.opened_run import open_run_folder, writable_folder
from mhcln.reporting import tables
from mhcln.storage import layout, runs
from mhcln.storage.files import locked
from mhcln.storage.results import read_results
from mhcln.storage.runs import Run
from mhcln.storage.text_files import write_csv, write_text
from mhcln.training.methods import METHODS


def compare_runs(dump_dir: Path, k: int, archive: str, out: Path | None, console: Console) -> None:
    """Print the table of all runs as Markdown and write it as `table.md` and `table.csv`.

    Args:
        dump_dir: Folder of the runs' folders.
        k: The cut-off.
        archive: Which images are searched.
        out: Folder that the files are written to; None for `dump_dir`.
        console: Where the table is printed.
    """
    found = _gather(dump_dir, k, archive, console)
    results = [each for each, _ in found]
    metrics = shared_names(k)
    titles = {loss: method.title for loss, method in METHODS.items()}
    rows = tables.own_rows(results, metrics, titles)
    for name in sorted({each["dataset"] or "" for each in results}):
        classes = {label for each, labels in found if each["dataset"] == name for label in labels}
        rows += tables.published_rows(name, datasets.load(name, classes).published, metrics)
    rows.sort(key=lambda row: row.dataset)
    shown = {metric.key(k): definitions(k)[metric.key(k)] for metric in (PUBLISHED_MAP, TIE_AWARE_MAP, FULL_MAP)}
    text = tables.markdown(rows, shown)
    folder = writable_folder(dump_dir, out, console)
    if folder is None:
        console.say(text.rstrip("\n"))
        return
    with locked(folder):
        write_text(folder / layout.TABLE, text)
        write_csv(folder / layout.TABLE_CSV, tables.CSV_COLUMNS, tables.csv_rows(rows))
    console.say(text.rstrip("\n"))
    console.say(f"\nwritten to {folder / layout.TABLE} and {folder / layout.TABLE_CSV}")


def _gather(dump_dir: Path, k: int, archive: str, console: Console) -> list[tuple[dict[str, Any], list[str]]]:
    """Return the keys of `results.json` for every finished run, and the names of the classes of its codes.

    Runs with the same codes count once, runs that are still trained not at all; both are reported.
    """
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for folder in layout.run_folders(dump_dir):
        if runs.is_unfinished(folder):
            console.warn(f"{folder} is not trained to the end: left out")
            continue
        run = open_run_folder(folder).run
        results = _results_of(run, k, archive)
        twin, _ = found.setdefault(results["codes_sha256"], (results, run.codes.class_names))
        if twin is not results:
            console.warn(f"{folder.name} has the same codes as {twin['run']}: left out")
    if not found:
        raise UserError(f"{dump_dir} holds no finished training run; make one with {layout.TRAIN}")
    return list(found.values())


def _results_of(run: Run, k: int, archive: str) -> dict[str, Any]:
    """Return the stored results of a run if they are of these codes, k and archive; else evaluate it."""
    if (run.folder / layout.RESULTS).is_file():
        stored = read_results(run.folder)
        set_up = {**vars(run.inputs), **(vars(run.config) if run.config else {})}
        asked = {"k": k, "archive": archive, "codes_sha256": run.codes_sha256, **set_up}
        if asked.items() <= stored.items() and stored.keys() >= {*shared_names(k)}:
            return stored
    try:
        return measure(run, k, archive)[1].to_json()
    except UserError as error:
        raise UserError(f"{run.folder}: {error}") from None
