"""What a file of features such as `features.npz` holds, and what must be true of it."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.mapped import Vectors
from mhcln.storage.source import Source, write_npz_content

FEATURES_SECTION = "mhcln/README.md says of features of another network"  # which has the line that writes them
FEATURES_MADE_BY = f"{layout.EXTRACT}, or write it as {FEATURES_SECTION}"


def no_lonlat() -> NDArray[np.float64]:
    """Return the `lonlat` of images of which nobody knows where they lie."""
    return np.empty((0, 5, 2))


@dataclasses.dataclass(frozen=True)
class ImageTable:
    """The images of `features.npz`: one row per image, in storage order (class by class, by path within a class).

    Attributes:
        labels: `[n] int32`, numbers into `class_names`; -1 for images without classes.
        paths: Paths relative to `images_dir`, with `/`. A path is an image's identity everywhere.
        class_names: Names of the classes in label order; empty for images without classes.
        dataset: Name of the data set.
        images_dir: Folder that the paths start from.
        extractor: What made the features, enough to say whether two features may be compared.
        skipped: Number of images that could not be read and were left out.
        model_file: Where the backbone's weights lay; "" for weights without a file.
        inputs: Checksum of the image files and of how they were extracted.
        device: Name of the card or "CPU" that the features were computed on; "" if nothing says it.
        software: Versions of what computed them, such as "tensorflow=2.21.0; keras=3.15.1".
        stamps: `[n, 3]`, size, time of change and time of status change of each file; `[0, 3]` if nothing says them.
        lonlat: `[n, 5, 2]` degrees east and north of each image's centre, upper left, lower left, lower right and
            upper right corner, NaN where they are not known; `[0, 5, 2]` if none is.
        float_scale: "unit" or "bytes" if there are float images, which were taken as 0 to 1 or 0 to 255.
    """

    labels: NDArray[np.int32]
    paths: list[str]
    class_names: list[str]
    dataset: str
    images_dir: str
    extractor: str
    skipped: int = 0
    model_file: str = ""
    inputs: str = ""
    device: str = ""
    software: str = ""
    stamps: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.empty((0, 3), np.int64))
    lonlat: NDArray[np.float64] = dataclasses.field(default_factory=no_lonlat)
    float_scale: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    def rows_of(self, paths: Iterable[str]) -> NDArray[np.int64]:
        """Return the rows of these paths, in storage order; raises KeyError if one is unknown."""
        row_of = {path: row for row, path in enumerate(self.paths)}
        return np.sort(np.array([row_of[path] for path in paths], np.int64))

    def part(self, rows: slice) -> "ImageTable":
        """Return the table of some of the images; what is said of all of them stays."""
        arrays = {name: getattr(self, name)[rows] for name in ("labels", "paths", "stamps", "lonlat")}
        return dataclasses.replace(self, **arrays)

    @classmethod
    def joined(cls, parts: Sequence["ImageTable"]) -> "ImageTable":
        """Return the table of all images of which `parts` are parts, in this order."""
        return dataclasses.replace(
            parts[-1],
            labels=np.concatenate([part.labels for part in parts]),
            paths=[path for part in parts for path in part.paths],
            stamps=np.concatenate([part.stamps for part in parts]),
            lonlat=np.concatenate([part.lonlat for part in parts]),
        )


@dataclasses.dataclass(frozen=True)
class Features:
    """The content of `features.npz`, or of the shards that `features.json` lists.

    Attributes:
        vectors: `[n, d] float32`, finite; the array `features` of the file, which may be float16 or float64 there.
            Those of shards stay in their files: `vectors[rows]` are read when they are asked for.
        images: Whose they are, row by row.
        sha256: Hex SHA-256 of the file that they were read from, of the list of shards, which has the SHA-256 of each;
            "" if they were not read.
        views: Features of the same images in other views, which are trained on beside these.
    """

    vectors: Vectors
    images: ImageTable
    sha256: str = ""
    views: tuple["Features", ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _StoredFeatures(ImageTable):
    """The arrays of `features.npz`."""

    features: NDArray[np.float32]


def write_file(path: Path, content: Features) -> None:
    """Write a file of features."""
    write_npz_content(path, {"features": content.vectors, **vars(content.images)})


def read_file(path: Path) -> Features:
    """Read a file of features.

    Raises:
        UserError: The file is missing or damaged, or holds features that are not finite floats.
    """
    source, digest = Source(path, FEATURES_MADE_BY), hashlib.sha256()
    stored = source.read(_StoredFeatures, digest=digest)
    images = ImageTable(**{field.name: getattr(stored, field.name) for field in dataclasses.fields(ImageTable)})
    _require_images(source, images)
    vectors = stored.features
    source.require(vectors.ndim == 2 and vectors.shape[1] > 0, f"features are {vectors.shape}, not [n, d]")
    source.require(len(vectors) == len(images), f"rows and paths differ: {len(vectors)} and {len(images)}")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise UserError(
            f"{source.path}: features of {len(bad)} images are not finite, first {images.paths[bad[0]]}, row {bad[0]}; "
            f"make it again with {source.made_by}"
        )
    return Features(vectors, images, digest.hexdigest())


def read_table(path: Path) -> ImageTable:
    """Read a file of features but for the features themselves; raises UserError if it is missing or damaged."""
    source = Source(path, FEATURES_MADE_BY)
    images = source.read(ImageTable)
    _require_images(source, images)
    return images


def _require_images(source: Source, images: ImageTable) -> None:
    source.require_labels(images.labels, images.class_names, len(images))
    source.require_different(images.paths)
    source.require_lonlat(images.lonlat, len(images))
