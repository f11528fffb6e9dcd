"""The content of `run.json`: the inputs, the configuration and the outcome of a training run."""

import dataclasses
import hashlib
import json


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a network is trained: the part of a run that its user chooses.

    Attributes:
        bits: Bits of a code.
        loss: Name of the method, one of `mhcln.training.methods.METHODS`.
        alpha: Margin of the triplets, or of orthohash's cosine; 0 for a method without one.
        batch_size: Images in a batch; for mhcln a multiple of 3; 0 for a closed form.
        iterations: Iterations of the optimiser; 0 for a closed form.
        seed: Decides initial weights, batches, and which images are for validation.
        precision: Of the matrix products while training, one of `mhcln.training.methods.PRECISIONS`; weights, losses
            and updates, and the use of the trained network, are float32.
        validate: Share of the training images of each class that is kept for validation, 0 for none.
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
    """The data that a run was trained on, and its paths. A value is None if it is not known.

    Attributes:
        training_views: Rotations and flips of each training image that are trained on; None for the image alone.
        views_sha256: SHA-256 of the SHA-256 of the features of each rotation but the first, one after another.
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
    """Duration, machine and files of a finished run.

    Attributes:
        seconds: Time that training took, over all processes that worked on it.
        device: Name of the processor or GPU.
        tensorflow: Version, as the next four; the last three are of a GPU.
        files: SHA-256 of each file of the run.
        iterations_done: Iterations that were run, if `--finish` or the patience of validation ended the run early.
        can_go_on: Whether `--finish` ended the run early, so that the same command without it trains on.
        best_iteration: With validation: the iteration whose network was kept.
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
    can_go_on: bool = False
    best_iteration: int | None = None


# How batches and dropout masks are drawn: another name refuses checkpoints that would continue with other draws.
DRAWS = "philox int32"
# Paths, and values that follow from features and split, do not change the outcome.
_UNDECIDING = ("images_dir", "split_file", "train_test_duplicates")


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """The content of `run.json`; the outcome is None until the run is finished."""

    inputs: RunInputs
    config: TrainConfig
    outcome: Outcome | None = None

    def configuration(self) -> dict[str, object]:
        """Return the values that decide the outcome, by name."""
        content = {**vars(self.inputs), **vars(self.config)}
        return {name: value for name, value in content.items() if name not in _UNDECIDING}

    def identity(self, open_ended: bool = False) -> str:
        """Return a digest of the configuration and of how it is drawn, which the run's checkpoints carry.

        Args:
            open_ended: Whether a run of more iterations may continue from them.
        """
        content = {**self.configuration(), "draws": DRAWS}
        if open_ended:
            del content["iterations"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
