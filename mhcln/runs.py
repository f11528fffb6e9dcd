"""Run folders: which configuration a folder holds, whether it is done, and what a finished run leaves there."""

import csv
import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from mhcln import artifacts, files, splits
from mhcln.artifacts import Codes, Features, Split
from mhcln.errors import UserError

# What a run came to, or where it ran; everything else in run.json is its configuration.
OUTCOME = (
    "images_dir",
    "split_file",
    "done",
    "seconds",
    "device",
    "tensorflow",
    "files",
    "best_iteration",
    "best_validation",
)
FILES = ("model.keras", "history.csv", "codes.npz", "activations.npz")
_SHOWN = 16  # characters of a value in a message


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Features and a split of them, as row numbers: `train` and `test` [.] int, `used` both, in storage order."""

    features: Features
    split: Split
    train: np.ndarray
    test: np.ndarray

    @property
    def used(self) -> np.ndarray:
        """Rows of all training and test images, in storage order."""
        return np.union1d(self.train, self.test)


def read_inputs(features: Features, split_file: Path, split: Split) -> tuple[Inputs, int]:
    """Check the split against the features; answer both, and how many test images are also trained on."""
    contaminated = splits.check(split, features.paths, split_file)
    row_of = {path: row for row, path in enumerate(features.paths)}
    train, test = (np.array([row_of[path] for path in side]) for side in (split.train_paths, split.test_paths))
    return Inputs(features, split, np.sort(train), np.sort(test)), contaminated


def describe(
    dump_dir: Path, inputs: Inputs, split_file: Path, contaminated: int, flags: dict[str, Any]
) -> dict[str, Any]:
    """The configuration of a run, as `run.json` keeps it: what was read, and the `flags` of the training."""
    features, split = inputs.features, inputs.split
    return {
        "dataset": features.dataset,
        "images_dir": features.images_dir,
        "extractor": features.extractor,
        "features_sha256": files.sha256_of(dump_dir / "features.npz"),
        "feature_width": features.features.shape[1],
        "skipped": features.skipped,
        "split_file": split_file.name,
        "split_rule": split.rule,
        "split_ratio": split.train_test_split,
        "split_seed": split.seed,
        "split_sha256": files.sha256_of(split_file),
        "contaminated": contaminated,
        **flags,
        "train_images": len(inputs.train),
        "test_images": len(inputs.test),
        "done": False,
    }


def identity(run: dict[str, Any]) -> str:
    """A digest of a run's configuration, which its checkpoints carry."""
    return hashlib.sha256(json.dumps(_configuration(run), sort_keys=True).encode()).hexdigest()


def _configuration(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key not in OUTCOME}


def is_done(folder: Path, run: dict[str, Any]) -> bool:
    """Whether `folder` holds this very run, finished and undamaged.

    Raises UserError where it holds another configuration (naming what differs), or files that are not those that
    the run wrote.
    """
    if not (folder / "run.json").exists():
        strangers = [name for name in FILES if (folder / name).exists()]
        if strangers:
            raise UserError(f"{folder} holds {strangers[0]} of an unknown run; choose another --run_name or delete it")
        return False
    found = artifacts.read_run(folder)
    old, new = _configuration(found), _configuration(run)
    differing = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if differing:
        what = ", ".join(f"{key} {_short(old.get(key))} there, {_short(new.get(key))} now" for key in differing)
        raise UserError(f"{folder} holds another run ({what}); choose another --run_name, or delete the folder")
    if not found["done"]:
        return False
    for name, digest in found["files"].items():
        if not (folder / name).is_file() or files.sha256_of(folder / name) != digest:
            raise UserError(
                f"{folder / name} is missing or was changed after training; delete {folder} and train again"
            )
    return True


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def write_outcome(
    folder: Path,
    inputs: Inputs,
    codes: np.ndarray,
    activations: np.ndarray,
    history: list[list[float]],
    names: list[str],
) -> None:
    """Write `codes.npz`, `activations.npz` and `history.csv`; rows are `inputs.used`.

    An image on both sides, which only the published AID rule allows, counts as a test image.
    """
    rows, features = inputs.used, inputs.features
    paths = [features.paths[row] for row in rows]
    side = np.where(np.isin(rows, inputs.test), "test", "train").tolist()
    bits = activations.shape[1]
    artifacts.write_codes(folder, Codes(codes, bits, features.labels[rows], paths, side, features.class_names))
    files.write_npz(
        folder / "activations.npz", {"activations": activations, "paths": np.array(paths), "format": artifacts.FORMAT}
    )
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(names)
    whole = {"iteration", "distinct_codes"}
    table.writerows(
        [int(value) if name in whole else f"{value:.9g}" for name, value in zip(names, row, strict=True)]
        for row in history
    )
    files.write_text(folder / "history.csv", text.getvalue())


def finish(folder: Path, run: dict[str, Any], outcome: dict[str, Any]) -> None:
    """Write `run.json` as done, with the digest of every file of the run: from here on the run counts."""
    digests = {name: files.sha256_of(folder / name) for name in FILES}
    artifacts.write_run(folder, {**run, **outcome, "done": True, "files": digests})
