"""How much memory many images take: peak resident memory of writing their features, splitting, training and hashing.

python tests/benchmarks/large.py [--images=1000000] [--width=2048] [--iterations=300] [--folder=...]

Each step runs in a process of its own, whose peak is printed: `ru_maxrss` of getrusage, which counts the pages of
memory maps too. Features are drawn (classes with noise around a centre), so that no image and no backbone is needed.
1 % of the images train. A million images take 9 GB of disk in `--folder`, which is emptied when all is done.
"""

import argparse
import dataclasses
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import dataset_generator
import eval as evaluation
import trainer
from mhcln.backbone.recipe import RANDOM, Inference, Recipe
from mhcln.console import Console
from mhcln.data.datasets import Dataset
from mhcln.data.folders import Scan
from mhcln.pipeline.extract import extract
from mhcln.pipeline.extraction import ExtractOptions
from mhcln.pipeline.feature_batches import Computed
from mhcln.storage.image_info import ImageInfo
from mhcln.storage.partial_features import PartialFeatures

CLASSES, BATCH, SHARE = 100, 1024, 0.01
LIMIT_GB = 3


@dataclasses.dataclass(frozen=True)
class Task:
    """How many images of which width, and where."""

    images: int
    width: int
    iterations: int
    folder: Path

    @property
    def dump_dir(self) -> Path:
        return self.folder / "dump_dir"


def scan_of(task: Task) -> Scan:
    """A folder of images that are not there."""
    labels = np.sort(np.arange(task.images, dtype=np.int32) % CLASSES)
    names = tuple(f"class{number:03}" for number in range(CLASSES))
    dataset = Dataset("made up", names, names, names)
    return Scan(dataset, task.folder, [f"{names[label]}/{row:08}.tif" for row, label in enumerate(labels)], labels, [])


class Drawing:
    """An engine that draws features; the class of an image is in its path."""

    extractor, model_file, batch_size = str(Recipe(RANDOM, Inference(tiff="pixels"), seed=0)), "", BATCH
    device, software = "CPU", ""

    def __init__(self, width: int) -> None:
        self.centres = np.random.default_rng(0).random((CLASSES, width), np.float32)

    def compute(self, partial: PartialFeatures, batches: list[int], *_: object) -> Computed:
        for batch in batches:
            paths = [partial.job.path(row) for row in partial.job.rows(batch)]
            vectors = self.centres[[int(path[5:8]) for path in paths]]
            vectors += np.random.default_rng(int(paths[0][9:17])).random(vectors.shape, np.float32)
            partial.save(batch, vectors, infos := [ImageInfo()] * len(paths))
            yield batch, infos


def write(task: Task) -> None:
    extract(scan_of(task), Drawing(task.width), ExtractOptions(task.folder, task.dump_dir), Console())


def run(script: object, *flags: str) -> Callable[[Task], None]:
    """Return a step that runs a script."""

    def step(task: Task) -> None:
        filled = [flag.format(folder=task.dump_dir, iterations=task.iterations) for flag in flags]
        script.main(script.parser().parse_args([*filled, f"--dump_dir={task.dump_dir}"]), Console())

    return step


STEPS: dict[str, Callable[[Task], None]] = {
    "write shards": write,
    "nothing to do": write,
    "split": run(dataset_generator, f"--train_test_split={SHARE}"),
    "train orthohash": run(trainer, "--HASH_BITS=32", "--loss=orthohash", "--ITERS={iterations}"),
    "train mhcln": run(trainer, "--HASH_BITS=32", "--ITERS={iterations}"),
    "train itq": run(trainer, "--HASH_BITS=32", "--loss=itq"),
    "train sdh": run(trainer, "--HASH_BITS=32", "--loss=sdh"),
    "hash and add": run(evaluation, "--run_name=K32_orthohash", "--add={folder}"),
}


def measured(name: str, task: Task, results: "multiprocessing.SimpleQueue[float]") -> None:
    """Run a step; put its peak memory in GB into `results`."""
    STEPS[name](task)
    results.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def main() -> int:
    """Run all steps; return 1 if one takes more than the limit besides its training images."""
    parser = argparse.ArgumentParser(description="Peak memory of each step for many images.")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="a folder on a disk with room")
    flags = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="large_", dir=flags.folder))
    task = Task(flags.images, flags.width, flags.iterations, folder)
    context, worst = multiprocessing.get_context("spawn"), 0.0
    try:
        training_gb = SHARE * task.images * task.width * 4 / 1e9
        print(
            f"{task.images:,} images, {training_gb / SHARE:.1f} GB of features, {training_gb:.2f} GB to train",
            flush=True,
        )
        for name in STEPS:
            results = context.SimpleQueue()
            process = context.Process(target=measured, args=(name, task, results))
            started = time.monotonic()
            process.start()
            process.join()
            if process.exitcode:
                return 1
            peak = results.get()
            worst = max(worst, peak)
            print(f"{name:16} {peak:6.2f} GB  {time.monotonic() - started:6.0f} s", flush=True)
    finally:
        shutil.rmtree(folder)
    print(f"largest {worst:.2f} GB, the limit {LIMIT_GB} GB besides the training images {training_gb:.2f} GB")
    return int(worst > LIMIT_GB + training_gb)


if __name__ == "__main__":
    sys.exit(main())
