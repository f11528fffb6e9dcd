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
        alpha: Margin of the triplets, or of orthohash's cosine; 0 for a method without one.
        batch_size: Images in a batch; for mhcln a multiple of 3; 0 for a closed form.
        iterations: Iterations of the optimiser; 0 for a closed form.
        seed: Decides initial weights, batches, and which images are held back.
        precision: Of the matrix products while training, one of `mhcln.training.methods.PRECISIONS`; weights, losses
            and updates, and the use of the trained network, are float32.
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
    """The data that a run was trained on, and where it lay. A value is None if nothing says it.

    Attributes:
        training_views: Views of each training image; None for the image alone.
        views_sha256: SHA-256 of the SHA-256 of the features of each view but the first, one after another.
    """

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
    train_test_duplicates: int | None = None
    training_views: int | None = None
    views_sha256: str | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a finished run came to, and on which machine.

    Attributes:
        seconds: Time that training took, over all processes that worked on it.
        device: Name of the processor or GPU.
        tensorflow: Version of TensorFlow.
        keras: Version of Keras; None in runs of earlier versions.
        cuda: On a GPU: version of CUDA that TensorFlow was built for.
        cudnn: On a GPU: version of cuDNN that TensorFlow was built for.
        driver: On a GPU: version of NVIDIA's driver.
        files: SHA-256 of each file of the run.
        iterations_done: Iterations that were run, if `trainer.py --finish` ended the run; None otherwise.
        best_iteration: With validation: the iteration whose network was kept.
        best_validation: With validation: its mAP@20 on the held-back images.
    """

    seconds: float
    device: str
    tensorflow: str
    keras: str | None = None
    cuda: str | None = None
    cudnn: str | None = None
    driver: str | None = None
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    iterations_done: int | None = None
    best_iteration: int | None = None
    best_validation: float | None = None


# How batches and dropout masks are drawn: another name refuses checkpoints that would continue with other draws.
DRAWS = "philox int32"
# Where things lay, and what follows from features and split, decides nothing about what is learned.
_UNDECIDING = ("images_dir", "split_file", "train_test_duplicates")


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
        return {name: value for name, value in content.items() if name not in _UNDECIDING}

    def identity(self, open_ended: bool = False) -> str:
        """Return a digest of the configuration and of how it is drawn, which the run's checkpoints carry.

        Args:
            open_ended: Whether the checkpoints are also those of a run of more iterations.
        """
        # what nothing says is left out, so that values of later versions leave the digests of earlier runs as they are
        content = {name: value for name, value in self.configuration().items() if value is not None}
        content["draws"] = DRAWS
        if open_ended:
            del content["iterations"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, object]:
        """Return the flat keys of `run.json`."""
        outcome = vars(self.outcome) if self.outcome else {}
        known = {name: value for name, value in outcome.items() if value is not None}
        return {**vars(self.inputs), **vars(self.config), **known, "done": self.outcome is not None}

    @classmethod
    def from_json(cls, content: Mapping[str, object], path: Path) -> "RunRecord":
        """Take apart the flat keys of `run.json`; raises UserError if one is missing or of another type."""
        source = Source(path, layout.retrain(path.parent))
        outcome = source.parse(Outcome, content) if content.get("done") is True else None
        return cls(source.parse(RunInputs, content), source.parse(TrainConfig, content, complete=True), outcome)
