"""Images to features: every image of a data set goes through the backbone, batch by batch."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mhcln.backbone.backbone import open_backbone
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import Console, UserError
from mhcln.data import folders, remarks
from mhcln.data.folders import Scan
from mhcln.device import explained, open_device
from mhcln.pipeline.cluster import ClusterOptions
from mhcln.pipeline.described import Joined, described_before, new_features
from mhcln.pipeline.feature_batches import Engine, ThisProcess, compute_missing
from mhcln.pipeline.feature_writing import FeatureWriting
from mhcln.pipeline.workers import workers
from mhcln.storage import layout
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.features import SHARD_IMAGES, file_of, read_intact, shard_sizes, write_features
from mhcln.storage.features_file import Features, ImageTable, no_lonlat
from mhcln.storage.files import locked
from mhcln.storage.partial_features import PartialFeatures
from mhcln.storage.shard_writing import remove_unlisted, shards_of
from mhcln.storage.text_files import write_csv

LISTED = 10  # unreadable images that a message names


@dataclasses.dataclass(frozen=True)
class ExtractOptions:
    """What to extract, and into which folder.

    Attributes:
        images_dir: Folder of class folders; with `unlabelled`, of any folders.
        dump_dir: Folder that gets `features.npz`, or `features.json` and its shards.
        dataset: Name of the data set, if the folder names do not say it.
        unlabelled: Whether to take all images without classes.
        batch_size: Images per run of the network; chosen for the device if None.
        skip_broken: Whether images that cannot be read are left out; if not, they stop the extraction.
        backbone: Which network describes the images, and how.
        device: What computes, one of `mhcln.device.CHOICES`.
        shard_images: Images of a shard, if there are more; if None, SHARD_IMAGES where images are computed.
        cluster: Which workers compute; this process if none.
        training_views: Views of an image that are described, each apart, 1 to 8; 1 is the image as it is.
    """

    images_dir: Path
    dump_dir: Path
    dataset: str | None = None
    unlabelled: bool = False
    batch_size: int | None = None
    skip_broken: bool = False
    backbone: BackboneOptions = dataclasses.field(default_factory=BackboneOptions)
    device: str = "auto"
    shard_images: int | None = None
    cluster: ClusterOptions = dataclasses.field(default_factory=ClusterOptions)
    training_views: int = 1

    def of_view(self, turn: int) -> "ExtractOptions":
        """Return the extraction of one view of the images, 0 to 7."""
        if not turn:
            return self
        backbone = dataclasses.replace(self.backbone, turn=turn)
        return dataclasses.replace(self, dump_dir=layout.view_folder(self.dump_dir, turn), backbone=backbone)


def extract_features(options: ExtractOptions, console: Console) -> None:
    """Find the images, open the backbone, and write their features; then those of their other views, if asked for.

    Raises:
        UserError: There are no images, no such backbone, or images that cannot be read.
    """
    if options.training_views > 1 and options.backbone.views > 1:
        raise UserError("--training_views are single views of an image, --views=8 is their mean; leave one of them out")
    scan = find_images(options, console)
    for turn in range(options.training_views):
        if turn:
            console.say(f"view {turn + 1} of {options.training_views}")
        view = options.of_view(turn)
        alone = locked(options.dump_dir) if turn else contextlib.nullcontext()  # `extract` locks that of the view
        with alone, opened_engine(view.backbone, view, console) as engine:
            extract(scan, engine, view, console)


def find_images(options: ExtractOptions, console: Console) -> Scan:
    """Find the images that the options name; raises UserError if there are none."""
    if options.unlabelled and options.dataset:
        raise UserError("--unlabelled images belong to no --dataset; leave one of the two out")
    if options.unlabelled:
        scan = folders.scan_unlabelled(options.images_dir)
    else:
        scan = folders.scan(options.images_dir, options.dataset)
    for note in scan.notes:
        console.warn(note)
    return scan


@contextlib.contextmanager
def opened_engine(backbone: BackboneOptions, options: ExtractOptions, console: Console) -> Iterator[Engine]:
    """Open a backbone on what computes, while the block runs; `options` say which device or which workers that is."""
    if options.cluster:
        with workers(backbone, options.cluster, options.device, console) as engine:
            yield engine
        return
    device = open_device(options.device, console)
    console.say(f"device: {device}, {backbone.precision}")
    with explained("a smaller --batch_size", console):
        yield ThisProcess(open_backbone(backbone, console), console)


def extract(scan: Scan, engine: Engine, options: ExtractOptions, console: Console) -> None:
    """Write the features of all images of `scan`; continue an interrupted run of the same job.

    Images that the dump folder holds already, by path, stamp and extractor, are not computed again.

    Args:
        scan: The images.
        engine: What computes.
        options: Batch size, dump folder, and what happens to images that cannot be read: they stop the run with their
            list, or go to `skipped.csv`.
        console: Where progress is shown.

    Raises:
        UserError: Images cannot be read.
        KeyboardInterrupt, Terminated: A signal arrived; what was computed is saved.
    """
    dump_dir = options.dump_dir
    with locked(dump_dir):
        batch_size = options.batch_size or engine.batch_size
        job = ExtractionJob.of_files(scan.images_dir, scan.paths, engine.extractor, batch_size)
        old = read_intact(dump_dir)
        same = old is not None and old.images.inputs == job.key()
        if old is not None and same and (options.skip_broken or not old.images.skipped):
            PartialFeatures(dump_dir, job).remove()  # a run that was killed between its last steps leaves that
            remove_unlisted(dump_dir)
            _keep(scan, old, options, console)
            return
        started = time.monotonic()
        known = described_before(old, job)
        missing = [row for row, path in enumerate(job.paths) if path not in known.row_of]
        if known.row_of:
            console.say(f"{len(known.row_of):,} of {len(job.paths):,} images are described already")
        partial = PartialFeatures(dump_dir, job.part(missing))
        findings, count = compute_missing(partial, engine, options.skip_broken, known.scales, console)
        problems, paths = findings.problems, partial.job.paths
        if problems and not options.skip_broken:
            raise UserError(unreadable(problems, paths, len(job.paths)))
        if len(problems) == len(job.paths):
            raise UserError(f"none of the {len(problems)} images can be read, first {_listed(problems, paths, 1)}")
        new = new_features(partial, findings)
        kept = [row for row, path in enumerate(job.paths) if path in known.row_of or path in new.row_of]
        joined = Joined(known, new, [job.paths[row] for row in kept])
        images = _table(joined, kept, scan, engine, job)
        writing = FeatureWriting(dump_dir, images, joined, partial, options.shard_images or SHARD_IMAGES)
        if lost := writing.lost():
            partial.drop(lost)
            count += compute_missing(partial, engine, options.skip_broken, known.scales, console)[1]
        write_skipped(dump_dir, problems, paths)
        file = writing.write(console)
        partial.remove()
    for line in remarks.sentences({paths[row]: each for row, each in findings.remarks.items()}):
        console.warn(line)
    if problems:
        console.warn(f"{len(problems)} of {len(job.paths)} images were skipped, see {dump_dir / layout.SKIPPED}")
    seconds = time.monotonic() - started
    console.say(f"{len(images):,} images of {len(images.class_names)} classes ({scan.dataset.name})")
    console.say(f"backbone: {engine.extractor}")
    console.say(f"{count:,} images in {seconds:.1f} s, {count / max(seconds, 1e-9):.1f} images/s")
    console.say(f"{'wrote' if old is None else 'replaced'} {file}")


def _keep(scan: Scan, old: Features, options: ExtractOptions, console: Console) -> None:
    """Keep the features of the very same images; put them under the classes and the data set of `scan`.

    They stay in one file or in shards as they are, but if the user says how many images a shard shall have.
    """
    dump_dir, images = options.dump_dir, old.images
    there = set(images.paths)
    kept = [row for row, path in enumerate(scan.paths) if path in there]
    classes = _classes(scan, kept)
    sizes = shard_sizes(dump_dir)
    shard_images = options.shard_images or max(sizes, default=None)
    relabelled = not all(np.array_equal(value, getattr(images, name)) for name, value in classes.items())
    file = file_of(dump_dir)
    if not relabelled and sizes == shards_of(len(images), shard_images):
        console.say(f"{file} already holds these {len(images):,} images; nothing to do")
        return
    now = dataclasses.replace(images, **classes)
    write_features(dump_dir, Features(old.vectors, now), shard_images)
    what = f"now of {len(now.class_names)} classes ({now.dataset})" if relabelled else f"now in {file_of(dump_dir)}"
    console.say(f"{file} already held these {len(images):,} images: features kept, {what}")


def _classes(scan: Scan, kept: list[int]) -> dict[str, Any]:
    """Return what the folders decide of the images of some rows, by the fields of ImageTable."""
    return {
        "labels": scan.labels[kept],
        "paths": [scan.paths[row] for row in kept],
        "class_names": list(scan.dataset.class_names),
        "dataset": scan.dataset.name,
    }


def _table(joined: Joined, kept: list[int], scan: Scan, engine: Engine, job: ExtractionJob) -> ImageTable:
    """Return what is said of the images of some rows, which were described before or are new."""
    known, new = joined.sources
    return ImageTable(
        **_classes(scan, kept),
        images_dir=job.images_dir,
        extractor=engine.extractor,
        skipped=len(job.paths) - len(kept),
        model_file=engine.model_file,
        inputs=job.key(),
        device=_both(known.device, engine.device if new.row_of else ""),
        software=_both(known.software, engine.software if new.row_of else ""),
        stamps=job.stamps[kept],
        lonlat=joined.lonlat if np.isfinite(joined.lonlat).any() else no_lonlat(),
        float_scale=next(iter(known.scales), ""),
    )


def _both(before: str, now: str) -> str:
    """Return what computed the features: one name, or two if new images were described by another."""
    return " and ".join(dict.fromkeys(filter(None, (before, now))))


def write_skipped(dump_dir: Path, problems: dict[int, str], paths: list[str]) -> None:
    """Write `skipped.csv` of images that cannot be read, by their row among `paths`; remove it if there are none."""
    if problems:
        rows = [[paths[row], problems[row]] for row in sorted(problems)]
        write_csv(dump_dir / layout.SKIPPED, ["path", "reason"], rows)
    else:
        (dump_dir / layout.SKIPPED).unlink(missing_ok=True)


def unreadable(problems: dict[int, str], paths: list[str], count: int) -> str:
    """Return the line about images that cannot be read, by their row among `paths`, of `count` images."""
    return (
        f"{len(problems)} of {count} images cannot be read: {_listed(problems, paths, LISTED)}; "
        "repair or remove them, or leave them out with --on_error=skip"
    )


def _listed(problems: dict[int, str], paths: list[str], most: int) -> str:
    lines = [f"{paths[row]} ({problems[row]})" for row in sorted(problems)[:most]]
    return ", ".join(lines) + (f" and {len(problems) - most} more" if len(problems) > most else "")
