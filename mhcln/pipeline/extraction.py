"""The images of a folder through a backbone, some at a time: to features, or to codes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mhcln.backbone.backbone import open_backbone
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import Console, UserError
from mhcln.data import image_warnings
from mhcln.data.folders import Scan
from mhcln.device import explained, open_device
from mhcln.pipeline.feature_batches import Engine, ThisProcess, compute_missing
from mhcln.pipeline.workers import ClusterOptions, workers
from mhcln.storage import layout
from mhcln.storage.extraction_job import ExtractionJob, unchanged_rows
from mhcln.storage.features import Features
from mhcln.storage.image_info import lonlat_of
from mhcln.storage.image_table import ImageTable
from mhcln.storage.partial_features import PartialFeatures

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
        backbone: The network that extracts the features, and its settings.
        device: What computes, one of `mhcln.device.CHOICES`.
        shard_images: Images of a shard, if there are more; if None, SHARD_IMAGES where images are computed.
        cluster: The workers that compute; this process if none.
        training_views: Rotations of an image that are extracted, each apart, 1 to 8; 1 is the image itself.
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

    def of_rotation(self, rotation: int) -> ExtractOptions:
        """Return the extraction of one rotation of the images, 0 to 7."""
        if not rotation:
            return self
        inference = dataclasses.replace(self.backbone.inference, rotation=rotation)
        backbone = dataclasses.replace(self.backbone, inference=inference)
        return dataclasses.replace(self, dump_dir=layout.rotation_folder(self.dump_dir, rotation), backbone=backbone)


@contextlib.contextmanager
def opened_engine(backbone: BackboneOptions, options: ExtractOptions, console: Console) -> Iterator[Engine]:
    """Open a backbone while the block runs, on the device or the workers that `options` name."""
    if options.cluster:
        with workers(backbone, options.cluster, options.device, console) as engine:
            yield engine
        return
    device = open_device(options.device, console)
    console.say(f"device: {device}, {backbone.inference.precision}")
    with explained("a smaller --batch_size"):
        yield ThisProcess(open_backbone(backbone), console)


class Extraction:
    """The extraction of the images of a folder, some at a time.

    Attributes:
        job: All images, and everything that decides their features.
        known: Rows in `before` of the images that have features already, by path.
        float_scale: The scale of float images, as in ImageTable; "" as long as there are none.
        computed: Number of images that were computed, and not read from part-work.
    """

    def __init__(
        self, scan: Scan, engine: Engine, options: ExtractOptions, console: Console, before: Features | None = None
    ) -> None:
        """Take the images, the engine that computes them, and the features of an earlier extraction."""
        self._scan, self._engine, self._options, self._console, self._before = scan, engine, options, console, before
        batch_size = options.batch_size or engine.batch_size
        self.job = ExtractionJob.of_files(scan.images_dir, scan.paths, engine.extractor, batch_size)
        self.known = {} if before is None else unchanged_rows(before.images, self.job)
        self.float_scale = before.images.float_scale if before is not None and self.known else ""
        self.computed = 0

    def shard_key(self, rows: range) -> str:
        """Return a checksum of everything that decides the content of a shard."""
        classes = self._scan.dataset.name, self._scan.dataset.class_names, self._scan.labels[rows].tolist()
        return hashlib.sha256(json.dumps([self.job.part(list(rows)).key(), *classes]).encode()).hexdigest()

    def features(self, rows: range) -> Features:
        """Return the features of the images of some rows, in their order, without unreadable images."""
        paths, parts = self.job.paths, []
        if self._before is not None and (known := [self.known[paths[row]] for row in rows if paths[row] in self.known]):
            table = dataclasses.replace(self._before.images.at(known), skipped=0, skipped_paths=[], skipped_reasons=[])
            parts.append(Features(self._before.vectors[known], table))
        if missing := [row for row in rows if paths[row] not in self.known]:
            parts.append(self.extract(missing))
        images = ImageTable.joined([part.images for part in parts])
        row_of = {path: row for row, path in enumerate(images.paths)}
        kept = [row for row in rows if paths[row] in row_of]
        order = [row_of[paths[row]] for row in kept]
        whole = dataclasses.replace(
            images.at(order),
            **classes_of(self._scan, kept),
            inputs=self.job.key(),
            model_file=self._engine.model_file,
            stamps=self.job.stamps[kept],
        )
        vectors = parts[0].vectors[:] if len(parts) == 1 else np.concatenate([part.vectors[:] for part in parts])
        return Features(vectors if order == list(range(len(vectors))) else vectors[order], whole)

    def extract(self, rows: list[int]) -> Features:
        """Extract the images of some rows through the backbone; their part-work stays until `finish_part`.

        Images that cannot be read stop the extraction with their list, or are left out.
        """
        job, skip = self.job.part(rows), self._options.skip_broken
        partial = PartialFeatures(self._options.dump_dir, job)
        infos, computed = compute_missing(partial, self._engine, skip, self.float_scale, self._console)
        self.computed += computed
        self.float_scale = self.float_scale or image_warnings.float_scale(infos)
        errors = {path: info.error for path, info in zip(job.paths, infos, strict=True) if info.error}
        if errors and (not skip or len(errors) == len(self.job.paths)):
            raise UserError(_unreadable(errors, len(self.job.paths)))
        for line in image_warnings.sentences(job.paths, infos):
            self._console.warn(line)
        kept = [number for number, info in enumerate(infos) if not info.error]
        images = ImageTable(
            **classes_of(self._scan, [rows[number] for number in kept]),
            images_dir=job.images_dir,
            extractor=job.extractor,
            skipped=len(errors),
            model_file=self._engine.model_file,
            device=self._engine.device,
            software=self._engine.software,
            stamps=job.stamps[kept],
            checksums=np.array([infos[number].checksum for number in kept], np.int64),
            lonlat=lonlat_of([infos[number] for number in kept]),
            float_scale=self.float_scale,
            skipped_paths=list(errors),
            skipped_reasons=list(errors.values()),
        )
        vectors = partial.vectors()
        return Features(vectors if len(kept) == len(vectors) else vectors[kept], images)

    def finish_part(self) -> None:
        """Remove the part-work, once the features of its images are written."""
        PartialFeatures(self._options.dump_dir, self.job).remove()


def classes_of(scan: Scan, rows: list[int]) -> dict[str, Any]:
    """Return the facts that the folders decide about the images of some rows, by the fields of ImageTable."""
    return {
        "labels": scan.labels[rows],
        "paths": [scan.paths[row] for row in rows],
        "class_names": list(scan.dataset.class_names),
        "dataset": scan.dataset.name,
    }


def _unreadable(errors: dict[str, str], count: int) -> str:
    """Return the line about images that cannot be read, by path, of `count` images."""
    listed = ", ".join(f"{path} ({reason})" for path, reason in itertools.islice(errors.items(), LISTED))
    more = f" and {len(errors) - LISTED} more" if len(errors) > LISTED else ""
    found = f"{len(errors)} of {count} images cannot be read: {listed}{more}; repair or remove them"
    return found if len(errors) == count else f"{found}, or leave them out with --on_error=skip"
