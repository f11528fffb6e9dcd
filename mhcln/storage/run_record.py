"""What a training run depends on and what it came to: the content of `run.json`."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from mhcln.storage import layout
from mhcln.storage.source import Source


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
        outcome = vars(self.outcome) if self.outcome else {}
        known = {name: value for name, value in outcome.items() if value is not None}
        return {**vars(self.inputs), **vars(self.config), **known, "done": self.outcome is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, object], path: Path) -> "RunRecord":
        """Take apart the flat keys of `run.json`; raises UserError if one is missing or of another type."""
        source = Source(path, layout.TRAIN)
        outcome = source.parse(Outcome, content) if content.get("done") is True else None
        return cls(source.parse(RunInputs, content), source.parse(TrainConfig, content, complete=True), outcome)
