"""A trained network as one object that turns features or images into hash codes; training in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone.backbone import Backbone, reopen_backbone
from mhcln.backbone.describe import describe
from mhcln.backbone.recipe import Recipe
from mhcln.console import Console, Quiet, UserError
from mhcln.data import splits
from mhcln.device import check_precision, tf32, trains_with_xla
from mhcln.hamming.codes import binarise, pack
from mhcln.pipeline.training_setup import TrainingData, choose_method, codes_of, prepare, solve, trained_network
from mhcln.quiet_tensorflow import keras
from mhcln.storage import layout, runs
from mhcln.storage.checkpoints import Progress
from mhcln.storage.features import is_there, read_maker
from mhcln.storage.features_file import Features
from mhcln.storage.formats import Codes, Split
from mhcln.storage.mapped import Vectors
from mhcln.storage.run_record import TrainConfig
from mhcln.storage.runs import Run
from mhcln.training import loop
from mhcln.training.learner import activations
from mhcln.training.methods import ClosedForm, Iterative
from mhcln.training.network_file import read_network


@dataclasses.dataclass(frozen=True)
class Hasher:
    """A trained hashing network, and what describes the images that it hashes.

    Attributes:
        network: Maps features `[n, d]` to activations `[n, K]` between 0 and 1.
        extractor: What makes features for it, as `features.npz` records it; "" if nothing says it.
        model_file: Where the weights of that backbone lay; "" if nothing says it.
    """

    network: keras.Model
    extractor: str = ""
    model_file: str = ""

    @classmethod
    def load(cls, run_dir: str | Path) -> Hasher:
        """Open the network of a finished run, such as `dump_dir/K32`.

        Raises:
            UserError: The run is not finished, or its `model.keras` is not the one that made its codes.
        """
        return cls.of_run(runs.read_run(Path(run_dir)))

    @classmethod
    def of_run(cls, run: Run) -> Hasher:
        """Open the network of a run that was read already; raises UserError as `load` does."""
        network, extractor = load_network(run), run.inputs.extractor or ""
        return cls(network, extractor, model_file_of(run.folder.parent, extractor))

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return int(self.network.output_shape[1])

    def activations(
        self, vectors: Vectors, source: str = "this array", rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Return the activations of feature vectors, from which codes are cut.

        Args:
            vectors: `[n, d] float32`.
            source: Where the vectors come from, for the message.
            rows: `[m]`, which of the vectors; None for all.

        Returns:
            `[m, K] float32`, between 0 and 1.

        Raises:
            UserError: The vectors are not as wide as the network takes them.
        """
        self.check_width(vectors.shape[1], source)
        return activations(self.network, vectors, rows)

    def check_width(self, found: int, source: str) -> None:
        """Raise UserError if `source` gives features of another width than the network takes."""
        width = self.network.input_shape[1]
        if found != width:
            raise UserError(
                f"{source} gives features of width {found}, the model takes {width}; "
                "extract them with the backbone that the run was trained on"
            )

    def encode(self, vectors: Vectors, source: str = "this array") -> NDArray[np.uint8]:
        """Return packed codes `[n, ceil(K / 8)] uint8` of feature vectors; arguments as those of `activations`."""
        return pack(binarise(self.activations(vectors, source)))

    def encode_split(self, features: Features, split: Split) -> Codes:
        """Return the codes of all training and test images of a split, ready to be evaluated."""
        data = TrainingData.of(features, split)
        return codes_of(self.activations(features.vectors, rows=data.used), data)

    def encode_images(self, paths: Sequence[str | Path], model_dir: str | Path | None = None) -> NDArray[np.uint8]:
        """Return packed codes `[n, ceil(K / 8)] uint8` of image files.

        Args:
            paths: The files.
            model_dir: Folder of the backbone's weights, if they are no longer where extraction found them.

        Raises:
            UserError: An image cannot be read, or the backbone is gone.
        """
        if not paths:
            return self.encode(np.empty((0, self.network.input_shape[1]), np.float32))
        backbone = self.open_backbone(Path(model_dir) if model_dir is not None else None)
        vectors, problems = describe([Path(path) for path in paths], backbone, Quiet())
        if problems:
            raise UserError(str(problems[min(problems)]))
        return self.encode(vectors)

    def open_backbone(self, model_dir: Path | None = None) -> Backbone:
        """Open the backbone that described the training images, from where it was or from `model_dir`.

        Raises:
            UserError: Its weights are gone or are others, or nothing says which backbone it was.
        """
        return reopen_backbone(Recipe.parse(self.extractor), self.model_file, model_dir)


def load_network(run: Run) -> keras.Model:
    """Open the network of a run; raises UserError if it is not the one that made the run's codes."""
    path = run.checked(layout.MODEL)
    if path is None or path.name not in run.files:
        raise UserError(
            f"{run.folder} holds no model.keras that run.json tells of; make it with {layout.retrain(run.folder)}"
        )
    return read_network(path)


def model_file_of(dump_dir: Path, extractor: str) -> str:
    """Return where extraction found the weights, if the features beside the run are those that it was trained on."""
    if not is_there(dump_dir):
        return ""
    maker = read_maker(dump_dir)
    return maker.model_file if maker.extractor == extractor else ""


def fit(features: Features, split: Split, config: TrainConfig, console: Console | None = None) -> Hasher:
    """Train a hashing network in memory; no file is written.

    Args:
        features: Features of all images.
        split: Which of them train.
        config: How to train.
        console: Where progress and warnings are shown; nowhere if None.

    Raises:
        UserError: The split does not fit the features, or the images or the device do not allow the training.
    """
    console = console or Quiet()
    splits.check(split, features.images.paths, Path("split"))
    data, images = TrainingData.of(features, split), features.images
    if data.test_duplicates:
        console.warn(f"{data.test_duplicates} of {len(data.test)} test images are equal to training images")
    method = choose_method(config.loss, images)
    network = solve(data, method, config) if isinstance(method, ClosedForm) else _train(data, method, config, console)
    return Hasher(network, images.extractor, images.model_file)


def _train(data: TrainingData, method: Iterative, config: TrainConfig, console: Console) -> keras.Model:
    check_precision(config.precision)
    learner, validation = prepare(data, method, config, trains_with_xla(console), console)
    with tf32(config.precision == "tf32"):
        loop.train(learner, Progress(), config.iterations, console, validation=validation)
    return trained_network(learner, method, config, validation)
