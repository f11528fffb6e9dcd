"""The archive of a run to a page that is browsed and searched from disk: thumbnails, codes, and a script."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import Console, UserError
from mhcln.pipeline.opened_run import OpenedRun
from mhcln.reporting import page
from mhcln.reporting.browse import BrowsePage, render
from mhcln.reporting.sheets import write_sheets
from mhcln.storage import layout
from mhcln.storage.archive import Archive
from mhcln.storage.coded_images import CodedImages
from mhcln.storage.files import locked
from mhcln.storage.results import read_results
from mhcln.storage.runs import Run
from mhcln.storage.text_files import write_text

MOST_IMAGES = 1_000_000  # a page of about 100 MB with 32 bits, 140 MB with 64, and 10,000 files of thumbnails


def browse_run(opened: OpenedRun, which: str, console: Console) -> None:
    """Write the page of a run's archive, and link it from the report.

    Args:
        opened: The run.
        which: The images: "test", "train", or "all" for these and all added images.
        console: Where progress is shown.
    """
    run, archive = opened.run, opened.archive(which)
    if len(archive) > MOST_IMAGES:
        raise UserError(
            f"{run.folder} has {len(archive):,} images in --archive={which}, a page holds {MOST_IMAGES:,} at "
            "most; browse its own with --archive=test or train, or search with --query"
        )
    parent = opened.out or run.folder
    folder = opened.results_folder(layout.BROWSE, console)
    if folder is None:
        return
    report = parent / layout.REPORT
    with locked(folder):
        files = [archive.file_of(row) for row in range(len(archive))]
        sheets, gone = write_sheets(folder, files, console, opened.reading)
        scores, score_name = _scores(run, parent, archive, console)
        content = BrowsePage(
            title=f"{run.inputs.dataset or 'Unknown data set'}, {run.folder.name}",
            archive=archive,
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


def _centres(part: CodedImages) -> NDArray[np.float64]:
    """Return the centres of images, `[n, 2]` degrees, NaN where unknown."""
    return part.lonlat[:, 0] if len(part.lonlat) else np.full((len(part), 2), np.nan)


def _scores(run: Run, folder: Path, archive: Archive, console: Console) -> tuple[dict[int, float], str]:
    """Return the average precision of each query of the last evaluation by its row of the archive, and its name."""
    path = folder / layout.QUERY_RESULTS
    if not path.is_file() or not (folder / layout.RESULTS).is_file():
        console.say(f"no queries by their average precision: make them with {layout.EVALUATE}")
        return {}, ""
    if read_results(folder)["codes_sha256"] != run.codes_sha256:
        console.warn(f"{path} is of other codes and left out; make it again with {layout.EVALUATE}")
        return {}, ""
    tests = [path for path, side in zip(run.codes.paths, run.codes.split, strict=True) if side == "test"]
    row_of = {path: row for row, path in enumerate(archive.parts[0].paths)}  # the run's own come first
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            header, *rows = csv.reader(lines)
        name = header[3]
        found = {tests[int(index)]: float(score) for index, _, _, score, *_ in rows if score}
    except (ValueError, IndexError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}); make it again with {layout.EVALUATE}") from error
    return {row_of[path]: score for path, score in found.items() if path in row_of}, name
