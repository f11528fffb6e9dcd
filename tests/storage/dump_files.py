"""A dump folder with every kind of file, as small as they get, and how each of them is read."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import factories
import numpy as np

from mhcln.pipeline.additions import ArchiveWriter, coded
from mhcln.storage import archive, files, layout, results, runs, source, text_files
from mhcln.storage.checkpoints import STATE, Checkpoint, Progress
from mhcln.storage.coded_images import read_codes, write_codes
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.features import read_features, read_image_table, write_features
from mhcln.storage.file_list import read_list
from mhcln.storage.image_info import ImageInfo
from mhcln.storage.partial_features import PartialFeatures
from mhcln.storage.run_record import TrainConfig
from mhcln.storage.split import read_split
from mhcln.storage.vectors import write_activations

STAMPS = np.arange(18).reshape(6, 3)
JOB = ExtractionJob("/images", [f"a/{row}.tif" for row in range(6)], STAMPS, "extractor", 6)


class Reader(NamedTuple):
    """How a file is read.

    Attributes:
        read: Reads it out of the dump folder.
        made_by: What every message about it advises.
        optional: Arrays that it may lack; None of a file that holds no arrays.
        may_be_missing: Whether the file itself may.
    """

    read: Callable[[Path], object]
    made_by: str = layout.EXTRACT
    optional: tuple[str, ...] | None = None
    may_be_missing: bool = False


def features(place: Path) -> object:
    """What is read of features but for the SHA-256 of their file, which tells of every changed byte."""
    found = read_features(place)
    return found.vectors[:], found.images, read_image_table(place)


def run_file(name: str) -> Callable[[Path], object]:
    """A reader of a file that run.json has the SHA-256 of."""
    return lambda dump: runs.read_run(dump / "K8").checked(name)


def added(dump: Path) -> object:
    return [(part.codes, list(part.paths), part.images_dir) for part in archive.read_shards(runs.read_run(dump / "K8"))]


def checkpoint(dump: Path) -> Checkpoint:
    return Checkpoint(dump / "K8" / layout.CHECKPOINTS, "id")


OF_IMAGES = ("skipped", "model_file", "inputs", "device", "software", "stamps", "checksums", "lonlat", "float_scale")
READERS = {
    "features.npz": Reader(features, optional=OF_IMAGES),
    "sharded/features.json": Reader(lambda dump: features(dump / "sharded/features.json")),
    "sharded/features/part-1.npz": Reader(lambda dump: features(dump / "sharded/features.json")),
    "extract.part/batch_000000.npz": Reader(lambda dump: PartialFeatures(dump, JOB).read(0), optional=("lonlat",)),
    "split.npz": Reader(lambda dump: read_split(dump / layout.SPLIT), layout.GENERATE, optional=()),
    f"K8/checkpoints/{STATE}": Reader(
        lambda dump: checkpoint(dump).load(), "delete", optional=("kernel",), may_be_missing=True
    ),
    "K8/run.json": Reader(lambda dump: runs.read_record(dump / "K8"), "trainer.py"),
    "K8/codes.npz": Reader(
        lambda dump: read_codes(dump / "K8"), "trainer.py", optional=("dataset", "images_dir", "extractor", *OF_IMAGES)
    ),
    "K8/activations.npz": Reader(run_file(layout.ACTIVATIONS), "trainer.py", may_be_missing=True),
    "K8/model.keras": Reader(run_file(layout.MODEL), "trainer.py", may_be_missing=True),
    "K8/history.csv": Reader(
        lambda dump: runs.read_history(runs.read_run(dump / "K8")), "trainer.py", may_be_missing=True
    ),
    "K8/results.json": Reader(lambda dump: results.read_results(dump / "K8"), layout.EVALUATE),
    "K8/archives/archive.json": Reader(added, layout.ADD),
    "K8/archives/shards/00000001.npz": Reader(added, layout.ADD),
}


def write_dump(folder: Path) -> None:
    """Write all these files."""
    drawn = factories.separable_features(classes=2, per_class=3, width=3, skipped=1)
    factories.write_training_inputs(folder, drawn)
    (folder / "sharded").mkdir()
    write_features(folder / "sharded", drawn, 4)
    entries = [vars(entry) for entry in read_list(folder / "sharded/features.json", "")]
    for number, entry in enumerate(entries):  # names that the table above can say
        renamed = (folder / "sharded/features" / entry["file"]).with_name(f"part-{number}.npz")
        (folder / "sharded/features" / entry["file"]).rename(renamed)
        entry["file"] = renamed.name
    source.write_json_content(folder / "sharded/features.json", {"files": entries})
    partial = PartialFeatures(folder, JOB)
    partial.resume()
    partial.save(0, np.ones((6, 3), np.float32), [ImageInfo(), ImageInfo("empty file"), *[ImageInfo(checksum=3)] * 4])
    run = folder / "K8"
    run.mkdir()
    codes = factories.noisy_codes(per_class=2, train=1)
    write_codes(run, codes)
    write_activations(run, np.full((6, 8), 0.25, np.float32), codes.paths)
    text_files.write_csv(run / layout.HISTORY, ["iteration", "total"], [[100, "0.25"], [200, "-1e-05"]])
    (run / layout.MODEL).write_bytes(bytes(range(100)))  # which nothing here opens
    record = factories.record(TrainConfig(bits=8), images_dir="/images", extractor="x")
    runs.finish(run, record, record.outcome)
    results.write_results(run, factories.results())
    checkpoint(folder).save({"kernel": np.ones((2, 3), np.float32)}, Progress([[100.0, 0.5]], 1.5))
    more = factories.image_table(["x", "y"], [0, 0], ["a"], images_dir="/added")
    with files.locked(run / layout.ARCHIVES):
        writer = ArchiveWriter(runs.read_run(run))
        writer.append("more", coded(more, np.full((2, 8), 0.25, np.float32)))
        writer.commit()


def plain(value: object) -> object:
    """What was read as something that can be compared."""
    if hasattr(value, "__dict__"):
        value = vars(value)
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value
