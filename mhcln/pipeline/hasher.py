"""A trained network as one object that turns features or images into hash codes; training in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone.backbone import Backbone, reopen_backbone
from mhcln.backbone.batches import extract
from mhcln.backbone.recipe import Recipe
from mhcln.console import Console, Quiet, UserError
from mhcln.data import splits
from mhcln.data.duplicates import equal_images
from mhcln.device import check_precision, tf32, trains_with_xla
from mhcln.hamming.codes import binarise, pack
from mhcln.pipeline.training_setup import TrainingData, choose_method, codes_of, prepare, solve, trained_network
from mhcln.quiet_tensorflow import keras
from mhcln.storage import runs
from mhcln.storage.checkpoints import Progress
from mhcln.storage.coded_images import CodedImages
from mhcln.storage.features import Features
from mhcln.storage.mapped import Vectors
from mhcln.storage.run_record import TrainConfig
from mhcln.storage.runs import Run
from mhcln.storage.split import Split
from mhcln.training import loop
from mhcln.training.methods import ClosedForm
from mhcln.training.trained import activations, load_network


@dataclasses.dataclass(frozen=True)
class Hasher:
    """A trained hashing network, and the backbone of its features.

    Attributes:
        network: Maps features `[n, d]` to activations `[n, K]` between 0 and 1.
        extractor: The backbone and its settings, as `features.npz` records them; "" if unknown.
        model_file: Path of the weights of that backbone; "" if unknown.
    """

    network: keras.Model
    extractor: str = ""
    model_file: str = ""

    @classmethod
    def load(cls, run_dir: str | Path) -> Hasher:
        """Open the network of a finished run, such as `dump_dir/K32`."""
        return cls.of_run(runs.read_run(Path(run_dir)))

    @classmethod
    def of_run(cls, run: Run) -> Hasher:
        """Open the network of a run that was read already."""
        return cls(load_network(run), run.inputs.extractor or "", run.codes.model_file)

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return int(self.network.output_shape[1])

    def activations(
        self, vectors: Vectors, source: str = "this array", rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Return the activations `[m, K] float32` of feature vectors, between 0 and 1, from which codes are cut.

        Args:
            vectors: `[n, d] float32`.
            source: The origin of the vectors, for the message about another width than the network's.
            rows: `[m]`, rows of the vectors; None for all.
        """
        return activations(self.network, vectors, rows, source)

    def encode(self, vectors: Vectors, source: str = "this array") -> NDArray[np.uint8]:
        """Return packed codes `[n, ceil(K / 8)] uint8` of feature vectors; arguments as in `activations`."""
        return pack(binarise(self.activations(vectors, source)))

    def encode_split(self, features: Features, split: Split) -> CodedImages:
        """Return the codes of all training and test images of a split, ready to be evaluated."""
        data = TrainingData.of(features, split)
        return codes_of(self.activations(features.vectors, rows=data.used), data)

    def encode_images(self, paths: Sequence[str | Path], model_dir: str | Path | None = None) -> NDArray[np.uint8]:
        """Return packed codes `[n, ceil(K / 8)] uint8` of image files.

        Args:
            paths: The files.
            model_dir: Folder of the backbone's weights, if they are no longer where extraction found them.
        """
        if not paths:
            return self.encode(np.empty((0, self.network.input_shape[1]), np.float32))
        backbone = self.open_backbone(Path(model_dir) if model_dir is not None else None)
        vectors, infos = extract([Path(path) for path in paths], backbone, Quiet())
        for path, info in zip(paths, infos, strict=True):
            if info.error:
                raise UserError(f"{path}: {info.error}")
        return self.encode(vectors)

    def open_backbone(self, model_dir: Path | None = None) -> Backbone:
        """Open the backbone of the training images, from where it was or from `model_dir`."""
        return reopen_backbone(Recipe.parse(self.extractor), self.model_file, model_dir)


def fit(features: Features, split: Split, config: TrainConfig, console: Console | None = None) -> Hasher:
    """Train a hashing network in memory; no file is written.

    Args:
        features: Features of all images.
        split: Which of them train.
        config: How to train.
        console: Where progress and warnings are shown; nowhere if None.
    """
    console = console or Quiet()
    splits.check(split, features.images.paths, Path("split"))
    images = features.images
    data = TrainingData.of(features, split, equal_images(features.vectors, images.paths))
    if duplicates := data.test_duplicates:
        console.warn(f"{duplicates} of {len(data.test)} test images are equal to training images")
    spec = choose_method(config.loss, images)
    if isinstance(spec, ClosedForm):
        return Hasher(solve(data, spec, config), images.extractor, images.model_file)
    check_precision(config.precision)
    learner, validation = prepare(data, spec, config, trains_with_xla(console), console)
    with tf32(config.precision == "tf32"):
        loop.train(learner, Progress(), config.iterations, console, validation=validation)
    network = trained_network(learner, spec, config, validation)
    return Hasher(network, images.extractor, images.model_file)
