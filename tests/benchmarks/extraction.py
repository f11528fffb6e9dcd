"""How fast extraction is, as ratios: python tests/benchmarks/extraction.py [--images=128] [--rounds=5].

All sides run in one process, in turn, round after round; a ratio is the median over the rounds of the ratio within a
round, so that other work on the machine troubles both sides alike. The last column counts the processor's seconds
instead of the clock's, which other work on the machine does not spend. With MHCLN_SHARED set: UCMD images and the
2015 graph; without it drawn images, Keras's network with random weights, and nothing that needs the graph file.
"""

import argparse
import gzip
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from PIL import Image

from mhcln.backbone import loader
from mhcln.backbone.backbone import Backbone, open_backbone
from mhcln.backbone.graph_file import GRAPH
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import Quiet
from mhcln.data import datasets
from mhcln.pipeline.extract import ExtractOptions, extract
from mhcln.quiet_tensorflow import keras, tf

BATCH = 32
KERAS = "Keras predict, Pillow loop"
PUBLISHED = "published way, a session per image"
Rates = dict[str, list[float]]
OPERATIONS = 11.42e9  # of InceptionV3's convolutions on one image: 2 x output places x kernel size, summed
FLOOR_SIDE = 2048
FLOOR_IMAGES = 24
PUBLISHED_IMAGES = 3  # about a second each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    shared = Path(os.environ["MHCLN_SHARED"]) if os.environ.get("MHCLN_SHARED") else None
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), shared, flags.images, flags.rounds)


def measure(folder: Path, shared: Path | None, count: int, rounds: int) -> None:
    paths = images(folder / "images", shared, count)
    scan = datasets.scan(folder / "images")
    model_dir, seed = (shared / "models", None) if shared else (None, 0)
    precisions = ("float32", "bfloat16")
    backbones = {name: open_backbone(BackboneOptions(model_dir, seed, precision=name), Quiet()) for name in precisions}
    ready = tf.stack(list(loader.load_images(paths, backbones["float32"], BATCH)))
    model = keras.applications.InceptionV3(weights=None, include_top=False, pooling="avg", input_shape=(299, 299, 3))
    sides: dict[str, Callable[[], int]] = {KERAS: lambda: keras_loop(model, paths)}
    for name, backbone in backbones.items():
        sides[f"network alone, {name}"] = lambda backbone=backbone: network_alone(backbone, ready)
        sides[f"extraction, {name}"] = lambda backbone=backbone: whole_extraction(backbone, scan, folder / "dump")
        sides[f"floor, {name}"] = floor(name)
    if shared:
        sides[PUBLISHED] = published_way(shared, paths)
    for side in sides.values():
        side()
    rates: Rates = {name: [] for name in sides}
    by_processor: Rates = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            started, processor = time.perf_counter(), time.process_time()
            done = side()
            rates[name].append(done / (time.perf_counter() - started))
            by_processor[name].append(done / (time.process_time() - processor))
    tables(rates, by_processor)
    cosine = mean_cosine(*(np.concatenate(list(in_batches(backbones[name], ready))) for name in precisions))
    verdicts(rates, cosine)


def images(folder: Path, shared: Path | None, count: int) -> list[Path]:
    (folder / "all").mkdir(parents=True)
    if shared:
        found = sorted((shared / "data" / "UCMD").glob("*/*.jpg"))
        for path in found[:: max(len(found) // count, 1)][:count]:
            shutil.copy(path, folder / "all" / path.name)
    else:
        random = np.random.default_rng(0)
        for number in range(count):
            small = Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            small.resize((256, 256)).save(folder / "all" / f"{number:04d}.jpg", quality=90)
    return sorted((folder / "all").iterdir())


def keras_loop(model: "keras.Model", paths: list[Path]) -> int:
    loaded = [np.asarray(Image.open(path).convert("RGB").resize((299, 299), Image.BILINEAR)) for path in paths]
    batch = keras.applications.inception_v3.preprocess_input(np.stack(loaded).astype(np.float32))
    model.predict(batch, batch_size=BATCH, verbose=0)
    return len(paths)


def in_batches(backbone: Backbone, ready: tf.Tensor):
    return (backbone.features(ready[first : first + BATCH]) for first in range(0, len(ready), BATCH))


def network_alone(backbone: Backbone, ready: tf.Tensor) -> int:
    return sum(len(part) for part in in_batches(backbone, ready))


def floor(precision: str) -> Callable[[], int]:
    """As many operations as some images take, as products of square matrices, which no network can beat by much."""
    square = tf.cast(tf.random.normal([FLOOR_SIDE, FLOOR_SIDE]), precision)
    product = tf.function(tf.matmul)
    times = round(FLOOR_IMAGES * OPERATIONS / (2 * FLOOR_SIDE**3))

    def run() -> int:
        for _ in range(times):
            product(square, square).numpy()
        return FLOOR_IMAGES

    return run


def whole_extraction(backbone: Backbone, scan: datasets.Scan, dump_dir: Path) -> int:
    shutil.rmtree(dump_dir, ignore_errors=True)
    extract(scan, backbone, ExtractOptions(scan.images_dir, dump_dir, batch_size=BATCH), Quiet())
    return len(scan.paths)


def published_way(shared: Path, paths: list[Path]) -> Callable[[], int]:
    definition = tf.compat.v1.GraphDef.FromString(gzip.decompress((shared / "models" / f"{GRAPH}.gz").read_bytes()))
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(definition, name="")

    def run() -> int:
        for path in paths[:PUBLISHED_IMAGES]:
            with tf.compat.v1.Session(graph=graph) as session:
                session.run("pool_3:0", {"DecodeJpeg/contents:0": path.read_bytes()})
        return PUBLISHED_IMAGES

    return run


def tables(rates: Rates, by_processor: Rates) -> None:
    print(f"{'images per second':36s} median   least    most  times Keras  by processor time")
    for name, values in rates.items():
        spread = f"{statistics.median(values):6.1f}  {min(values):6.1f}  {max(values):6.1f}"
        print(f"{name:36s} {spread}  {ratio(rates, name, KERAS):11.2f}  {ratio(by_processor, name, KERAS):17.2f}")


def ratio(rates: Rates, ours: str, theirs: str) -> float:
    return statistics.median(a / b for a, b in zip(rates[ours], rates[theirs], strict=True))


def mean_cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(np.mean((one * other).sum(axis=1) / lengths))


def verdicts(rates: Rates, cosine: float) -> None:
    wanted = [
        ("float32 extraction, times the Keras loop", ratio(rates, "extraction, float32", KERAS), 1.6),
        ("bfloat16 extraction, times the Keras loop", ratio(rates, "extraction, bfloat16", KERAS), 2.5),
        ("bfloat16, mean cosine with float32", cosine, 0.999),
    ]
    for name in ("float32", "bfloat16"):
        share = ratio(rates, f"extraction, {name}", f"network alone, {name}")
        wanted.append((f"{name} extraction, share of the network alone", share, 0.85))
    if PUBLISHED in rates:
        wanted.append(
            ("float32 extraction, times the published way", ratio(rates, "extraction, float32", PUBLISHED), 10)
        )
    else:
        print("not measured: times the published way (set MHCLN_SHARED to a folder with the 2015 graph)")
    for name, value, least in wanted:
        print(f"{'reached' if value >= least else 'NOT reached'}: {name} {value:.4g}, wanted {least:g}")


if __name__ == "__main__":
    main()
