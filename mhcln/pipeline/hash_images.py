"""Images straight to codes in the archive of a run, part by part; their features are not kept."""

import dataclasses
import time
from pathlib import Path

from mhcln.backbone.recipe import BackboneOptions, Recipe
from mhcln.console import Console, UserError
from mhcln.data.folders import Scan
from mhcln.device import open_device
from mhcln.pipeline.additions import ArchiveWriter, coded
from mhcln.pipeline.extract import find_images, write_skipped
from mhcln.pipeline.extraction import Extraction, ExtractOptions, opened_engine
from mhcln.pipeline.feature_batches import Engine
from mhcln.pipeline.hasher import Hasher
from mhcln.storage import layout
from mhcln.storage.extraction_job import unchanged_rows
from mhcln.storage.files import locked
from mhcln.storage.runs import Run, read_run
from mhcln.training.trained import load_network

PART_IMAGES = 1 << 16  # features on disk at a time: 0.5 GB at 2,048 floats


def hash_images(run_dir: Path, options: ExtractOptions, console: Console) -> None:
    """Extract the features of images, hash them with the network of a run, and add the codes to its archive.

    Codes of unchanged images of the folder stay; codes of changed ones are replaced, and of missing ones removed.

    Args:
        run_dir: Folder of the run.
        options: The images and their extraction; the dump folder holds part-work until the images are hashed.
        console: Where progress is shown.

    Raises:
        KeyboardInterrupt, Terminated: A signal arrived; all finished batches are saved.
    """
    if not (run_dir / layout.CODES).is_file():
        raise UserError(
            f"--hash_with={run_dir} is not the folder of a run; train one with {layout.TRAIN}, or give that, such as "
            f"{layout.DUMP_DIR / layout.run_name(32, 'mhcln', None)}"
        )
    if options.shard_images is not None:
        raise UserError("--shard_images is for features, and --hash_with keeps none; leave one of the two out")
    if options.training_views > 1:
        raise UserError("--training_views is for training, and --hash_with trains nothing; leave one of the two out")
    run = read_run(run_dir)
    scan = find_images(options, console)
    with (
        locked(options.dump_dir),
        locked(run.folder / layout.ARCHIVES),
        opened_engine(_backbone(run, options), options, console) as engine,
    ):
        if engine.extractor != run.inputs.extractor:
            raise UserError(
                f"the backbone is {engine.extractor!r}, {run.folder} was trained on {run.inputs.extractor!r}; leave "
                "out the flags of the backbone to use the run's own, or give the same"
            )
        if options.cluster:  # hashing is for this process, and must take no card from the workers
            open_device("cpu", console)
        _hash(run, scan, engine, options, console)


def _backbone(run: Run, options: ExtractOptions) -> BackboneOptions:
    """Return which backbone to open: that of the flags if there are any but `--model_dir`, else the run's."""
    extractor = run.inputs.extractor or ""
    recipe, flags = Recipe.parse(extractor), dataclasses.replace(options.backbone, model_dir=None)
    chosen = recipe.options if flags == BackboneOptions() else flags
    if chosen.random_seed is not None:
        return dataclasses.replace(chosen, model_dir=options.backbone.model_dir)
    file = run.codes.model_file
    model_dir = options.backbone.model_dir or (Path(file) if file else None)
    if model_dir is None or not model_dir.exists():
        there = f"its file {model_dir} is gone" if model_dir else "its file is not known"
        raise UserError(f"{run.folder} was trained on {extractor!r}, and {there}; give its folder as --model_dir")
    return dataclasses.replace(chosen, model_dir=model_dir)


def _hash(run: Run, scan: Scan, engine: Engine, options: ExtractOptions, console: Console) -> None:
    """Add all images, part by part; each part is in the archive when the next one begins."""
    started, hasher, writer = time.monotonic(), Hasher(load_network(run)), ArchiveWriter(run)
    extraction = Extraction(scan, engine, options, console)
    job, source = extraction.job, f"the backbone {engine.extractor!r}"
    folder, there = job.images_dir, set[str]()
    for _, images in writer.parts_of(folder):
        if images is not None:
            there.update(unchanged_rows(images, job))
            extraction.float_scale = extraction.float_scale or images.float_scale
    name = writer.name_of_folder(folder) or writer.name_of(layout.stem(scan.images_dir.resolve().name), folder)
    missing = [row for row, path in enumerate(job.paths) if path not in there]
    skipped: dict[str, str] = {}
    count = len(job.paths)
    if there:
        console.say(f"{len(there):,} of {count:,} images are in the archive already")
    for start in range(0, len(missing), PART_IMAGES):
        rows = missing[start : start + PART_IMAGES]
        features = extraction.extract(rows)
        skipped.update(zip(features.images.skipped_paths, features.images.skipped_reasons, strict=True))
        writer.remove_images(folder, {job.paths[row] for row in rows}.__contains__)
        if len(features.images):
            writer.append(name, coded(features.images, hasher.activations(features.vectors, source)))
        writer.commit()
        extraction.finish_part()
        console.say(f"{len(there) + start + len(rows):,} of {count:,} images are done")
    wanted = set(job.paths)
    writer.remove_images(folder, lambda path: path not in wanted, damaged=True)
    writer.commit()
    write_skipped(options.dump_dir, list(skipped), list(skipped.values()))
    if skipped:
        console.warn(f"{len(skipped)} of {count} images were skipped, see {options.dump_dir / layout.SKIPPED}")
    seconds = time.monotonic() - started
    console.say(f"{len(missing):,} images in {seconds:.1f} s, {len(missing) / max(seconds, 1e-9):.1f} images/s")
    console.say(f"{count - len(skipped):,} images in {run.folder / layout.ARCHIVES}, {name}")
