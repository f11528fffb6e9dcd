"""What the methods are trained on and asked for: a share of each class, few images of each, or other classes."""

import numpy as np

import mhcln
from mhcln.data.splits import LISTS, given_split, stratified_split
from mhcln.storage.features import Features
from mhcln.storage.split import Split

RATIO = 0.6
USUAL = "60 % of each class"
UNSEEN_SHARE = 1 / 3  # of the classes: 7 of UCMD's 21


def few(count: int) -> str:
    """Return the name of the protocol with so many training images of each class."""
    return f"{count} of each class"


def unseen(features: Features) -> str:
    """Return the name of the protocol that asks for classes which were not trained on."""
    classes = len(features.images.class_names)
    return f"{classes - round(UNSEEN_SHARE * classes)} classes, asked for {round(UNSEEN_SHARE * classes)} others"


def draw(features: Features, protocol: str, seed: int) -> Split:
    """Draw the training and the test images of a protocol.

    The usual split is what `dataset_generator.py --seed` draws. With few training images they are drawn from
    its training images, and its test images stay, so that all sizes answer the same queries. For unseen classes all
    images of two thirds of the classes train, and all of the others are queries and archive: the protocol of
    zero-shot hashing (Yang et al., "Zero-shot hashing via transferring supervised knowledge", ACM MM 2016).

    Args:
        features: All images.
        protocol: USUAL, or what `few` or `unseen` return.
        seed: Seed of all draws.
    """
    images = features.images
    if protocol == unseen(features):
        order = np.random.default_rng(seed).permutation(len(images.class_names))
        asked = np.isin(images.labels, order[: round(UNSEEN_SHARE * len(order))])
        return given_split(_paths(features, ~asked), _paths(features, asked), LISTS)
    groups = mhcln.equal_images(features.vectors, images.paths)
    split = stratified_split(images.paths, images.labels, RATIO, seed, groups)
    if protocol == USUAL:
        return split
    count = next(number for number in range(1, len(images)) if few(number) == protocol)
    rows = images.rows_of(split.train_paths)
    stream = np.random.default_rng([seed, count])
    chosen = [stream.permutation(rows[images.labels[rows] == label])[:count] for label in np.unique(images.labels)]
    train = [images.paths[row] for row in np.sort(np.concatenate(chosen)).tolist()]
    return given_split(train, split.test_paths, LISTS)


def _paths(features: Features, wanted: np.ndarray) -> list[str]:
    return [features.images.paths[row] for row in np.flatnonzero(wanted).tolist()]


def numbers(text: str) -> list[int]:
    """Parse whole numbers with commas between them."""
    return [int(part) for part in text.split(",")]
