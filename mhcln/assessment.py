"""Evaluating a run folder from its files to its files: results, pictures, and what is said about them."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from mhcln import artifacts, evaluation, files, pictures, trained
from mhcln.cli import Console
from mhcln.definitions import definitions
from mhcln.evaluation import Evaluation, Trial
from mhcln.trained import Run


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
    """Evaluate the run in `folder`: write its results and pictures, print the summary.

    Raises UserError for a run that cannot be evaluated, and, after the figures are written, for missing images.
    """
    run = trained.read(dump_dir, folder)
    with files.locked(folder):
        chosen, outcome, content = measure(run, wishes)
        old = pictures.clear(folder)
        artifacts.write_results(folder, content)
        for line in summary(run, content):
            console.say(line)
        _draw(run, chosen, outcome, wishes, console, old)


def summary(run: Run, content: dict[str, Any]) -> list[str]:
    """The lines that a person reads at the terminal."""
    k = content["k"]
    left_out = content["queries_left_out"]
    where = {"test": "test", "train": "training", "all": "training and test"}[content["archive"]]
    lines = [
        f"{run.folder.name}: {content['dataset'] or 'unknown data set'}, {content['bits']} bits, "
        f"{content['queries']} test images, each compared with {content['searched']} {where} images"
    ]
    if run.stamp:
        lines.append(run.stamp)
    if left_out:
        lines.append(f"{left_out} queries have no other image of their class to find: left out of every mean")
    names = (f"mAP@{k}", f"mAP@{k}_min_denominator", f"mAP@{k}_tie_aware", f"mAP@{k}_worst", f"mAP@{k}_best", "mAP")
    more = (f"P@{k}", f"R@{k}", "P_radius2", "R_radius2", "empty_radius2", "tied_at_k")
    health = ("bit_balance_mean", "bit_balance_worst", "bit_correlation_mean")
    width = max(map(len, (*names, *more, *health, "distinct_codes")))
    lines += [f"  {name:{width}}  {content[name]:.4f}" for name in (*names, *more)]
    lines.append(f"  {'distinct_codes':{width}}  {content['distinct_codes']}")
    lines += [f"  {name:{width}}  {_number(content[name])}" for name in health]
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _draw(run: Run, chosen: Trial, outcome: Evaluation, wishes: Wishes, console: Console, old: int) -> None:
    from mhcln.figures import grid

    shown = pictures.sample(chosen.queries, outcome.neighbours, wishes.interval, grid(wishes.k)[1])
    if old and not shown:
        console.say(f"{old} pictures of an earlier evaluation removed")
    if not shown:
        return
    images_dir = wishes.images_dir or (run.setup["images_dir"] and Path(run.setup["images_dir"]))
    if not images_dir:
        console.warn("no pictures: nothing tells where the images are; give --images_dir, or --interval=0")
        return
    codes = run.codes
    pictures.draw(run.folder, images_dir, shown, codes.paths, codes.labels, run.display_names, console)
    console.say(f"{len(shown)} pictures: {run.folder / pictures.FOLDER}")
