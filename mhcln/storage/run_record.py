"""What a training run depends on and what it came to: the content of `run.json`."""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from mhcln.console import UserError
from mhcln.storage import layout

Kind = TypeVar("Kind")
_SHOWN = 16  # characters of a value in a message


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a network is trained: the part of a run that its user chooses.

    Attributes:
        bits: Bits of a code.
        loss: Name of the method, one of `mhcln.training.methods.METHODS`.
        alpha: Margin of the triplets, or of orthohash's cosine.
        batch_size: Images in a batch; for mhcln a multiple of 3.
        iterations: Iterations of the optimiser.
        seed: Decides initial weights, batches, and which images are held back.
        precision: Of the matrix products while training, "float32" or "bfloat16"; weights, losses and updates, and
            the use of the trained network, are float32.
        validate: Share of the training images of each class that is held back, 0 for none.
        patience: Validations without improvement after which training ends, 0 for never.
    """

    bits: int = 32
    loss: str = "mhcln"
    alpha: float = 0.2
    batch_size: int = 90
    iterations: int = 10_000
    seed: int = 0
    precision: str = "float32"
    validate: float = 0.0
    patience: int = 0


@dataclasses.dataclass(frozen=True)
class RunInputs:
    """The data that a run was trained on, and where it lay. A value is None if nothing says it."""

    dataset: str | None = None
    images_dir: str | None = None
    extractor: str | None = None
    features_sha256: str | None = None
    feature_width: int | None = None
    skipped: int | None = None
    split_file: str | None = None
    split_rule: str | None = None
    split_ratio: float | None = None
    split_seed: int | None = None
    split_sha256: str | None = None
    contaminated: int | None = None
    train_images: int | None = None
    test_images: int | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a finished run came to, and on which machine.

    Attributes:
        seconds: Time that training took, over all processes that worked on it.
        device: Name of the processor or GPU.
        tensorflow: Version of TensorFlow.
        files: SHA-256 of each file of the run.
        best_iteration: With validation: the iteration whose network was kept.
        best_validation: With validation: its mAP@20 on the held-back images.
    """

    seconds: float
    device: str
    tensorflow: str
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    best_iteration: int | None = None
    best_validation: float | None = None


# Where things lay decides nothing about what is learned.
_PLACES = ("images_dir", "split_file")


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """The content of `run.json`, whose keys are the fields of all three parts side by side.

    Attributes:
        inputs: The data.
        config: The training.
        outcome: None until the run is finished.
    """

    inputs: RunInputs
    config: TrainConfig
    outcome: Outcome | None = None

    def configuration(self) -> dict[str, object]:
        """Return what decides the outcome, by name."""
        content = {**vars(self.inputs), **vars(self.config)}
        return {name: value for name, value in content.items() if name not in _PLACES}

    def identity(self) -> str:
        """Return a digest of the configuration, which the run's checkpoints carry."""
        return hashlib.sha256(json.dumps(self.configuration(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, object]:
        """Return the flat keys of `run.json`."""
        outcome = (
            {name: value for name, value in vars(self.outcome).items() if value is not None} if self.outcome else {}
        )
        return {**vars(self.inputs), **vars(self.config), **outcome, "done": self.outcome is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, object], path: Path) -> "RunRecord":
        """Take apart the flat keys of `run.json`; raises UserError if one is missing or of another type."""
        outcome = part(Outcome, content, path) if content.get("done") is True else None
        return cls(part(RunInputs, content, path), part(TrainConfig, content, path, complete=True), outcome)


def part(kind: type[Kind], content: Mapping[str, object], path: Path, complete: bool = False) -> Kind:
    """Build a dataclass from JSON; `complete` asks for every field, even for one that has a default."""
    hints = typing.get_type_hints(kind)
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(kind)  # type: ignore[arg-type]
    optional = {
        f.name for f in fields if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
    }
    values: dict[str, object] = {}
    for name, hint in hints.items():
        if name in content:
            if not _is_of(content[name], hint):
                raise UserError(f"{path}: {name} is {shortened(content[name])}; make it again with {layout.TRAIN}")
            values[name] = content[name]
        elif complete or name not in optional:
            raise UserError(f"{path} does not say {name!r}; make it again with {layout.TRAIN}")
    return kind(**values)


def _is_of(value: object, hint: object) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_is_of(value, one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is dict:
        return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is hint


def shortened(value: object) -> str:
    """Return the text of a value, cut where it is long."""
    text = str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
