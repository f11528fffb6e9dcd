"""The parts of a training: the rows of a split, the learner, the validation, and the network that is kept."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from mhcln.console import Console, UserError
from mhcln.data import datasets, splits
from mhcln.data.duplicates import Rows, equal_across, found_among
from mhcln.hamming.codes import binarise, pack
from mhcln.quiet_tensorflow import keras
from mhcln.storage.coded_images import CodedImages
from mhcln.storage.features import Features
from mhcln.storage.image_table import ImageTable
from mhcln.storage.run_record import TrainConfig
from mhcln.storage.split import Split
from mhcln.training.learner import Learner
from mhcln.training.methods import METHODS, ClosedForm, Iterative, MethodSpec
from mhcln.training.validation import Validation

ALWAYS_A_BATCH = 1024  # images: a small data set may be drawn several times in one batch


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """Features, the equal images `[n]`, and the rows of the images on each side of a split, in storage order."""

    features: Features
    groups: Rows
    train: Rows
    test: Rows
    validation: Rows
    database: Rows

    @classmethod
    def of(cls, features: Features, split: Split, groups: Rows | None = None) -> TrainingData:
        """Find the rows of a split.

        Args:
            features: Features of all images.
            split: The split, of paths that the features have.
            groups: As `mhcln.data.duplicates.equal_images` returns them; None if no images are equal.
        """
        groups = np.arange(len(features.images)) if groups is None else groups
        row_of = {path: row for row, path in enumerate(features.images.paths)}
        sides = (split.train_paths, split.test_paths, split.validation_paths, split.database_paths)
        return cls(features, groups, *(np.array(sorted(row_of[path] for path in side), np.int64) for side in sides))

    @property
    def used(self) -> Rows:
        """Rows of all images that have codes (training, test and database), in storage order."""
        return np.unique(np.concatenate([self.train, self.test, self.database]))

    def training_images(self, rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return vectors `[n, d]` and labels `[n]` of images to train on, rotation by rotation if there are several."""
        rotations, labels = [self.features, *self.features.rotations], self.features.images.labels[rows]
        if len(rotations) == 1:
            return self.features.vectors[rows], labels
        vectors = np.empty((len(rotations), len(rows), self.features.vectors.shape[1]), np.float32)
        for number, rotation in enumerate(rotations):  # one by one: the parts and their whole would be twice as large
            vectors[number] = rotation.vectors[rows]
        return vectors.reshape(-1, vectors.shape[-1]), np.tile(labels, len(rotations))

    @property
    def test_duplicates(self) -> int:
        """Number of test images that are equal to a training image, or to a rotation that is trained on."""
        equal = {row for row, _ in equal_across(self.groups, self.train, self.test)}
        if self.features.rotations:
            alone = self.test[~np.isin(self.test, self.train)]
            rotations = (rotation.vectors[self.train] for rotation in self.features.rotations)
            equal.update(alone[found_among(self.features.vectors[alone], rotations)].tolist())
        return len(equal)


def choose_method(loss: str, images: ImageTable) -> MethodSpec:
    """Return the method of a name, which must be known, and need no classes if the images have none."""
    if loss not in METHODS:
        raise UserError(f"loss={loss!r} is not one of {', '.join(METHODS)}")
    spec = METHODS[loss]
    if not images.class_names and spec.needs_labels:
        others = [f"--loss={name}" for name, other in METHODS.items() if not other.needs_labels]
        raise UserError(f"the images have no classes, from which --loss={loss} learns; {', '.join(others)} need none")
    return spec


def usual_iterations(spec: MethodSpec, images: ImageTable) -> int:
    """Return the iterations of a method: its own number, or the data set's published number; 0 for a closed form."""
    if isinstance(spec, ClosedForm):
        return 0
    return spec.iterations or datasets.load(images.dataset, images.class_names).iterations


def solve(data: TrainingData, spec: ClosedForm, config: TrainConfig) -> keras.Model:
    """Return the network of a method in closed form."""
    vectors, labels = data.training_images(data.train)
    with np.errstate(over="ignore", invalid="ignore"):  # is seen in the weights
        network = spec.solve(config, vectors, _numbered(labels, spec))
    if not all(np.isfinite(weights).all() for weights in network.get_weights()):
        raise UserError(
            f"--loss={config.loss} finds no network for these features, which are nearly all equal; extract them again"
        )
    return network


def _numbered(labels: NDArray[np.int32], spec: MethodSpec) -> NDArray[np.int32]:
    """Number the classes with training images from 0."""
    classes, numbers = np.unique(labels, return_inverse=True)
    if spec.needs_labels and len(classes) < 2:
        raise UserError("the training images have one class; hashing needs two")
    return numbers.astype(np.int32)


def prepare(
    data: TrainingData, spec: Iterative, config: TrainConfig, compile_with_xla: bool, console: Console
) -> tuple[Learner, Validation | None]:
    """Build the learner of the training images, and the validation if the configuration asks for it.

    Args:
        data: Features and split.
        spec: The method.
        config: How to train.
        compile_with_xla: Whether XLA compiles the training loop.
        console: Where unsuitable images are reported.
    """
    vectors, images = data.features.vectors, data.features.images
    rows, validation = data.train, None
    if config.validate:
        rows, watched = _choose_validation(data, config, console)
        if len(watched) < splits.SMALLEST_VALIDATED:
            raise UserError(f"--validate leaves {len(watched)} images for validation, too few; leave it out")
        validation = Validation(vectors[watched], images.labels[watched], config.patience)
    elif len(data.validation):
        console.say(f"{len(data.validation)} validation images of the split have no use without --validate=0.1")
    most = max(len(rows), ALWAYS_A_BATCH)
    if config.batch_size > most:
        raise UserError(
            f"--BATCH_SIZE={config.batch_size} is more than the {len(rows)} training images; give at most {most}"
        )
    training_vectors, labels = data.training_images(rows)
    _warn_of_images(training_vectors, labels, images.class_names, spec.needs_pairs, console)
    labels = _numbered(labels, spec)
    method = spec.build(config, labels, vectors.shape[1])
    return Learner(method, training_vectors, labels, compile_with_xla), validation


def _choose_validation(data: TrainingData, config: TrainConfig, console: Console) -> tuple[Rows, Rows]:
    """Return the training rows, and the validation rows: the split's own, or drawn from its training images."""
    if len(data.validation):
        console.say(f"validation on the {len(data.validation)} validation images of the split")
        return data.train, data.validation
    labels = data.features.images.labels[data.train]
    chosen = splits.draw_validation(labels, config.validate, config.seed, data.groups[data.train])
    return data.train[~chosen], data.train[chosen]


def _warn_of_images(
    vectors: NDArray[np.float32], labels: NDArray[np.int32], class_names: list[str], needs_pairs: bool, console: Console
) -> None:
    if (vectors == vectors[0]).all():
        console.warn("the features of all training images are equal, so nothing can be learned")
    counts = Counter(labels.tolist())
    alone = [class_names[label] for label, count in sorted(counts.items()) if count == 1]
    if alone and needs_pairs:
        console.warn(
            f"{len(alone)} classes have one training image, which can only be a negative: {', '.join(alone[:5])}"
            + (" ..." if len(alone) > 5 else "")
        )
    absent = len(class_names) - len(counts)
    if absent:
        console.warn(f"{absent} of the {len(class_names)} classes have no training image")


def trained_network(
    learner: Learner, spec: Iterative, config: TrainConfig, validation: Validation | None
) -> keras.Model:
    """Return the network of the best validation, without validation the last one; it computes in float32."""
    trained = learner.method.network
    network = spec.network(trained.input_shape[1], config.bits, config.seed)
    network.set_weights(validation.weights if validation else trained.get_weights())
    return network


def codes_of(activations: NDArray[np.float32], data: TrainingData) -> CodedImages:
    """Cut activations `[n, K] float32` of the used rows into codes, with the side of the split of each image.

    An image on both sides, which only the published AID rule allows, counts as a test image.
    """
    rows, images = data.used, data.features.images
    sides = np.select([np.isin(rows, data.test), np.isin(rows, data.train)], ["test", "train"], "database")
    return CodedImages.of(
        images.at(rows),
        pack(binarise(activations)),
        activations.shape[1],
        split=sides.tolist(),
        database_paths=[images.paths[row] for row in data.database.tolist()],
    )
