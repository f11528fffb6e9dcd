"""Images to `features.npz`: every image of a data set goes through the backbone, batch by batch."""

import contextlib
import dataclasses
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone import loader
from mhcln.backbone.backbone import Backbone, open_backbone
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import Console, UserError, deferred_signals
from mhcln.data import datasets
from mhcln.data.datasets import Scan
from mhcln.storage import layout
from mhcln.storage.files import locked, write_csv
from mhcln.storage.formats import Features, ImageTable, read_image_table, write_features
from mhcln.storage.partial_features import ExtractionJob, PartialFeatures

LISTED = 10  # unreadable images that a message names


@dataclasses.dataclass(frozen=True)
class ExtractOptions:
    """What to extract, and into which folder.

    Attributes:
        images_dir: Folder of class folders; with `unlabelled`, of any folders.
        dump_dir: Folder of `features.npz`.
        dataset: Name of the data set, if the folder names do not say it.
        unlabelled: Whether to take all images without classes.
        batch_size: Images per run of the network.
        skip_broken: Whether images that cannot be read are left out; if not, they stop the extraction.
        backbone: Which network describes the images, and how.
    """

    images_dir: Path
    dump_dir: Path
    dataset: str | None = None
    unlabelled: bool = False
    batch_size: int = loader.BATCH_SIZE
    skip_broken: bool = False
    backbone: BackboneOptions = dataclasses.field(default_factory=BackboneOptions)


def extract_features(options: ExtractOptions, console: Console) -> None:
    """Find the images, open the backbone, and write `features.npz`.

    Raises:
        UserError: There are no images, no such backbone, or images that cannot be read.
    """
    if options.unlabelled and options.dataset:
        raise UserError("--unlabelled images belong to no --dataset; leave one of the two out")
    if options.unlabelled:
        scan = datasets.scan_unlabelled(options.images_dir)
    else:
        scan = datasets.scan(options.images_dir, options.dataset)
    for note in scan.notes:
        console.warn(note)
    extract(scan, open_backbone(options.backbone, console), options, console)


def extract(scan: Scan, backbone: Backbone, options: ExtractOptions, console: Console) -> None:
    """Write `features.npz` of all images of `scan`; continue an interrupted run of the same job.

    Args:
        scan: The images.
        backbone: The opened backbone.
        options: Batch size, dump folder, and what happens to images that cannot be read: they stop the run with their
            list, or go to `skipped.csv`.
        console: Where progress is shown.

    Raises:
        UserError: Images cannot be read.
        KeyboardInterrupt, Terminated: A signal arrived; what was computed is saved.
    """
    dump_dir = options.dump_dir
    with locked(dump_dir):
        job = ExtractionJob.of_files(scan.images_dir, scan.paths, backbone.extractor, options.batch_size)
        old = _existing(dump_dir)
        partial = PartialFeatures(dump_dir, job)
        if old is not None and old.inputs == job.key() and (options.skip_broken or not old.skipped):
            console.say(f"{dump_dir / layout.FEATURES} already holds these {len(old):,} images; nothing to do")
            partial.remove()  # a run that was killed between its last two steps leaves it
            return
        started = time.monotonic()
        problems, computed = _compute_missing(partial, backbone, options, console)
        if problems and not options.skip_broken:
            raise UserError(_unreadable(problems, job.paths))
        if len(problems) == len(job.paths):
            raise UserError(f"none of the {len(problems)} images can be read, first {_listed(problems, job.paths, 1)}")
        content = _collect(partial, scan, backbone, problems)
        _write_skipped(dump_dir, problems, job.paths)
        write_features(dump_dir, content)
        partial.remove()
    if problems:
        console.warn(f"{len(problems)} of {len(job.paths)} images were skipped, see {dump_dir / layout.SKIPPED}")
    seconds = time.monotonic() - started
    console.say(f"{len(content.images):,} images of {len(content.images.class_names)} classes ({scan.dataset.name})")
    console.say(f"backbone: {backbone.extractor}")
    console.say(f"{computed:,} images in {seconds:.1f} s, {computed / max(seconds, 1e-9):.1f} images/s")
    console.say(f"{'wrote' if old is None else 'replaced'} {dump_dir / layout.FEATURES}")


def _existing(dump_dir: Path) -> ImageTable | None:
    try:
        return read_image_table(dump_dir)
    except UserError:  # missing, damaged, or of an older format: it is made again
        return None


def _compute_missing(
    partial: PartialFeatures, backbone: Backbone, options: ExtractOptions, console: Console
) -> tuple[dict[int, str], int]:
    """Compute and save the batches that are missing.

    Returns:
        Why which rows cannot be read, and the number of rows that were computed.
    """
    job = partial.job
    done, changes = partial.resume()
    problems = {row: reason for found in done.values() for row, reason in found.items()}
    finished = sum(len(job.rows(batch)) for batch in done)
    if changes:
        console.warn(
            f"part-work of an interrupted run fits only in part, since {'; '.join(changes)}; the rest is dropped"
        )
    if done:
        console.say(f"continuing an interrupted run: {finished:,} of {len(job.paths):,} images are done")
    missing = [batch for batch in range(job.batches) if batch not in done]
    files = (Path(job.images_dir) / job.paths[row] for batch in missing for row in job.rows(batch))
    with (
        contextlib.closing(loader.load_images(files, backbone, job.batch_size)) as images,
        deferred_signals() as arrived,
        console.bar(len(job.paths), "extracting", "image", finished) as bar,
    ):
        for batch in missing:
            rows = job.rows(batch)
            ready, broken = loader.next_batch(images, rows, backbone)
            reasons = {row: error.reason for row, error in broken.items()}
            problems.update(reasons)
            if options.skip_broken or not problems:
                # once an image is broken nothing is computed any more: only the list is completed
                features = loader.zero_rows(backbone.features(ready), broken, rows.start)
                _check_finite(features, rows, job.paths, backbone)
                partial.save(batch, features, reasons)
            bar.update(len(rows))
            if signal := arrived():
                raise signal
    return problems, len(job.paths) - finished


def _check_finite(features: NDArray[np.float32], rows: range, paths: list[str], backbone: Backbone) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise UserError(
            f"the network gives {paths[rows[bad[0]]]} numbers that are not finite in {backbone.recipe.precision}; "
            "use --precision=float32, or other weights"
        )


def _collect(partial: PartialFeatures, scan: Scan, backbone: Backbone, problems: dict[int, str]) -> Features:
    job = partial.job
    kept = [row for row in range(len(job.paths)) if row not in problems]
    vectors = np.concatenate([partial.features(batch) for batch in range(job.batches)])
    images = ImageTable(
        labels=scan.labels[kept],
        paths=[job.paths[row] for row in kept],
        class_names=list(scan.dataset.class_names),
        dataset=scan.dataset.name,
        images_dir=job.images_dir,
        extractor=backbone.extractor,
        skipped=len(problems),
        model_file=backbone.model_file,
        inputs=job.key(),
    )
    return Features(vectors[kept] if problems else vectors, images)


def _write_skipped(dump_dir: Path, problems: dict[int, str], paths: list[str]) -> None:
    if problems:
        rows = [[paths[row], problems[row]] for row in sorted(problems)]
        write_csv(dump_dir / layout.SKIPPED, ["path", "reason"], rows)
    else:
        (dump_dir / layout.SKIPPED).unlink(missing_ok=True)


def _unreadable(problems: dict[int, str], paths: list[str]) -> str:
    return (
        f"{len(problems)} of {len(paths)} images cannot be read: {_listed(problems, paths, LISTED)}; "
        "repair or remove them, or leave them out with --on_error=skip"
    )


def _listed(problems: dict[int, str], paths: list[str], most: int) -> str:
    lines = [f"{paths[row]} ({problems[row]})" for row in sorted(problems)[:most]]
    return ", ".join(lines) + (f" and {len(problems) - most} more" if len(problems) > most else "")
