"""Made-up codes, features, runs and results: what tests of several rooms need, made in one place."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mhcln.data import splits
from mhcln.evaluation.definitions import definitions, metric_names, shared_names
from mhcln.hamming.codes import pack, unpack
from mhcln.storage import layout, runs
from mhcln.storage.coded_images import CodedImages, write_codes
from mhcln.storage.features import Features, write_features
from mhcln.storage.image_table import ImageTable
from mhcln.storage.results import ConfusedPair, Cost, Results
from mhcln.storage.run_record import Outcome, RunInputs, RunRecord, TrainConfig
from mhcln.storage.split import write_split

CLASSES = ["airplane", "beach", "mysite"]


def image_table(paths: list[str], labels, class_names: list[str] = CLASSES, **changes) -> ImageTable:
    """What `features.npz` says of images that do not exist."""
    values = {"dataset": "mine", "images_dir": "nowhere", "extractor": "x", **changes}
    return ImageTable(np.asarray(labels, np.int32), paths, class_names, **values)


def noisy_codes(
    bits: int = 8, per_class: int = 6, seed: int = 0, train: int = 2, classes: Sequence[str] = CLASSES
) -> CodedImages:
    """Codes of a class with a fifth of their bits flipped, the first `train` images of each class for training."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), per_class)
    centres = random.integers(0, 2, (len(classes), bits))
    codes = centres[labels] ^ (random.random((len(labels), bits)) < 0.2)
    split = ["train" if row % per_class < train else "test" for row in range(len(labels))]
    paths = [f"{classes[label]}/{row:02}.png" for row, label in enumerate(labels)]
    return coded(pack(codes), bits, labels, paths, split, list(classes))


def coded(codes, bits: int, labels, paths: list[str], split: list[str], class_names: list[str], **more) -> CodedImages:
    """The content of a `codes.npz`; `more` are other fields."""
    return CodedImages(labels, paths, class_names, codes=codes, bits=bits, split=split, **more)


def record(config: TrainConfig, done: bool = True, files: dict[str, str] | None = None, **inputs) -> RunRecord:
    """The content of a `run.json`; `inputs` are fields of RunInputs."""
    outcome = Outcome(seconds=4.5, device="CPU", tensorflow="2.21.0", files=files or {}) if done else None
    return RunRecord(RunInputs(**{"dataset": "mine", "contaminated": 0, **inputs}), config, outcome)


def write_run(dump_dir: Path, name: str = "K8", run: dict[str, object] | None = None, **choices) -> CodedImages:
    """Write a run folder with the codes of `noisy_codes(**choices)` and, if `run` is given, a `run.json`.

    `run` holds the fields of all parts that differ from those of a finished run of the default settings, and `done`.
    """
    folder = dump_dir / name
    folder.mkdir(parents=True)
    codes = noisy_codes(**choices)
    write_codes(folder, codes)
    if run is not None:
        plain = record(TrainConfig(bits=codes.bits))
        parts = [replaced(part, run) for part in (plain.inputs, plain.config, plain.outcome)]
        runs.write_record(folder, RunRecord(*parts[:2], parts[2] if run.get("done", True) else None))
    return codes


def replaced(part, changes: dict[str, object]):
    """A dataclass with those of some values that are its fields."""
    return dataclasses.replace(part, **{name: value for name, value in changes.items() if name in vars(part)})


def archive_part(codes, paths: list[str], images_dir: str = "/images", **changes) -> CodedImages:
    """Images that can be searched; without classes if `labels` and `class_names` are not given."""
    values = {"labels": np.full(len(paths), -1, np.int32), "class_names": [], "bits": 8 * codes.shape[1], **changes}
    return CodedImages(paths=paths, codes=codes, images_dir=images_dir, **values)


def write_images(folder: Path, codes: CodedImages) -> None:
    """Write an image of one colour per class for each path of the codes."""
    for path, label in zip(codes.paths, codes.labels, strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), ("red", "lime", "blue")[label]).save(folder / path)


def draw_images(folder: Path, count: int) -> list[Path]:
    """Write small images of random colours, JPEG, TIFF and PNG by turns, each of another width."""
    drawn = np.random.default_rng(0)
    paths = [folder / f"image {number:02d} é.{('jpg', 'tif', 'png')[number % 3]}" for number in range(count)]
    for number, path in enumerate(paths):
        small = Image.fromarray(drawn.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        small.resize((40 + number, 50)).save(path)
    return paths


def features_of_codes(codes: CodedImages, rows=None) -> Features:
    """Features whose cosines rank as the codes do, +1 and -1 for each bit; of these rows, in this order."""
    rows = np.arange(len(codes.paths)) if rows is None else rows
    vectors = unpack(codes.codes, codes.bits).astype(np.float32) * 2 - 1
    table = image_table([codes.paths[row] for row in rows], codes.labels[rows], codes.class_names)
    return Features(vectors[rows], table)


def separable_features(
    classes: int = 4, per_class: int = 10, width: int = 12, skipped: int = 0, seed: int = 0
) -> Features:
    """Features of classes that a network can learn to tell apart."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class).astype(np.int32)
    vectors = rng.normal(size=(classes, width))[labels] + 0.3 * rng.normal(size=(len(labels), width))
    names = [f"class{number}" for number in range(classes)]
    paths = [f"{names[label]}/{row:03}.png" for row, label in enumerate(labels)]
    return Features(vectors.astype(np.float32), image_table(paths, labels, names, dataset="own", skipped=skipped))


def write_training_inputs(folder: Path, features: Features, seeds=(0,), rule=splits.stratified_split) -> None:
    """Write `features.npz` and a split, or one for each seed."""
    folder.mkdir(parents=True, exist_ok=True)
    write_features(folder, features)
    for seed in seeds:
        split = rule(features.images.paths, features.images.labels, 0.6, seed)
        if seed == seeds[0]:
            write_split(folder / layout.SPLIT, split)
        if len(seeds) > 1:
            write_split(layout.split_path(folder, seed), split)


def results(**changes) -> Results:
    """An evaluation of two classes; `changes` are keys of `results.json`, the set-up and metrics among them."""
    metrics = {name: round(0.9 - 0.01 * place, 4) for place, name in enumerate(metric_names(20))}
    shared = {name: metrics[name] for name in shared_names(20)}
    metrics |= {"distinct_codes": 1312, "bit_correlation_mean": None}
    metrics |= {name: changes.pop(name) for name in metrics if name in changes}
    inputs = RunInputs("mine", extractor="net", split_rule="stratified", split_ratio=0.6, split_seed=0, contaminated=0)
    config = None if changes.get("loss", "") is None else replaced(TrainConfig(bits=2, seed=7), changes)
    values = Results(
        run="K8",
        stamp=None,
        k=20,
        archive="test",
        queries=1200,
        queries_left_out=0,
        searched=1199,
        metrics=metrics,
        precision_by_radius=[0.8, 0.5, 0.25],
        recall_by_radius=[0.3, 0.7, 1.0],
        empty_by_radius=[0.1, 0.0, 0.0],
        per_class={"a": 0.75, "b": 0.25},
        confused_pairs=[ConfusedPair("b", "a", 0.125)],
        inputs=replaced(inputs, changes),
        config=config,
        bits=2,
        iterations_done=None,
        training_seconds=4.5,
        device="CPU",
        tensorflow="2.21.0",
        codes_sha256="00",
        search_seconds=0.1,
        definitions=definitions(20),
        costs=[Cost("features", "2048 floats", 8192, shared), Cost("codes", "2 bits", 1, shared)],
    )
    return replaced(values, changes)
