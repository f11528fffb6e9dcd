"""Damaged files: whatever byte is flipped in whatever file of a dump folder, nothing wrong is taken for right.

MHCLN_FLIPS says how many flips are tried; the default keeps the test short.
"""

import dataclasses
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.pipeline.hasher import Hasher
from mhcln.storage import formats, layout, runs
from mhcln.storage.features import read_features
from mhcln.storage.features_file import Features
from mhcln.storage.results import read_results

FLIPS = int(os.environ.get("MHCLN_FLIPS", "150"))


def plain(value: object) -> object:
    """Contents of a file as something that can be compared."""
    if hasattr(value, "__dict__"):
        value = vars(value)
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    return (value.dtype.str, value.tobytes()) if isinstance(value, np.ndarray) else value


def model_of(folder: Path) -> list[np.ndarray]:
    return [plain(weight) for weight in Hasher.load(folder).network.get_weights()]


def features_of(folder: Path) -> Features:
    """The features without the SHA-256 of their file, which tells of every changed byte."""
    found = read_features(folder)
    return dataclasses.replace(found, vectors=found.vectors[:], sha256="")


READERS = {
    "features.npz": features_of,
    "split.npz": lambda dump: formats.read_split(dump / "split.npz"),
    "K12/codes.npz": lambda dump: formats.read_codes(dump / "K12"),
    "K12/run.json": lambda dump: runs.read_record(dump / "K12"),
    "K12/results.json": lambda dump: read_results(dump / "K12"),
    "K12/model.keras": lambda dump: model_of(dump / "K12"),
    "K12/activations.npz": lambda dump: runs.read_run(dump / "K12").checked(layout.ACTIVATIONS),
    "K12/history.csv": lambda dump: runs.read_history(runs.read_run(dump / "K12")),
}


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_changes_nothing_or_is_reported(pipeline, tmp_path, name):
    dump = tmp_path / "dump"
    shutil.copytree(pipeline / "dump", dump)
    read, path = READERS[name], dump / name
    right, whole = plain(read(dump)), path.read_bytes()
    rng = random.Random(name)
    reported = 0
    for _ in range(FLIPS // len(READERS) + 1):
        position = rng.randrange(len(whole))
        changed = bytearray(whole)
        changed[position] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            assert plain(read(dump)) == right, f"byte {position} of {name} was flipped, and nobody noticed"
        except UserError as error:
            reported += 1
            assert name.split("/")[-1] in str(error), f"byte {position}: {error}"
    assert reported
