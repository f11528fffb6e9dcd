"""Walking a data set through the extractor: files decoded in threads while the network runs, batch by batch."""

import collections
import concurrent.futures
import contextlib
import csv
import io
import os
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import numpy as np

from mhcln.artifacts import Features, read_features, write_features
from mhcln.cli import Console
from mhcln.datasets import Scan
from mhcln.errors import UserError
from mhcln.files import locked, write_text
from mhcln.images import ImageError, read_image
from mhcln.inception import Backbone
from mhcln.interrupts import held
from mhcln.partwork import PartWork, job_of
from mhcln.runtime import tf

BATCH_SIZE = 32
SKIPPED = "skipped.csv"
THREADS = min(os.cpu_count() or 1, 16)
LISTED = 10


def extract(
    scan: Scan, backbone: Backbone, dump_dir: Path, batch_size: int, skip_broken: bool, console: Console
) -> None:
    """Write `features.npz` of all images of `scan`; continue where an interrupted run of the same job ended.

    Images that cannot be read stop the run with their list, or go to `skipped.csv` where `skip_broken` says so.
    Raises UserError for them, and KeyboardInterrupt or Terminated once what was computed is saved.
    """
    with locked(dump_dir):
        job = job_of(scan.images_dir, scan.paths, backbone.extractor, batch_size)
        old = _existing(dump_dir)
        part = PartWork(dump_dir, job)
        if old is not None and old.inputs == job.key() and (skip_broken or not old.skipped):
            console.say(f"{dump_dir / 'features.npz'} already holds these {len(old.paths):,} images; nothing to do")
            part.remove()  # a run that was killed between its last two steps leaves it
            return
        started = time.monotonic()
        problems, computed = _run(part, scan.images_dir, backbone, skip_broken, console)
        if problems and not skip_broken:
            raise UserError(_broken(problems, job.paths))
        if len(problems) == len(job.paths):
            raise UserError(f"none of the {len(problems)} images can be read, first {_listed(problems, job.paths, 1)}")
        content = _collected(part, scan, backbone, problems)
        _write_skipped(dump_dir, problems, job.paths)
        write_features(dump_dir, content)
        part.remove()
        if problems:
            console.warn(f"{len(problems)} of {len(job.paths)} images were skipped, see {dump_dir / SKIPPED}")
        _say_summary(content, dump_dir, computed, time.monotonic() - started, old is not None, console)


def describe(
    paths: list[Path], backbone: Backbone, batch_size: int = BATCH_SIZE
) -> tuple[np.ndarray, dict[int, ImageError]]:
    """Features [n, d] float32 of one or more images, made as an archive's are, and what is wrong with which row.

    Rows of images that cannot be read are 0.
    """
    parts: list[np.ndarray] = []
    problems: dict[int, ImageError] = {}
    with contextlib.closing(prepared(paths, backbone, batch_size)) as images:
        for first in range(0, len(paths), batch_size):
            batch, broken = _batch(images, range(first, min(first + batch_size, len(paths))), backbone)
            problems.update(broken)
            parts.append(_masked(backbone.features(batch), broken, first))
    return np.concatenate(parts), problems


def prepared(paths: Iterable[Path], backbone: Backbone, ahead: int) -> "Generator[tf.Tensor | ImageError, None, None]":
    """Images in the network's size, [299, 299, 3] float32, 0 to 255, in order, or what is wrong with them.

    Threads work up to `ahead` images in advance, so that memory does not grow with the number of images. Close it:
    left to the garbage collector, it would wait for its threads wherever that happens to run, maybe for good.
    """

    def prepare(path: Path) -> "tf.Tensor | ImageError":
        try:
            return backbone.resize(decoded(path, read_image(path, backbone.tiff == "jpeg")))
        except ImageError as error:
            return error

    pool = concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="decode")
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    try:
        for path in paths:
            waiting.append(pool.submit(prepare, path))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def decoded(path: Path, content: bytes | np.ndarray) -> "tf.Tensor":
    """Pixels [height, width, 3] uint8; JPEG by TensorFlow's default decoder, as the paper's graph has it.

    Its fast DCT is part of the features: Pillow's exact one moves pool_3 by 5 to 10 %.
    """
    if isinstance(content, np.ndarray):
        return tf.convert_to_tensor(content)
    try:
        with tf.device("CPU"):
            return tf.io.decode_jpeg(content, channels=3)
    except tf.errors.InvalidArgumentError as error:
        raise ImageError(path, "damaged (TensorFlow cannot decode this JPEG)") from error


def _run(
    part: PartWork, images_dir: Path, backbone: Backbone, skip_broken: bool, console: Console
) -> tuple[dict[int, str], int]:
    """Compute the batches that are missing; answer why which rows cannot be read, and how many rows were computed."""
    job = part.job
    done, changes = part.resume()
    problems = {row: reason for found in done.values() for row, reason in found.items()}
    finished = sum(len(job.rows(batch)) for batch in done)
    if changes:
        console.warn(
            f"part-work of an interrupted run fits only in part, since {'; '.join(changes)}; the rest is dropped"
        )
    if done:
        console.say(f"continuing an interrupted run: {finished:,} of {len(job.paths):,} images are done")
    missing = [batch for batch in range(job.batches) if batch not in done]
    paths = (images_dir / job.paths[row] for batch in missing for row in job.rows(batch))
    with (
        contextlib.closing(prepared(paths, backbone, job.batch_size)) as images,
        held() as interrupted,
        console.bar(len(job.paths), "extracting", "image", finished) as bar,
    ):
        for batch in missing:
            rows = job.rows(batch)
            ready, broken = _batch(images, rows, backbone)
            problems.update({row: error.reason for row, error in broken.items()})
            if skip_broken or not problems:
                # once an image is broken nothing is computed any more: only the list is completed
                features = _masked(backbone.features(ready), broken, rows.start)
                _check_finite(features, rows, job.paths, backbone)
                part.save(batch, features, {row: error.reason for row, error in broken.items()})
            bar.update(len(rows))
            if interrupted():
                raise interrupted()
    return problems, len(job.paths) - finished


def _batch(
    images: Iterator["tf.Tensor | ImageError"], rows: range, backbone: Backbone
) -> tuple["tf.Tensor", dict[int, ImageError]]:
    batch, broken = [], {}
    for row in rows:
        image = next(images)
        if isinstance(image, ImageError):
            broken[row] = image
            image = tf.zeros([*backbone.scaling.size, 3])
        batch.append(image)
    with tf.device("CPU"):
        return tf.stack(batch), broken


def _masked(features: np.ndarray, broken: dict[int, ImageError], first: int) -> np.ndarray:
    features[[row - first for row in broken]] = 0
    return features


def _check_finite(features: np.ndarray, rows: range, paths: list[str], backbone: Backbone) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise UserError(
            f"the network answers {paths[rows[bad[0]]]} with numbers that are not finite in {backbone.precision}; "
            "use --precision=float32, or other weights"
        )


def _existing(dump_dir: Path) -> Features | None:
    try:
        return read_features(dump_dir, vectors=False)
    except UserError:  # missing, damaged, or of an older format: made again
        return None


def _collected(part: PartWork, scan: Scan, backbone: Backbone, problems: dict[int, str]) -> Features:
    job = part.job
    kept = [row for row in range(len(job.paths)) if row not in problems]
    features = np.concatenate([part.features(batch) for batch in range(job.batches)])
    return Features(
        features=features[kept] if problems else features,
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


def _write_skipped(dump_dir: Path, problems: dict[int, str], paths: list[str]) -> None:
    if not problems:
        (dump_dir / SKIPPED).unlink(missing_ok=True)
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "reason"])
    table.writerows([paths[row], problems[row]] for row in sorted(problems))
    write_text(dump_dir / SKIPPED, text.getvalue())


def _broken(problems: dict[int, str], paths: list[str]) -> str:
    return (
        f"{len(problems)} of {len(paths)} images cannot be read: {_listed(problems, paths, LISTED)}; "
        "mend or remove them, or leave them out with --on_error=skip"
    )


def _listed(problems: dict[int, str], paths: list[str], most: int) -> str:
    lines = [f"{paths[row]} ({problems[row]})" for row in sorted(problems)[:most]]
    return ", ".join(lines) + (f" and {len(problems) - most} more" if len(problems) > most else "")


def _say_summary(
    content: Features, dump_dir: Path, computed: int, seconds: float, replaced: bool, console: Console
) -> None:
    console.say(f"{len(content.paths):,} images of {len(content.class_names)} classes ({content.dataset})")
    console.say(f"backbone: {content.extractor}")
    console.say(f"{computed:,} images in {seconds:.1f} s, {computed / max(seconds, 1e-9):.1f} images/s")
    console.say(f"{'replaced' if replaced else 'wrote'} {dump_dir / 'features.npz'}")
