"""A run's codes to results: metrics, what hashing costs, pictures of what was retrieved, a report."""

import contextlib
import dataclasses
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import Console, UserError
from mhcln.data import datasets
from mhcln.data.reading import Reading
from mhcln.evaluation.definitions import definitions
from mhcln.evaluation.evaluate import Evaluation, evaluate
from mhcln.pipeline.costs import compare_costs
from mhcln.pipeline.outputs import output_folder, require_no_other_run
from mhcln.reporting import page, pictures, summary
from mhcln.reporting.cards import Card
from mhcln.reporting.pictures import ImageSource, SampledQuery
from mhcln.storage import layout, runs
from mhcln.storage.features import is_there, read_image_table
from mhcln.storage.files import locked
from mhcln.storage.formats import Codes
from mhcln.storage.results import Results, write_results
from mhcln.storage.run_record import RunInputs
from mhcln.storage.runs import Run
from mhcln.storage.text_files import write_csv, write_text


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """How a run is evaluated.

    Attributes:
        k: The cut-off.
        archive: Which images are searched, one of `mhcln.evaluation.evaluate.ARCHIVES`, or DATABASE.
        interval: Every how many-th query is drawn, 0 for none.
        images_dir: Where the images are; None if where extraction found them.
        out: Folder that results are written to; None for the run's.
    """

    k: int = 20
    archive: str = "test"
    interval: int = 10
    images_dir: Path | None = None
    out: Path | None = None


def open_run(folder: Path) -> Run:
    """Read a finished run; if no `run.json` says what its data are, the features beside it or its classes may.

    Raises:
        UserError: Its files are damaged or do not belong together, or it is not trained to the end.
    """
    run = runs.read_run(folder)
    if run.config is not None:
        return run
    if is_there(folder.parent):
        images = read_image_table(folder.parent)
        if set(run.codes.paths) <= set(images.paths):
            inputs = RunInputs(dataset=images.dataset, images_dir=images.images_dir, extractor=images.extractor)
            return dataclasses.replace(run, inputs=inputs)
    names = [name for name, known in datasets.known().items() if known.class_names == tuple(run.codes.class_names)]
    return dataclasses.replace(run, inputs=RunInputs(dataset=names[0])) if names else run


def measure(run: Run, k: int, archive: str) -> tuple[Evaluation, Results]:
    """Evaluate the codes of a run, without comparing them with the vectors that they stand for.

    Args:
        run: The run.
        k: The cut-off.
        archive: Which images are searched.

    Raises:
        UserError: The run does not allow it.
    """
    started = time.perf_counter()
    evaluation = evaluate(run.codes, archive, k)
    seconds = time.perf_counter() - started
    results = Results(
        run=run.folder.name,
        stamp=run.stamp,
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


def evaluate_run(dump_dir: Path, run_name: str | None, options: EvalOptions, console: Console) -> None:
    """Evaluate a run: write its results, pictures and report, print the summary.

    Args:
        dump_dir: Folder of the run's folder.
        run_name: The run; None for the only one.
        options: How it is evaluated.
        console: Where the summary is printed.

    Raises:
        UserError: The run cannot be evaluated; or, once results are written, images for the pictures are missing.
    """
    run = open_run(runs.choose_run(dump_dir, run_name))
    require_no_other_run(options.out, run.folder)
    folder = output_folder(run.folder, options.out, console)
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
            drawn = _draw(run, sampled, options.images_dir, folder, console)
        except UserError:
            _write_report(run, evaluation, results, [], folder)
            raise
        _write_report(run, evaluation, results, drawn, folder)
        console.say(f"report: {folder / layout.REPORT}")


def _say_all(lines: list[str], console: Console) -> None:
    for line in lines:
        console.say(line)


def _remove_old_results(folder: Path) -> int:
    # Nothing of an earlier evaluation may stand beside the new results, even if this one is stopped half-way.
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


def _hits(codes: Codes, evaluation: Evaluation) -> NDArray[np.bool_]:
    """Return whether each of the k neighbours of each query has its class, `[q, k]`."""
    return codes.labels[evaluation.neighbours] == codes.labels[evaluation.protocol.queries][:, None]


def _draw(
    run: Run, sampled: list[SampledQuery], images_dir: Path | None, folder: Path, console: Console
) -> list[SampledQuery]:
    """Draw the sampled queries; return those that were drawn."""
    if not sampled:
        return []
    images = images_dir or run.inputs.images_dir
    if not images:
        console.warn("no pictures: nothing tells where the images are; give --images_dir, or --interval=0")
        return []
    codes = run.codes
    class_names = datasets.display_names(run.inputs.dataset, codes.class_names)
    reading = Reading.of_extractor(run.inputs.extractor or "")
    source = ImageSource(Path(images), codes.paths, codes.labels, class_names, reading)
    pictures.draw(folder, sampled, source, console)
    console.say(f"{len(sampled)} pictures: {folder / layout.PICTURES}")
    return sampled


def _write_report(run: Run, evaluation: Evaluation, results: Results, drawn: list[SampledQuery], folder: Path) -> None:
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
        display_names=datasets.display_names(run.inputs.dataset, run.codes.class_names),
        confusion=evaluation.confusion.tolist(),
        history=runs.read_history(run),
        cards=cards,
    )
    text = page.render(content)
    if (folder / layout.BROWSE / layout.BROWSE_PAGE).is_file():
        text = page.with_link(text)
    write_text(folder / layout.REPORT, text)
