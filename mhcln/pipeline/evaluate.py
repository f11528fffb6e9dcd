"""The codes of a run to results: metrics, costs of hashing, pictures of neighbours, a report."""

import contextlib
import dataclasses
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import Console, UserError
from mhcln.evaluation.definitions import definitions
from mhcln.evaluation.evaluate import Evaluation, evaluate
from mhcln.pipeline.costs import compare_costs
from mhcln.pipeline.opened_run import OpenedRun
from mhcln.reporting import page, pictures, summary
from mhcln.reporting.cards import Card
from mhcln.reporting.pictures import ImageSource, SampledQuery
from mhcln.storage import layout, runs
from mhcln.storage.coded_images import CodedImages
from mhcln.storage.files import locked
from mhcln.storage.results import Results, write_results
from mhcln.storage.runs import Run
from mhcln.storage.text_files import write_csv, write_text


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """How a run is evaluated.

    Attributes:
        k: The cut-off.
        archive: Which images are searched, one of `mhcln.evaluation.evaluate.ARCHIVES`, or DATABASE.
        interval: Every how many-th query is drawn, 0 for none.
    """

    k: int = 20
    archive: str = "test"
    interval: int = 10


def measure(run: Run, k: int, archive: str) -> tuple[Evaluation, Results]:
    """Evaluate the codes of a run, without a comparison with features and activations.

    Args:
        run: The run.
        k: The cut-off.
        archive: Which images are searched.
    """
    started = time.perf_counter()
    evaluation = evaluate(run.codes, archive, k)
    seconds = time.perf_counter() - started
    results = Results(
        run=run.folder.name,
        stamp=run.leak_warning,
        k=k,
        archive=archive,
        queries=len(evaluation.protocol.queries),
        queries_left_out=int((~evaluation.protocol.has_relevant).sum()),
        searched=evaluation.protocol.reach,
        metrics=evaluation.metrics,
        precision_by_radius=evaluation.precision_by_radius,
        recall_by_radius=evaluation.recall_by_radius,
        empty_by_radius=evaluation.empty_by_radius,
        per_class=evaluation.per_class,
        confused_pairs=evaluation.confused_pairs,
        inputs=run.inputs,
        config=run.config,
        bits=run.codes.bits,
        iterations_done=run.outcome.iterations_done if run.outcome else None,
        training_seconds=run.outcome.seconds if run.outcome else None,
        device=run.outcome.device if run.outcome else None,
        tensorflow=run.outcome.tensorflow if run.outcome else None,
        codes_sha256=run.codes_sha256,
        search_seconds=round(seconds, 4),
        definitions=definitions(k),
        costs=[],
    )
    return evaluation, results


def evaluate_run(opened: OpenedRun, options: EvalOptions, console: Console) -> None:
    """Evaluate a run: write its results, pictures and report, print the summary.

    Args:
        opened: The run.
        options: How it is evaluated.
        console: Where the summary is printed.
    """
    run = opened.run
    folder = opened.results_folder("", console)
    with locked(folder) if folder else contextlib.nullcontext():
        evaluation, results = measure(run, options.k, options.archive)
        costs, notes = compare_costs(run, evaluation)
        results = dataclasses.replace(results, costs=costs)
        lines = [*summary.lines(results), *notes]
        if folder is None:
            _say_all(lines, console)
            return
        removed = _remove_old_results(folder)
        write_results(folder, results)
        _write_queries(run, evaluation, folder)
        _say_all(lines, console)
        sampled = pictures.sample(
            evaluation.protocol.queries, evaluation.neighbours, options.interval, pictures.shown(options.k)
        )
        if removed and not sampled:
            console.say(f"{removed} pictures of an earlier evaluation removed")
        try:
            drawn = _draw(opened, sampled, folder, console)
        except UserError:
            _write_report(opened, evaluation, results, [], folder)
            raise
        _write_report(opened, evaluation, results, drawn, folder)
        console.say(f"report: {folder / layout.REPORT}")


def _say_all(lines: list[str], console: Console) -> None:
    for line in lines:
        console.say(line)


def _remove_old_results(folder: Path) -> int:
    # results of an earlier evaluation must not remain beside new ones, even if this one is stopped half-way
    for name in (layout.REPORT, layout.QUERY_RESULTS):
        (folder / name).unlink(missing_ok=True)
    return pictures.clear(folder)


def _write_queries(run: Run, evaluation: Evaluation, folder: Path) -> None:
    """Write `results.csv`: a line per query with its index in the test set, its hits and its average precision."""
    codes, protocol, right, rows = run.codes, evaluation.protocol, _hits(run.codes, evaluation), []
    has_relevant = protocol.has_relevant
    for index, row in enumerate(protocol.queries.tolist()):
        wrong = evaluation.neighbours[index][~right[index]]
        score = f"{evaluation.average_precision[index]:.6f}" if has_relevant[index] else ""
        nearest_wrong = codes.paths[wrong[0]] if len(wrong) else ""
        name = codes.class_names[codes.labels[row]]
        farthest = evaluation.distances[index, -1]
        rows.append([index, codes.paths[row], name, score, right[index].sum(), farthest, nearest_wrong])
    header = ["index", "path", "class", f"AP@{protocol.k}", "right", "farthest", "nearest_wrong"]
    write_csv(folder / layout.QUERY_RESULTS, header, rows)


def _hits(codes: CodedImages, evaluation: Evaluation) -> NDArray[np.bool_]:
    """Return whether each of the k neighbours of each query has its class, `[q, k]`."""
    return codes.labels[evaluation.neighbours] == codes.labels[evaluation.protocol.queries][:, None]


def _draw(opened: OpenedRun, sampled: list[SampledQuery], folder: Path, console: Console) -> list[SampledQuery]:
    """Draw the sampled queries; return the queries that were drawn."""
    if not sampled:
        return []
    if not opened.images_dir:
        console.warn("no pictures: the folder of the images is not known; give --images_dir, or --interval=0")
        return []
    codes = opened.run.codes
    source = ImageSource(Path(opened.images_dir), codes.paths, codes.labels, opened.class_names, opened.reading)
    pictures.draw(folder, sampled, source, console)
    console.say(f"{len(sampled)} pictures: {folder / layout.PICTURES}")
    return sampled


def _write_report(
    opened: OpenedRun, evaluation: Evaluation, results: Results, drawn: list[SampledQuery], folder: Path
) -> None:
    run = opened.run
    right = _hits(run.codes, evaluation).sum(axis=1)
    cards = [
        Card(
            index=query.index,
            picture=f"{layout.PICTURES}/{layout.picture_name(query.index)}",
            label=int(run.codes.labels[query.row]),
            average_precision=float(evaluation.average_precision[query.index]),
            right=int(right[query.index]),
            size=pictures.size(1 + len(query.neighbours)),
        )
        for query in drawn
    ]
    content = page.Page(
        results=results,
        class_names=run.codes.class_names,
        display_names=opened.class_names,
        confusion=evaluation.confusion.tolist(),
        history=runs.read_history(run),
        cards=cards,
    )
    text = page.render(content)
    if (folder / layout.BROWSE / layout.BROWSE_PAGE).is_file():
        text = page.with_link(text)
    write_text(folder / layout.REPORT, text)
