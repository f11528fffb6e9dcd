"""Every byte of every file of a dump folder, changed three ways: the reader returns the same, or one line.

A file is changed in one byte at a time: a bit is flipped (the next bit for each next byte), or the byte is set to 0 or
to 255. MHCLN_CAMPAIGN, set to anything, tries every byte (of a network, which is large, every 11th), and prints what
came of it; without it every 5th is tried (of a network every 1,999th). Tables and pages for people are read by nobody.
`test_damage.py` does the same at random with files that the scripts made.
"""

import dataclasses
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import factories
import numpy as np
import pytest
from test_damage import features_of, model_of, plain

from mhcln.console import UserError
from mhcln.pipeline.additions import ArchiveWriter
from mhcln.storage import archive, files, formats, layout, results, runs, text_files
from mhcln.storage.checkpoints import STATE, Checkpoint, Progress
from mhcln.storage.extraction_job import ExtractionJob
from mhcln.storage.features import read_image_table, write_features
from mhcln.storage.formats import Activations, Addition
from mhcln.storage.partial_features import Findings, PartialFeatures
from mhcln.storage.run_record import TrainConfig

WHOLE = bool(os.environ.get("MHCLN_CAMPAIGN"))
OLD_RUN = Path(__file__).parents[1] / "pipeline/old_dump/dump/K8_orthohash"
JOB = ExtractionJob("/images", ["a/1.tif", "b/2.tif"], np.arange(6).reshape(2, 3), "extractor", 2)
SHA256 = "0f" * 32


@pytest.fixture(scope="module")
def dump(tmp_path_factory) -> Path:
    """A dump folder with every kind of file, as small as they get."""
    folder = tmp_path_factory.mktemp("bytes")
    features = factories.separable_features(classes=2, per_class=3, width=3, skipped=1)
    factories.write_training_inputs(folder, features)
    (folder / "sharded").mkdir()
    write_features(folder / "sharded", features, 4)
    codes = factories.noisy_codes(per_class=2, train=1)
    run = folder / "K8"
    run.mkdir()
    formats.write_codes(run, codes)
    formats.write_activations(run, Activations(np.full((6, 8), 0.25, np.float32), codes.paths))
    text_files.write_csv(run / layout.HISTORY, ["iteration", "total"], [[100, "0.25"], [200, "-1e-05"]])
    shutil.copy(OLD_RUN / layout.MODEL, run)
    record = factories.record(TrainConfig(bits=8), images_dir="/images", extractor="x")
    runs.finish(run, record, record.outcome)
    results.write_results(run, factories.results())
    (run / layout.ARCHIVES).mkdir()
    digest = files.sha256_of(run / layout.MODEL)
    added = Addition(codes.codes[:2], 8, np.array([0, -1], np.int32), ["x", "y"], ["a"], "/added", "x", digest)
    added = dataclasses.replace(added, labels=np.zeros(2, np.int32))
    factories.write_old_addition(run / layout.ARCHIVES / "more.npz", added)
    sharded = shutil.copytree(run, folder / "sharded" / "K8")
    with files.locked(sharded / layout.ARCHIVES):
        ArchiveWriter(runs.read_run(sharded)).commit()
    checkpoint_of(folder).folder.parent.mkdir()
    weights = {"hidden/kernel": np.ones((2, 3), np.float32), "iteration": np.array(2100)}
    checkpoint_of(folder).save(weights, Progress([[100.0, 0.5]], 1.5))
    partial = PartialFeatures(folder, JOB)
    partial.resume()
    partial.save(0, np.ones((2, 3), np.float32), Findings({1: "empty file"}))
    return folder


def checkpoint_of(dump: Path) -> Checkpoint:
    return Checkpoint(dump / "K9" / layout.CHECKPOINTS, "id")


def activations_of(dump: Path) -> object:
    run = runs.read_run(dump / "K8")
    run.checked(layout.ACTIVATIONS)
    return formats.read_activations(run.folder, 8)


def archive_of(dump: Path) -> object:
    run = runs.read_run(dump / "K8")
    found = archive.load_archive(run, "all", run.codes.class_names)
    return [
        (vars(part) | {"paths": list(part.paths), "shard": vars(part.shard) if part.shard else None})
        for part in found.parts
    ]


READERS: dict[str, list[Callable[[Path], object]]] = {
    "features.npz": [features_of, read_image_table],
    "sharded/features.json": [lambda dump: features_of(dump / "sharded")],
    "sharded/features/part-00001.npz": [
        lambda dump: features_of(dump / "sharded"),
        lambda dump: read_image_table(dump / "sharded"),
    ],
    "split.npz": [lambda dump: formats.read_split(dump / layout.SPLIT)],
    "K8/codes.npz": [lambda dump: formats.read_codes(dump / "K8"), lambda dump: runs.read_run(dump / "K8")],
    "K8/activations.npz": [lambda dump: formats.read_activations(dump / "K8", 8), activations_of],
    "K8/run.json": [lambda dump: runs.read_record(dump / "K8"), lambda dump: runs.read_run(dump / "K8")],
    "K8/history.csv": [lambda dump: runs.read_history(runs.read_run(dump / "K8"))],
    "K8/results.json": [lambda dump: results.read_results(dump / "K8")],
    "K8/archives/more.npz": [lambda dump: formats.read_addition(dump / "K8/archives/more.npz"), archive_of],
    "sharded/K8/archives/archive.json": [lambda dump: archive_of(dump / "sharded")],
    "sharded/K8/archives/shards/00000001.npz": [lambda dump: archive_of(dump / "sharded")],
    f"K9/checkpoints/{STATE}": [lambda dump: checkpoint_of(dump).load()],
    "extract.part/batch_000000.npz": [lambda dump: PartialFeatures(dump, JOB).features(0)],
    "K8/model.keras": [lambda dump: model_of(dump / "K8")],
}


def changes(whole: bytes, step: int) -> Iterator[tuple[int, bytes]]:
    """Yield positions, and the bytes of the file with the byte there changed."""
    for position in range(0, len(whole), step):
        byte = whole[position]
        for new in {byte ^ 1 << position // step % 8, 0, 255} - {byte}:
            yield position, whole[:position] + bytes([new]) + whole[position + 1 :]


def outcome(read: Callable[[Path], object], dump: Path, right: object, name: str) -> str:
    try:
        return "the same" if plain(read(dump)) == right else "WRONG"
    except UserError as error:
        assert "\n" not in str(error)
        return "one line" if name.split("/")[-1] in str(error) else "WITHOUT THE NAME"


@pytest.mark.parametrize("name", READERS)
def test_a_changed_byte_changes_nothing_or_is_reported(dump, name):
    path, network = dump / name, name.endswith(layout.MODEL)
    step = (11 if network else 1) if WHOLE else (1999 if network else 5)
    whole, right = path.read_bytes(), [plain(read(dump)) for read in READERS[name]]
    found: Counter[str] = Counter()
    try:
        for position, content in changes(whole, step):
            path.write_bytes(content)
            for read, expected in zip(READERS[name], right, strict=True):
                what = outcome(read, dump, expected, name)
                assert what in ("the same", "one line"), f"byte {position}: {what}"
                found[what] += 1
    finally:
        path.write_bytes(whole)
    assert found["one line"]
    if WHOLE:
        print(f"\n{name}: {len(whole)} bytes, {sum(found.values())} reads, {dict(found)}")
