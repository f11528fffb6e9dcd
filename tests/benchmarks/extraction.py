"""How fast extraction is, as ratios: python tests/benchmarks/extraction.py [--images=128] [--rounds=5].

All sides run in one process, in turn, round after round; a ratio is the median over the rounds of the ratio within a
round, so that other work on the machine troubles both sides alike. The last column counts the processor's seconds
instead of the clock's, which other work on the machine does not spend. With MHCLN_SHARED set: UCMD images and the
2015 graph; without it drawn images, Keras's network with random weights, and nothing that needs the graph file.
OpenVINO and ONNX Runtime run the same layers, where they are installed; they take turns with ours batch by batch.

With --float32 bfloat16 is left out. Under ONEDNN_MAX_CPU_ISA=AVX2, where oneDNN takes the kernels of a processor
without AVX-512, TensorFlow fails at it.

With --null_network: what everything around the network costs. The network returns zeros at once; how much of what the
decoding threads alone do is left, up to the last batch and with the file of all features? Take
--images=12000 or more: the memory of the batches, new at first, is slow until it was written once.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
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
import other_runtimes
from PIL import Image

from mhcln.backbone import keras_inception
from mhcln.backbone.aligned import aligned_array
from mhcln.backbone.backbone import Backbone, find_file, open_backbone
from mhcln.backbone.frozen_graph import GRAPH, read_graph
from mhcln.backbone.layers import Network
from mhcln.backbone.loader import AHEAD, THREADS, GroupLoader, group_size, load_batches
from mhcln.backbone.recipe import BackboneOptions, Inference
from mhcln.console import Quiet
from mhcln.data import folders
from mhcln.pipeline.extract import extract
from mhcln.pipeline.extraction import ExtractOptions
from mhcln.pipeline.feature_batches import ThisProcess, compute_missing
from mhcln.quiet_tensorflow import keras, tf
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.partial_features import PartialFeatures

BATCH = 32
NULL_BATCHES = (32, 128)  # of --null_network: the default sizes
WIDTH = 2048  # of pool_3
KERAS = "Keras predict, Pillow loop"
WANTED = {"float32": 1.6, "bfloat16": 2.5}  # times the Keras loop
DECODING = "decoding threads alone"
FLOOR = "floor, float32"
PUBLISHED = "published way, a session per image"
Rates = dict[str, list[float]]
Run = other_runtimes.Run
OPERATIONS = 11.42e9  # of InceptionV3's convolutions on one image: 2 x output places x kernel size, summed
FLOOR_SIDE = 2048
FLOOR_IMAGES = 24
PUBLISHED_IMAGES = 3  # about a second each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--float32", action="store_true", help="leave bfloat16 out")
    parser.add_argument("--null_network", action="store_true", help="measure what is around the network")
    flags = parser.parse_args()
    shared = Path(os.environ["MHCLN_SHARED"]) if os.environ.get("MHCLN_SHARED") else None
    with tempfile.TemporaryDirectory() as folder:
        paths = images(Path(folder) / "images", shared, flags.images)
        if flags.null_network:
            measure_without_network(Path(folder), paths, shared, flags.rounds)
            return
        precisions = ("float32",) if flags.float32 else tuple(WANTED)
        measure(Path(folder), paths, shared, flags.rounds, precisions)


def measure(folder: Path, paths: list[Path], shared: Path | None, rounds: int, precisions: tuple[str, ...]) -> None:
    scan = folders.scan(folder / "images")
    backbones = {name: opened(shared, name) for name in precisions}
    ready = loaded(paths, backbones["float32"])
    model = keras.applications.InceptionV3(weights=None, include_top=False, pooling="avg", input_shape=(299, 299, 3))
    sides: dict[str, Callable[[], int]] = {KERAS: lambda: keras_loop(model, paths), FLOOR: floor()}
    for name, backbone in backbones.items():
        sides[alone(name)] = lambda backbone=backbone: network_alone(backbone.features, ready)
        sides[f"extraction, {name}"] = lambda backbone=backbone: whole_extraction(backbone, scan, folder / "dump")
    if shared:
        sides[PUBLISHED] = published_way(shared, paths)
    rates, by_processor = rates_of(sides, rounds)
    tables(rates, by_processor, KERAS)
    verdicts(rates, precisions)
    others = other_runtimes.installed(network_of(shared))
    for name, shares in other_runtimes.in_turns(
        backbones["float32"].features, others, in_parts(ready) * rounds
    ).items():
        verdict(f"{alone('float32')}, times {name}, batch by batch", statistics.median(shares), 1)
    opened_ones = (*backbones.values(), opened(shared, "tf32"))
    exact, *half, tf32 = (np.concatenate([each.features(part) for part in in_parts(ready)]) for each in opened_ones)
    for features in half:
        verdict("bfloat16, mean cosine with float32", mean_cosine(exact, features), 0.999)
    moved = np.linalg.norm(tf32 - exact, axis=1) / np.linalg.norm(exact, axis=1)
    print(f"tf32 features, relative distance to float32: median {np.median(moved):.2e}, at most {moved.max():.2e}")


def measure_without_network(folder: Path, paths: list[Path], shared: Path | None, rounds: int) -> None:
    scan = folders.scan(folder / "images")
    null = dataclasses.replace(opened(shared, "float32"), network=lambda images: tf.zeros([len(images), WIDTH]))
    sides: dict[str, Callable[[], int]] = {DECODING: lambda: decoding_alone(paths, null)}
    for size in NULL_BATCHES:
        sides[to_last_batch(size)] = lambda size=size: batches_alone(null, scan, folder / "dump", size)
        sides[without_network(size)] = lambda size=size: whole_extraction(null, scan, folder / "dump", size)
    rates, by_processor = rates_of(sides, rounds)
    tables(rates, by_processor, DECODING)
    for size in NULL_BATCHES:
        for name in (to_last_batch(size), without_network(size)):
            verdict(f"{name}, share of {DECODING}", ratio(rates, name, DECODING), 0.9)


def rates_of(sides: dict[str, Callable[[], int]], rounds: int) -> tuple[Rates, Rates]:
    """Images per second of each side in each round, by the clock and by processor time; one run of each comes first."""
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
    return rates, by_processor


def alone(name: str) -> str:
    return f"network alone, {name}"


def to_last_batch(size: int) -> str:
    return f"to the last batch, null network, {size}"


def without_network(size: int) -> str:
    return f"extraction, null network, batch {size}"


def opened(shared: Path | None, precision: str) -> Backbone:
    model_dir, seed = (shared / "models", None) if shared else (None, 0)
    return open_backbone(BackboneOptions(model_dir, seed, Inference(precision=precision)))


def network_of(shared: Path | None) -> Network:
    if shared:
        return read_graph(find_file(shared / "models"))
    return keras_inception.random_network(0)


def loaded(paths: list[Path], backbone: Backbone) -> np.ndarray:
    with contextlib.closing(load_batches(paths.__getitem__, [range(len(paths))], backbone, held=1)) as batches:
        return next(batches).images


def images(folder: Path, shared: Path | None, count: int) -> list[Path]:
    (folder / "all").mkdir(parents=True)
    if shared:
        found = sorted((shared / "data" / "UCMD").glob("*/*.jpg"))
        for number in range(count):
            shutil.copy(found[number * max(len(found) // count, 1) % len(found)], folder / "all" / f"{number:05d}.jpg")
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


def in_parts(ready: np.ndarray) -> list[np.ndarray]:
    return [ready[first : first + BATCH] for first in range(0, len(ready), BATCH)]


def network_alone(run: Run, ready: np.ndarray) -> int:
    return sum(len(run(part)) for part in in_parts(ready))


def floor() -> Callable[[], int]:
    """As many operations as some images take, as products of square matrices, which no network can beat by much.

    NumPy makes them, with another BLAS than TensorFlow; it has none for bfloat16.
    """
    square = np.random.default_rng(0).standard_normal((FLOOR_SIDE, FLOOR_SIDE), np.float32)
    times = round(FLOOR_IMAGES * OPERATIONS / (2 * FLOOR_SIDE**3))

    def run() -> int:
        for _ in range(times):
            np.matmul(square, square)
        return FLOOR_IMAGES

    return run


def decoding_alone(paths: list[Path], backbone: Backbone) -> int:
    """What the threads of the loader do, and nothing else: all images go to the same few places."""
    loader = GroupLoader(backbone, group_size(BATCH, THREADS))
    places = aligned_array([BATCH * (1 + AHEAD), *backbone.scaling.size, 3])

    def load(first: int) -> None:
        place = first % len(places)
        loader.load(paths[first : first + loader.size], places[place : place + loader.size])

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(load, range(0, len(paths), loader.size)))
    return len(paths)


def whole_extraction(backbone: Backbone, scan: folders.Scan, dump_dir: Path, size: int = BATCH) -> int:
    shutil.rmtree(dump_dir, ignore_errors=True)
    options = ExtractOptions(scan.images_dir, dump_dir, batch_size=size)
    extract(scan, ThisProcess(backbone, Quiet()), options, Quiet())
    return len(scan.paths)


def batches_alone(backbone: Backbone, scan: folders.Scan, dump_dir: Path, size: int) -> int:
    """Batches computed and saved, without `features.npz` at the end."""
    shutil.rmtree(dump_dir, ignore_errors=True)
    dump_dir.mkdir()
    partial = PartialFeatures(dump_dir, ExtractionJob.of_files(scan.images_dir, scan.paths, backbone.extractor, size))
    return compute_missing(partial, ThisProcess(backbone, Quiet()), False, "", Quiet())[1]


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


def tables(rates: Rates, by_processor: Rates, base: str) -> None:
    print(f"times: the rate of a side by the rate of {base}")
    print(f"{'images per second':36s} median   least    most  times  by processor time")
    for name, values in rates.items():
        spread = f"{statistics.median(values):6.1f}  {min(values):6.1f}  {max(values):6.1f}"
        print(f"{name:36s} {spread}  {ratio(rates, name, base):5.2f}  {ratio(by_processor, name, base):17.2f}")


def ratio(rates: Rates, ours: str, theirs: str) -> float:
    return statistics.median(a / b for a, b in zip(rates[ours], rates[theirs], strict=True))


def mean_cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(np.mean((one * other).sum(axis=1) / lengths))


def verdicts(rates: Rates, precisions: tuple[str, ...]) -> None:
    for name in precisions:
        verdict(f"{name} extraction, times the Keras loop", ratio(rates, f"extraction, {name}", KERAS), WANTED[name])
        share = ratio(rates, f"extraction, {name}", alone(name))
        verdict(f"{name} extraction, share of the network alone", share, 0.85)
    print(f"{alone('float32')}, times the floor: {ratio(rates, alone('float32'), FLOOR):.4g}")
    if PUBLISHED in rates:
        verdict("float32 extraction, times the published way", ratio(rates, "extraction, float32", PUBLISHED), 10)
    else:
        print("not measured: times the published way (set MHCLN_SHARED to a folder with the 2015 graph)")


def verdict(name: str, value: float, least: float) -> None:
    print(f"{'reached' if value >= least else 'NOT reached'}: {name} {value:.4g}, wanted {least:g}")


if __name__ == "__main__":
    main()
