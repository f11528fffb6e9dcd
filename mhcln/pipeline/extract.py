"""Images to features: every image of a data set goes through the backbone, batch by batch."""

import contextlib
import time
from pathlib import Path

import numpy as np

from mhcln.console import Console, UserError
from mhcln.data import folders
from mhcln.data.folders import Scan
from mhcln.pipeline.extraction import Extraction, ExtractOptions, classes_of, opened_engine
from mhcln.pipeline.feature_batches import Engine
from mhcln.storage import layout
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.features import (
    SHARD_IMAGES,
    file_of,
    read_file,
    read_image_table,
    read_intact,
    shard_path,
    shard_sizes,
    shards_of,
    write_features,
    write_file,
    write_shard_list,
)
from mhcln.storage.files import locked
from mhcln.storage.image_table import ImageTable
from mhcln.storage.text_files import write_csv


def extract_features(options: ExtractOptions, console: Console) -> None:
    """Find the images, open the backbone, and write their features; then the features of their rotations."""
    if options.training_views > 1 and options.backbone.inference.rotations > 1:
        raise UserError(
            "--training_views keeps the rotations of an image, --views averages them; leave one of them out"
        )
    scan = find_images(options, console)
    for rotation in range(options.training_views):
        if rotation:
            console.say(f"rotation {rotation + 1} of {options.training_views}")
        rotated = options.of_rotation(rotation)
        # `extract` locks the folder of the rotation, not the dump folder around it
        alone = locked(options.dump_dir) if rotation else contextlib.nullcontext()
        with alone, opened_engine(rotated.backbone, rotated, console) as engine:
            extract(scan, engine, rotated, console)


def find_images(options: ExtractOptions, console: Console) -> Scan:
    """Find the images that the options name, and warn of unusual entries of their folder."""
    if options.unlabelled and options.dataset:
        raise UserError("--unlabelled images belong to no --dataset; leave one of the two out")
    if options.unlabelled:
        scan = folders.scan_unlabelled(options.images_dir)
    else:
        scan = folders.scan(options.images_dir, options.dataset)
    for note in scan.notes:
        console.warn(note)
    return scan


def extract(scan: Scan, engine: Engine, options: ExtractOptions, console: Console) -> None:
    """Write the features of all images of `scan`; continue an interrupted extraction of the same images.

    Unchanged images of the dump folder, by path, stamp and extractor, are not computed again. Shards are written one
    after another.

    Args:
        scan: The images.
        engine: Computes the features.
        options: Batch size, dump folder, and the effect of unreadable images.
        console: Where progress is shown.

    Raises:
        KeyboardInterrupt, Terminated: A signal arrived; what was computed is saved.
    """
    dump_dir, started = options.dump_dir, time.monotonic()
    with locked(dump_dir):
        old = read_intact(dump_dir)
        extraction = Extraction(scan, engine, options, console, old)
        count = len(scan.paths)
        if old is not None and _is_complete(old.images, extraction.job, scan, options):
            extraction.finish_part()  # which a process that was killed may have left
            console.say(f"{file_of(dump_dir)} already holds these {len(old.images):,} images; nothing to do")
            return
        if extraction.known:
            console.say(f"{len(extraction.known):,} of {count:,} images are extracted already")
        sizes = [] if old is None else shard_sizes(dump_dir)
        if shards := shards_of(count, options.shard_images or max(sizes, default=SHARD_IMAGES)):
            _write_shards(extraction, shards, dump_dir, options.skip_broken)
        else:
            write_features(dump_dir, extraction.features(range(count)))
        extraction.finish_part()
        images = read_image_table(dump_dir)
        write_skipped(dump_dir, images.skipped_paths, images.skipped_reasons)
    if images.skipped:
        console.warn(f"{images.skipped} of {count} images were skipped, see {dump_dir / layout.SKIPPED}")
    seconds, computed = time.monotonic() - started, extraction.computed
    console.say(f"{len(images):,} images of {len(images.class_names)} classes ({scan.dataset.name})")
    console.say(f"backbone: {engine.extractor}")
    console.say(f"{computed:,} images in {seconds:.1f} s, {computed / max(seconds, 1e-9):.1f} images/s")
    console.say(f"{'wrote' if old is None else 'replaced'} {file_of(dump_dir)}")


def _is_complete(images: ImageTable, job: ExtractionJob, scan: Scan, options: ExtractOptions) -> bool:
    """Return whether features are the result of a job, with the classes of `scan` and the shards of the options."""
    if images.inputs != job.key() or (images.skipped and not options.skip_broken):
        return False
    there = set(images.paths)
    classes = classes_of(scan, [row for row, path in enumerate(scan.paths) if path in there])
    if not all(np.array_equal(value, getattr(images, name)) for name, value in classes.items()):
        return False
    shards = shards_of(len(scan.paths), options.shard_images)
    sizes = [sum(scan.paths[row] in there for row in rows) for rows in shards]
    return options.shard_images is None or shard_sizes(options.dump_dir) == sizes


def _write_shards(extraction: Extraction, shards: list[range], dump_dir: Path, skip_broken: bool) -> None:
    """Write one shard after another, except shards that an earlier process has written; then their list."""
    paths = [shard_path(dump_dir, extraction.shard_key(rows)) for rows in shards]
    for path, rows in zip(paths, shards, strict=True):
        if not _is_whole(path, skip_broken):
            write_file(path, extraction.features(rows))
            extraction.finish_part()
    write_shard_list(dump_dir, paths)


def _is_whole(path: Path, skip_broken: bool) -> bool:
    """Return whether a shard is there, with all of its images if none may be skipped."""
    try:
        images = read_file(path).images
    except UserError:
        return False
    return skip_broken or not images.skipped


def write_skipped(dump_dir: Path, paths: list[str], reasons: list[str]) -> None:
    """Write `skipped.csv` of images that cannot be read; remove it if there are none."""
    if paths:
        write_csv(dump_dir / layout.SKIPPED, ["path", "reason"], zip(paths, reasons, strict=True))
    else:
        (dump_dir / layout.SKIPPED).unlink(missing_ok=True)
