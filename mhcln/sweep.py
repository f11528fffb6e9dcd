"""All runs of a dump folder, gathered for the table."""

import dataclasses
from pathlib import Path
from typing import Any

from mhcln import artifacts, datasets, files, tables, trained
from mhcln.assessment import Wishes, measure
from mhcln.cli import Console
from mhcln.definitions import definitions
from mhcln.errors import UserError
from mhcln.evaluation import shared_figures


def tabulate(dump_dir: Path, wishes: Wishes, console: Console) -> None:
    """Print the table of all runs as Markdown and write it as `table.md` and `table.csv` into `dump_dir`.

    Raises UserError where there is no finished run, or one cannot be evaluated.
    """
    results = gather(dump_dir, wishes, console)
    k = wishes.k
    metrics = shared_figures(k)
    rows = tables.own_rows(results, metrics)
    for dataset in sorted({row.dataset for row in rows}):
        rows += tables.published_rows(dataset, datasets.load(dataset).published, metrics)
    rows.sort(key=lambda row: row.dataset)
    shown = {name: definitions(k)[name] for name in (f"mAP@{k}", f"mAP@{k}_tie_aware")}
    text = tables.markdown(rows, shown)
    with files.locked(dump_dir):
        files.write_text(dump_dir / "table.md", text)
        files.write_text(dump_dir / "table.csv", tables.as_csv(rows))
    console.say(text.rstrip("\n"))
    console.say(f"\nwritten to {dump_dir / 'table.md'} and {dump_dir / 'table.csv'}")


def gather(dump_dir: Path, wishes: Wishes, console: Console) -> list[dict[str, Any]]:
    """The content of `results.json` of every finished run, read where it answers the same question, else measured.

    A run whose codes are those of another one counts once, one that is still trained not at all; both are said.
    """
    results: dict[str, dict[str, Any]] = {}
    for folder in artifacts.run_folders(dump_dir):
        if trained.is_unfinished(folder):
            console.warn(f"{folder} is not trained to the end: left out")
            continue
        content = _results(dump_dir, folder, wishes)
        twin = results.setdefault(content["codes_sha256"], content)
        if twin is not content:
            console.warn(f"{folder.name} has the very codes of {twin['run']}: left out")
    if not results:
        raise UserError(f"{dump_dir} holds no finished training run; make one with {artifacts.TRAIN}")
    return list(results.values())


def _results(dump_dir: Path, folder: Path, wishes: Wishes) -> dict[str, Any]:
    run = trained.read(dump_dir, folder)
    if (folder / "results.json").is_file():
        content = artifacts.read_results(folder)
        question = {"k": wishes.k, "archive": wishes.archive, "codes_sha256": run.codes_sha256, **run.setup}
        if all(content.get(name) == value for name, value in question.items()):
            return content
    try:
        return measure(run, dataclasses.replace(wishes, interval=0))[2]
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
