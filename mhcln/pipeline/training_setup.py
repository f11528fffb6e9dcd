"""What a training works on: the rows of a split, the learner, the validation; and the network that is kept."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from mhcln.console import Console, UserError
from mhcln.data import splits
from mhcln.data.duplicates import equal_across, equal_images, found_among
from mhcln.hamming.codes import binarise, pack
from mhcln.quiet_tensorflow import keras
from mhcln.storage.features_file import Features, ImageTable
from mhcln.storage.formats import Codes, Split
from mhcln.storage.run_record import TrainConfig
from mhcln.training.learner import Learner
from mhcln.training.methods import METHODS, ClosedForm, Iterative, MethodSpec
from mhcln.training.validation import Validation

ALWAYS_A_BATCH = 1024  # images: a small data set may be drawn several times in one batch


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """Features and a split of them as row numbers.

    Attributes:
        features: All features.
        train: Rows of the training images, in storage order.
        test: Rows of the test images, in storage order.
        validation: Rows of the images that the split holds back for validation, in storage order.
        database: Rows of the images that the split names as those to be searched, in storage order.
    """

    features: Features
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    validation: NDArray[np.int64]
    database: NDArray[np.int64]

    @classmethod
    def of(cls, features: Features, split: Split) -> TrainingData:
        """Find the rows of a split whose paths the features have."""
        sides = (split.train_paths, split.test_paths, split.validation_paths, split.database_paths)
        return cls(features, *map(features.images.rows_of, sides))

    @property
    def used(self) -> NDArray[np.int64]:
        """Rows of all images that have codes: those of training, test and database, in storage order."""
        return np.unique(np.concatenate([self.train, self.test, self.database]))

    def training_images(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return vectors `[n, d]` and labels `[n]` of images to train on, view by view if there are several."""
        views, labels = [self.features, *self.features.views], self.features.images.labels[rows]
        if len(views) == 1:
            return self.features.vectors[rows], labels
        vectors = np.empty((len(views), len(rows), self.features.vectors.shape[1]), np.float32)
        for number, view in enumerate(views):  # one after another: the parts and their whole would be twice as large
            vectors[number] = view.vectors[rows]
        return vectors.reshape(-1, vectors.shape[-1]), np.tile(labels, len(views))

    @functools.cached_property
    def groups(self) -> NDArray[np.int64]:
        """The equal images, as `mhcln.data.duplicates.equal_images` returns them."""
        return equal_images(self.features.vectors, self.features.images.paths)

    @functools.cached_property
    def test_duplicates(self) -> int:
        """Number of test images that are equal to a training image, or to a view of one that is trained on."""
        equal = [row for row, _ in equal_across(self.groups, self.train, self.test)]
        alone = self.test[~np.isin(self.test, self.train)]
        views = (view.vectors[self.train] for view in self.features.views)
        return len({*equal, *alone[found_among(self.features.vectors[alone], views)].tolist()})


def choose_method(loss: str, images: ImageTable) -> MethodSpec:
    """Return the method of a name; raises UserError if there is none, or it needs classes that the images lack."""
    if loss not in METHODS:
        raise UserError(f"loss={loss!r} is not one of {', '.join(METHODS)}")
    method = METHODS[loss]
    if not images.class_names and method.needs_labels:
        others = [f"--loss={name}" for name, other in METHODS.items() if not other.needs_labels]
        raise UserError(f"the images have no classes, from which --loss={loss} learns; {', '.join(others)} need none")
    return method


def solve(data: TrainingData, method: ClosedForm, config: TrainConfig) -> keras.Model:
    """Return the network of a method in closed form; raises UserError if the images do not allow it."""
    vectors, labels = data.training_images(data.train)
    return method.solve(config, vectors, _numbered(labels))


def _numbered(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number the classes that have training images from 0: codes are laid out for no others."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int32)


def prepare(
    data: TrainingData, method: Iterative, config: TrainConfig, compile_with_xla: bool, console: Console
) -> tuple[Learner, Validation | None]:
    """Build what is trained: the learner on the training images, and the validation on those held back.

    Args:
        data: Features and split.
        method: The method that the configuration names.
        config: How to train.
        compile_with_xla: Whether XLA compiles the training loop.
        console: Where it is reported if the images do not suit the method.

    Raises:
        UserError: The images do not allow the training.
    """
    vectors, images = data.features.vectors, data.features.images
    rows, validation = data.train, None
    if config.validate:
        rows, watched = _hold_back(data, config, console)
        if len(watched) < splits.SMALLEST_HELD_BACK:
            raise UserError(f"--validate holds back {len(watched)} images, too few to watch; leave it out")
        validation = Validation(vectors[watched], images.labels[watched], config.patience)
    elif len(data.validation):
        console.say(f"{len(data.validation)} validation images of the split have no use without --validate=0.1")
    _check_batch(config.batch_size, len(rows))
    training_vectors, labels = data.training_images(rows)
    _warn_of_images(training_vectors, labels, images.class_names, method.needs_pairs, console)
    labels = _numbered(labels)
    built = method.build(config, labels, vectors.shape[1])
    return Learner(built, training_vectors, labels, compile_with_xla), validation


def _check_batch(batch_size: int, images: int) -> None:
    most = max(images, ALWAYS_A_BATCH)
    if batch_size > most:
        raise UserError(f"--BATCH_SIZE={batch_size} is more than the {images} training images; give at most {most}")


def _hold_back(
    data: TrainingData, config: TrainConfig, console: Console
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows to train on, and those of the validation images: the split's own, or drawn from its training."""
    if len(data.validation):
        console.say(f"validation on the {len(data.validation)} images that the split holds back for it")
        return data.train, data.validation
    labels = data.features.images.labels[data.train]
    held = splits.hold_back(labels, config.validate, config.seed, data.groups[data.train])
    return data.train[~held], data.train[held]


def _warn_of_images(
    vectors: NDArray[np.float32], labels: NDArray[np.int32], class_names: list[str], needs_pairs: bool, console: Console
) -> None:
    if (vectors == vectors[0]).all():
        console.warn("the features of all training images are equal: nothing can be learned from them")
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
    learner: Learner, method: Iterative, config: TrainConfig, validation: Validation | None
) -> keras.Model:
    """Return the network to keep: that of the best validation, else the last; it computes in float32."""
    exact = dataclasses.replace(config, precision="float32")
    trained = learner.method.network
    network = method.build(exact, learner.labels, trained.input_shape[1]).network
    network.set_weights(validation.weights if validation else trained.get_weights())
    return network


def codes_of(activations: NDArray[np.float32], data: TrainingData) -> Codes:
    """Cut activations `[n, K] float32` of the used rows into codes, with the side of the split of each image.

    An image on both sides, which only the published AID rule allows, counts as a test image.
    """
    rows, images = data.used, data.features.images
    return Codes(
        codes=pack(binarise(activations)),
        bits=activations.shape[1],
        labels=images.labels[rows],
        paths=[images.paths[row] for row in rows.tolist()],
        split=np.select([np.isin(rows, data.test), np.isin(rows, data.train)], ["test", "train"], "database").tolist(),
        class_names=images.class_names,
        database_paths=[images.paths[row] for row in data.database.tolist()],
        lonlat=images.lonlat[rows] if len(images.lonlat) else images.lonlat,
    )
