"""A run's archive to a page that is browsed and searched from disk: thumbnails, codes, and the script that searches."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import Console, UserError
from mhcln.data import datasets
from mhcln.data.reading import Reading
from mhcln.pipeline.evaluate import open_run
from mhcln.pipeline.outputs import output_folder, require_no_other_run
from mhcln.pipeline.queries import index_of
from mhcln.reporting import page
from mhcln.reporting.browse import BrowsePage, render
from mhcln.reporting.sheets import write_sheets
from mhcln.storage import layout, runs
from mhcln.storage.archive import Archive, ArchivePart, load_archive
from mhcln.storage.files import locked
from mhcln.storage.results import read_results
from mhcln.storage.runs import Run
from mhcln.storage.text_files import write_text

MOST_IMAGES = 1_000_000  # a page of about 80 MB with 32 bits, 120 MB with 64, and 10,000 files of thumbnails


@dataclasses.dataclass(frozen=True)
class BrowseOptions:
    """What is shown, and where.

    Attributes:
        archive: Which images: "test", "train", or "all" for these and everything that was added.
        images_dir: Where the run's images are; None if where extraction found them.
        out: Folder in which `browse/` is made; None for the run's.
    """

    archive: str = "all"
    images_dir: Path | None = None
    out: Path | None = None


def browse_run(dump_dir: Path, run_name: str | None, options: BrowseOptions, console: Console) -> None:
    """Write the page of a run's archive, and link the report beside it to it.

    Args:
        dump_dir: Folder of the run's folder.
        run_name: The run; None for the only one.
        options: What is shown.
        console: Where progress is shown.

    Raises:
        UserError: The run or its archive is damaged or empty.
    """
    run = open_run(runs.choose_run(dump_dir, run_name))
    require_no_other_run(options.out, run.folder)
    class_names = datasets.display_names(run.inputs.dataset, run.codes.class_names)
    archive = load_archive(run, options.archive, class_names, options.images_dir)
    if len(archive) > MOST_IMAGES:
        raise UserError(
            f"{run.folder} has {len(archive):,} images in --archive={options.archive}, a page holds {MOST_IMAGES:,} at "
            "most; browse its own with --archive=test or train, or search with --query"
        )
    index = index_of(archive, console)
    parent = options.out or run.folder
    folder = output_folder(run.folder / layout.BROWSE, parent / layout.BROWSE if options.out else None, console)
    if folder is None:
        return
    report = parent / layout.REPORT
    with locked(folder):
        files = [archive.file_of(row) for row in range(len(archive))]
        sheets, gone = write_sheets(folder, files, console, Reading.of_extractor(run.inputs.extractor or ""))
        scores, score_name = _scores(run, parent, archive, console)
        content = BrowsePage(
            title=f"{run.inputs.dataset or 'Unknown data set'}, {run.folder.name}",
            archive=archive,
            levels=[part.levels_by_row() for part in index.parts],
            sheets=sheets,
            scores=scores,
            score_name=score_name,
            lonlat=np.concatenate([_centres(part) for part in archive.parts]),
            report=report.is_file(),
        )
        write_text(folder / layout.BROWSE_PAGE, render(content))
    if report.is_file():
        with locked(parent):
            write_text(report, page.with_link(report.read_text(encoding="utf-8")))
    if gone:
        advice = "; give the folder of the class folders with --images_dir" if len(gone) == len(archive) else ""
        console.warn(f"{len(gone):,} of {len(archive):,} thumbnails are grey: {gone[0]}{advice}")
    console.say(f"{len(archive):,} images to browse: {folder / layout.BROWSE_PAGE}")


def _centres(part: ArchivePart) -> NDArray[np.float64]:
    """Return `[n, 2]` degrees of the centres of images, NaN where they are not known."""
    return part.lonlat[:, 0] if len(part.lonlat) else np.full((len(part), 2), np.nan)


def _scores(run: Run, folder: Path, archive: Archive, console: Console) -> tuple[dict[int, float], str]:
    """Return the average precision of each query of the last evaluation by its row of the archive, and its name."""
    path = folder / layout.QUERY_RESULTS
    if not path.is_file() or not (folder / layout.RESULTS).is_file():
        console.say(f"no queries by their average precision: make them with {layout.EVALUATE}")
        return {}, ""
    if read_results(folder).codes_sha256 != run.codes_sha256:
        console.warn(f"{path} is of other codes and left out; make it again with {layout.EVALUATE}")
        return {}, ""
    tests = [path for path, side in zip(run.codes.paths, run.codes.split, strict=True) if side == "test"]
    row_of = {path: row for row, path in enumerate(archive.parts[0].paths)}  # the run's own come first
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            header, *rows = csv.reader(lines)
        found = {tests[int(index)]: float(score) for index, _, _, score, *_ in rows if score}
    except (ValueError, IndexError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}); make it again with {layout.EVALUATE}") from error
    return {row_of[path]: score for path, score in found.items() if path in row_of}, header[3]
