"""Images straight to codes in the archive of a run: described and hashed part by part; their features are not kept."""

import dataclasses
import time
from pathlib import Path

import numpy as np

from mhcln.backbone.recipe import BackboneOptions, Recipe
from mhcln.console import Console, UserError
from mhcln.data import datasets, remarks
from mhcln.data.folders import Scan
from mhcln.device import open_device
from mhcln.hamming.codes import binarise, pack
from mhcln.hamming.ordered import quantise
from mhcln.pipeline.additions import ArchiveWriter, Hashed
from mhcln.pipeline.described import lonlat_of
from mhcln.pipeline.evaluate import open_run
from mhcln.pipeline.extract import ExtractOptions, find_images, opened_engine, unreadable, write_skipped
from mhcln.pipeline.feature_batches import Engine, compute_missing
from mhcln.pipeline.hasher import Hasher, load_network, model_file_of
from mhcln.storage import layout
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.files import locked
from mhcln.storage.partial_features import Findings, PartialFeatures
from mhcln.storage.runs import Run
from mhcln.training.learner import ROWS_PER_CALL

PART_IMAGES = 1 << 16  # described before they are hashed and their features dropped: 0.5 GB of disk at 2,048 floats


def hash_images(run_dir: Path, options: ExtractOptions, console: Console) -> None:
    """Describe images, hash them with the network of a run, and add them to what its queries search.

    Images of the folder that are there with the same stamp stay; those that changed are replaced, those that are gone
    removed.

    Args:
        run_dir: Folder of the run.
        options: The images, and how they are described; the dump folder holds part-work until the images are hashed.
        console: Where progress is shown.

    Raises:
        UserError: The run or the images do not allow it, or the backbone is another than the run's.
        KeyboardInterrupt, Terminated: A signal arrived; what was described or hashed is saved.
    """
    if not (run_dir / layout.CODES).is_file():
        raise UserError(
            f"--hash_with={run_dir} is not the folder of a run; train one with {layout.TRAIN}, or give that, such as "
            f"{layout.DUMP_DIR / layout.run_name(32, 'mhcln', None)}"
        )
    if options.shard_images is not None:
        raise UserError("--shard_images is of features, of which --hash_with keeps none; leave one of the two out")
    if options.training_views > 1:
        raise UserError("--training_views are to train on, and --hash_with trains nothing; leave one of the two out")
    run = open_run(run_dir)
    scan = find_images(options, console)
    with (
        locked(options.dump_dir),
        locked(run.folder / layout.ARCHIVES),
        opened_engine(_backbone(run, options), options, console) as engine,
    ):
        if engine.extractor != run.inputs.extractor:
            raise UserError(
                f"the backbone is {engine.extractor!r}, {run.folder} was trained on {run.inputs.extractor!r}; leave "
                "out the flags of the backbone, which are then those of the run, or give the same"
            )
        if options.cluster:  # whose workers describe; hashing is for this process, and takes them no card
            open_device("cpu", console)
        _Hashing(run, scan, engine, options, console).run()


def _backbone(run: Run, options: ExtractOptions) -> BackboneOptions:
    """Return which backbone to open: that of the flags if there are any but `--model_dir`, else the run's."""
    extractor = run.inputs.extractor or ""
    recipe, flags = Recipe.parse(extractor), dataclasses.replace(options.backbone, model_dir=None)
    chosen = recipe.options if flags == BackboneOptions() else flags
    if chosen.random_seed is not None:
        return dataclasses.replace(chosen, model_dir=options.backbone.model_dir)
    file = model_file_of(run.folder.parent, extractor)
    model_dir = options.backbone.model_dir or (Path(file) if file else None)
    if model_dir is None or not model_dir.exists():
        there = f"its file {model_dir} is gone" if model_dir else "nothing says where its file is"
        raise UserError(f"{run.folder} was trained on {extractor!r}, and {there}; give its folder as --model_dir")
    return dataclasses.replace(chosen, model_dir=model_dir)


class _Hashing:
    """The images of one folder on their way into the archive of a run."""

    def __init__(self, run: Run, scan: Scan, engine: Engine, options: ExtractOptions, console: Console) -> None:
        self._run, self._scan, self._engine, self._options, self._console = run, scan, engine, options, console
        self._hasher = Hasher(load_network(run))
        self._writer = ArchiveWriter(run)
        batch_size = options.batch_size or engine.batch_size
        self._job = ExtractionJob.of_files(scan.images_dir, scan.paths, engine.extractor, batch_size)
        self._images_dir = self._job.images_dir
        self._name = self._writer.name_of_folder(layout.stem(scan.images_dir.resolve().name), self._images_dir)
        self._scales = dict.fromkeys(self._writer.float_scales(self._images_dir), "images of the archive")
        self._problems: dict[str, str] = {}

    def run(self) -> None:
        """Add all images, part by part; each part is in the archive when the next one begins."""
        started, job = time.monotonic(), self._job
        stamp_of = dict(zip(job.paths, map(tuple, job.stamps.tolist()), strict=True))
        there = self._writer.unchanged(self._images_dir, stamp_of)
        missing = [row for row, path in enumerate(job.paths) if path not in there]
        left = PartialFeatures(self._options.dump_dir, job)
        if not there.isdisjoint(left.begun()):  # killed after a part was added, before its features were dropped
            left.remove()
        if there:
            self._console.say(f"{len(there):,} of {len(job.paths):,} images are in the archive already")
        for start in range(0, len(missing), PART_IMAGES):
            self._add(missing[start : start + PART_IMAGES])
            done = len(there) + start + len(missing[start : start + PART_IMAGES])
            self._console.say(f"{done:,} of {len(job.paths):,} images are done")
        if len(self._problems) == len(job.paths):
            raise UserError(f"no image can be read: {unreadable(*self._broken(), len(job.paths))}")
        self._writer.remove_images(self._images_dir, lambda path: path not in stamp_of, unreadable=True)
        self._writer.commit()
        write_skipped(self._options.dump_dir, *self._broken())
        seconds, count = time.monotonic() - started, len(missing)
        if self._problems:
            skipped = self._options.dump_dir / layout.SKIPPED
            self._console.warn(f"{len(self._problems)} of {len(job.paths)} images were skipped, see {skipped}")
        self._console.say(f"{count:,} images in {seconds:.1f} s, {count / max(seconds, 1e-9):.1f} images/s")
        where = f"{self._run.folder / layout.ARCHIVES}, {self._name}"
        self._console.say(f"{len(job.paths) - len(self._problems):,} images in {where}")

    def _broken(self) -> tuple[dict[int, str], list[str]]:
        """Return why images cannot be read by their number, and their paths."""
        return dict(enumerate(self._problems.values())), list(self._problems)

    def _add(self, rows: list[int]) -> None:
        """Describe and hash the images of some rows, and put them into the archive in place of what they replace."""
        partial = PartialFeatures(self._options.dump_dir, self._job.part(rows))
        skip = self._options.skip_broken
        findings, _ = compute_missing(partial, self._engine, skip, self._scales, self._console)
        paths = partial.job.paths
        problems = {paths[row]: reason for row, reason in findings.problems.items()}
        if problems and not skip:
            raise UserError(unreadable(findings.problems, paths, len(paths)))
        self._problems.update(problems)
        images = self._hashed(partial, findings, rows)
        self._writer.remove_images(self._images_dir, set(paths).__contains__)
        if len(images):
            self._writer.append(self._name, self._images_dir, images)
        self._writer.commit()
        partial.remove()
        for line in remarks.sentences({paths[row]: each for row, each in findings.remarks.items()}):
            self._console.warn(line)

    def _hashed(self, partial: PartialFeatures, findings: Findings, rows: list[int]) -> Hashed:
        """Return the images of a job that can be read, hashed batch by batch."""
        job, dataset = partial.job, self._scan.dataset
        source = f"the backbone {job.extractor!r}"
        step = max(1, ROWS_PER_CALL // job.batch_size)
        blocks = [range(start, min(start + step, job.batches)) for start in range(0, job.batches, step)]
        vectors = (np.concatenate([partial.features(batch) for batch in block]) for block in blocks)
        activations = np.concatenate([self._hasher.activations(block, source) for block in vectors])
        lonlat = lonlat_of(findings, len(job.paths))
        images = Hashed(
            codes=pack(binarise(activations)),
            levels=quantise(activations),
            labels=self._scan.labels[rows],
            paths=job.paths,
            class_names=datasets.display_names(dataset.name, dataset.class_names),
            stamps=job.stamps,
            lonlat=lonlat if np.isfinite(lonlat).any() else lonlat[:0],
            float_scale=next(iter(self._scales), ""),
        )
        return images.at(np.array([row for row in range(len(rows)) if row not in findings.problems], np.int64))
