"""A finished run for all commands of `eval.py`: its files, its archive, and the folder of the results."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from mhcln.console import Console, UserError
from mhcln.data import datasets
from mhcln.data.reading import Reading
from mhcln.hamming.codes import SortedCodes, lay_out, quantise, words
from mhcln.hamming.index import Index
from mhcln.storage import layout, runs
from mhcln.storage.archive import Archive, read_shards
from mhcln.storage.coded_images import CodedImages
from mhcln.storage.files import NotWritableError, locked
from mhcln.storage.runs import Run
from mhcln.storage.vectors import UnavailableError, activations_of


@dataclasses.dataclass(frozen=True)
class OpenedRun:
    """A finished run.

    Attributes:
        run: Its files.
        class_names: Names of its classes, for people.
        reading: How its rasters were read.
        images_dir: Folder of its images; "" if it is not known.
        out: Folder that results are written to; None for the folder of the run.
    """

    run: Run
    class_names: list[str]
    reading: Reading
    images_dir: str
    out: Path | None = None

    def archive(self, which: str) -> Archive:
        """Open the archive of the run.

        Args:
            which: "test", "train" or "database" for those images, "all" for them and everything that was added.
        """
        codes = self.run.codes
        rows = codes.rows_of_part(which)
        own = dataclasses.replace(codes.at(rows), images_dir=self.images_dir, class_names=self.class_names)
        with contextlib.suppress(UnavailableError):
            own = dataclasses.replace(own, levels=quantise(activations_of(self.run)[rows]))
        added = read_shards(self.run) if which == "all" else []
        archive = Archive([own, *map(_with_display_names, added)], codes.bits)
        if not len(archive):
            advice = f"add images with {layout.ADD}" if which == "all" else "choose another --archive"
            raise UserError(f"{self.run.folder} has no images in --archive={which}; {advice}")
        return archive

    def results_folder(self, inner: str, console: Console, wait: bool = False) -> Path | None:
        """Return a folder to write results to, in the folder of the run or in `out`; see `writable_folder`."""
        return writable_folder(self.run.folder / inner, self.out / inner if self.out else None, console, wait)


def open_run(
    dump_dir: Path, run_name: str | None, images_dir: Path | None = None, out: Path | None = None
) -> OpenedRun:
    """Open a finished run.

    Args:
        dump_dir: Folder of the run's folder.
        run_name: The run; None for the only one.
        images_dir: Folder of its images; None if they are where extraction found them.
        out: Folder that results are written to; None for the folder of the run.
    """
    opened = open_run_folder(runs.choose_run(dump_dir, run_name), images_dir, out)
    folder = opened.run.folder
    is_run = out is not None and any((out / name).exists() for name in (layout.RUN, layout.CODES))
    if out is not None and is_run and not out.samefile(folder):
        raise UserError(f"--out={out} is the folder of another run than {folder}; choose another folder")
    return opened


def open_run_folder(folder: Path, images_dir: Path | None = None, out: Path | None = None) -> OpenedRun:
    """Open the run in a folder; arguments as in `open_run`."""
    run = runs.read_run(folder)
    if run.inputs.dataset is None:  # of a run without a run.json
        known = (name for name, each in datasets.known().items() if each.class_names == tuple(run.codes.class_names))
        run = dataclasses.replace(run, inputs=dataclasses.replace(run.inputs, dataset=next(known, None)))
    return OpenedRun(
        run,
        class_names=datasets.display_names(run.inputs.dataset, run.codes.class_names),
        reading=Reading.of_extractor(run.inputs.extractor or ""),
        images_dir=str(images_dir or run.inputs.images_dir or ""),
        out=out,
    )


def _with_display_names(images: CodedImages) -> CodedImages:
    return dataclasses.replace(images, class_names=datasets.display_names(images.dataset, images.class_names))


def index_of(archive: Archive, console: Console) -> Index:
    """Return the index of an archive; warns once of images without activations, which order equal distances."""
    unknown = sum(len(part) for part in archive.parts if not len(part.levels))
    if unknown:
        console.warn(
            f"{unknown:,} of {len(archive):,} images have no activations; at equal distance they come last, in storage "
            "order"
        )
    return Index(*map(_sorted, archive.parts))


def _sorted(images: CodedImages) -> SortedCodes:
    levels = images.levels if len(images.levels) else None
    if not len(images.rows):
        return lay_out(images.codes, levels)
    return SortedCodes(images.codes, words(images.distinct), images.first, images.rows, levels)


def writable_folder(usual: Path, out: Path | None, console: Console, wait: bool = False) -> Path | None:
    """Return a folder to write results to.

    Args:
        usual: The folder if the user does not name one.
        out: The folder that the user named; None for none.
        console: Where a folder without permission to write is reported.
        wait: Whether to wait until no other process writes there.

    Returns:
        `out` if it is given; else `usual`, or None if nothing can be written there, as on a read-only disk.
    """
    if out is not None:
        return out
    try:
        with locked(usual, wait):
            return usual
    except NotWritableError as error:
        console.warn(f"nothing is written: {error.what}; use --out=folder to write elsewhere")
        return None
