"""Evaluating a run folder from its files to its files: results, pictures, and what is said about them."""

import csv
import dataclasses
import io
import math
import time
from pathlib import Path
from typing import Any

from mhcln import artifacts, costs, evaluation, files, grid, pictures, report, summary, trained
from mhcln.cli import Console
from mhcln.definitions import definitions
from mhcln.errors import UserError
from mhcln.evaluation import Evaluation, Trial
from mhcln.gallery import Card
from mhcln.pictures import Shown
from mhcln.trained import Run

REPORT = "report.html"


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What was asked for: cut-off, archive to search, every how many-th query to draw, where the images are."""

    k: int = 20
    archive: str = "test"
    interval: int = 10
    images_dir: Path | None = None


def measure(run: Run, wishes: Wishes) -> tuple[Trial, Evaluation, dict[str, Any]]:
    """Evaluate the codes of a run: the trial, what came out, and the content of `results.json`."""
    begun = time.perf_counter()
    chosen = evaluation.trial(run.codes, wishes.archive, wishes.k)
    outcome = evaluation.evaluate(run.codes, chosen)
    seconds = time.perf_counter() - begun
    content = {
        "run": run.folder.name,
        "stamp": run.stamp,
        "k": wishes.k,
        "archive": wishes.archive,
        "queries": len(chosen.queries),
        "queries_left_out": int((~outcome.possible).sum()),
        "searched": chosen.reach,
        **outcome.values,
        **run.setup,
        "bits": run.codes.bits,
        "codes_sha256": run.codes_sha256,
        "search_seconds": round(seconds, 4),
        "definitions": definitions(wishes.k),
    }
    return chosen, outcome, content


def assess(dump_dir: Path, folder: Path, wishes: Wishes, console: Console) -> None:
    """Evaluate the run in `folder`: write its results, pictures and report, print the summary.

    Raises UserError for a run that cannot be evaluated, and, once the figures are written, for missing images.
    """
    run = trained.read(dump_dir, folder)
    with files.locked(folder):
        chosen, outcome, content = measure(run, wishes)
        content["costs"], notes = costs.compare(dump_dir, run, chosen, content)
        old = _clear(folder)
        artifacts.write_results(folder, content)
        files.write_text(folder / "results.csv", _each_query(run, chosen, outcome))
        for line in [*summary.lines(content), *notes]:
            console.say(line)
        shown = pictures.sample(chosen.queries, outcome.neighbours, wishes.interval, grid.shown(wishes.k))
        if old and not shown:
            console.say(f"{old} pictures of an earlier evaluation removed")
        try:
            drawn = _draw(run, shown, wishes, console)
        except UserError:
            _report(run, chosen, outcome, content, [])
            raise
        _report(run, chosen, outcome, content, drawn)
        console.say(f"report: {folder / REPORT}")


def _clear(folder: Path) -> int:
    # Nothing of an earlier evaluation may stand beside the new results, even where this one is stopped half-way.
    for name in (REPORT, "results.csv"):
        (folder / name).unlink(missing_ok=True)
    return pictures.clear(folder)


def _each_query(run: Run, chosen: Trial, outcome: Evaluation) -> str:
    """Every query as a line of CSV: its index in the test set, what was right, its average precision."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    k, codes = chosen.k, run.codes
    table.writerow(["index", "path", "class", f"AP@{k}", "right", "farthest", "nearest_wrong"])
    right = codes.labels[outcome.neighbours] == codes.labels[chosen.queries][:, None]
    for index, row in enumerate(chosen.queries):
        wrong = outcome.neighbours[index][~right[index]]
        score = f"{outcome.average_precision[index]:.6f}" if outcome.possible[index] else ""
        nearest = codes.paths[wrong[0]] if len(wrong) else ""
        name = codes.class_names[codes.labels[row]]
        farthest = outcome.distances[index, -1]
        table.writerow([index, codes.paths[row], name, score, right[index].sum(), farthest, nearest])
    return text.getvalue()


def _draw(run: Run, shown: list[Shown], wishes: Wishes, console: Console) -> list[Shown]:
    images_dir = wishes.images_dir or (run.setup["images_dir"] and Path(run.setup["images_dir"]))
    if not shown:
        return []
    if not images_dir:
        console.warn("no pictures: nothing tells where the images are; give --images_dir, or --interval=0")
        return []
    codes = run.codes
    pictures.draw(run.folder, images_dir, shown, codes.paths, codes.labels, run.display_names, console)
    console.say(f"{len(shown)} pictures: {run.folder / pictures.FOLDER}")
    return shown


def _report(run: Run, chosen: Trial, outcome: Evaluation, content: dict[str, Any], drawn: list[Shown]) -> None:
    labels = run.codes.labels
    right = (labels[outcome.neighbours] == labels[chosen.queries][:, None]).sum(axis=1)
    cards = [
        Card(
            index=one.index,
            picture=f"{pictures.FOLDER}/{pictures.name(one.index)}",
            label=int(labels[one.row]),
            average_precision=float(outcome.average_precision[one.index]),
            right=int(right[one.index]),
            size=grid.size(1 + grid.shown(chosen.k)),
        )
        for one in drawn
    ]
    history = training_history(run)
    shares = outcome.confusion.tolist()
    page = report.Page(content, run.codes.class_names, run.display_names, shares, history, cards)
    files.write_text(run.folder / REPORT, report.render(page))


def training_history(run: Run) -> dict[str, list[float]]:
    """Columns of `history.csv`, NaN for an empty cell; empty where there is no history."""
    path = run.checked("history.csv")
    if path is None:
        return {}
    try:
        head, *lines = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
        return {name: [float(line[column] or math.nan) for line in lines] for column, name in enumerate(head)}
    except (ValueError, IndexError) as error:
        raise UserError(f"{path} is damaged ({error}); make it again with {artifacts.TRAIN}") from error
