"""The images of a data set as one table, one row an image: a part of `features.npz` and of `codes.npz`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from mhcln.storage.source import Paths, Source

Table = TypeVar("Table", bound="ImageTable")

UNKNOWN_STAMP = -2  # of an image whose file was not looked at; -1 is the stamp of a file that does not exist
NO_LONLAT = np.empty((0, 5, 2))
NO_STAMPS = np.empty((0, 3), np.int64)
NO_CHECKSUMS = np.empty(0, np.int64)


@dataclasses.dataclass(frozen=True)
class ImageTable:
    """The images of a file, in storage order.

    `extract_features.py` stores images class by class, and by path within a class. Other programs may use any order.

    Attributes:
        labels: `[n] int32`, numbers into `class_names`; -1 for images without classes.
        paths: Paths relative to `images_dir`, with `/`. A path is an image's identity everywhere.
        class_names: Names of the classes in label order; empty for images without classes.
        dataset: Name of the data set.
        images_dir: Folder that the paths start from.
        extractor: The backbone and its settings. Two features may be compared if their extractors are equal.
        skipped: Number of images that could not be read and were left out.
        model_file: Path of the backbone's weights; "" for weights without a file.
        inputs: Checksum of the image files and of the settings of their extraction.
        device: Name of the card, or "CPU"; "" if it is not known.
        software: Versions of the software, such as "tensorflow=2.21.0; keras=3.15.1".
        stamps: `[n, 3]`, stamp of each file (`mhcln.storage.extraction_job.stamp`); `[0, 3]` if they are not known.
        checksums: `[n]`, CRC-32 of each file; `[0]` if they are not known.
        lonlat: `[n, 5, 2]` degrees east and north of each image's centre, upper left, lower left, lower right and
            upper right corner, NaN where they are not known; `[0, 5, 2]` if none is.
        float_scale: "unit" or "bytes" if there are float images, which were taken as 0 to 1 or 0 to 255.
        skipped_paths: Paths of the images that could not be read.
        skipped_reasons: Why each of them could not be read.
    """

    # fields with one row an image, or empty
    PER_IMAGE: ClassVar[tuple[str, ...]] = ("labels", "paths", "stamps", "checksums", "lonlat")

    labels: NDArray[np.int32]
    paths: Paths
    class_names: list[str]
    dataset: str = ""
    images_dir: str = ""
    extractor: str = ""
    skipped: int = 0
    model_file: str = ""
    inputs: str = ""
    device: str = ""
    software: str = ""
    stamps: NDArray[np.int64] = dataclasses.field(default_factory=NO_STAMPS.copy)
    checksums: NDArray[np.int64] = dataclasses.field(default_factory=NO_CHECKSUMS.copy)
    lonlat: NDArray[np.float64] = dataclasses.field(default_factory=NO_LONLAT.copy)
    float_scale: str = ""
    skipped_paths: list[str] = dataclasses.field(default_factory=list)
    skipped_reasons: list[str] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.paths)

    def rows_of(self, paths: Iterable[str]) -> NDArray[np.int64]:
        """Return the rows of these paths, in storage order.

        Raises:
            KeyError: A path is unknown.
        """
        row_of = {path: row for row, path in enumerate(self.paths)}
        return np.sort(np.array([row_of[path] for path in paths], np.int64))

    def at(self: Table, rows: Sequence[int] | NDArray[np.int64]) -> Table:
        """Return the table of some of the images, in the order of `rows`."""
        taken = np.asarray(rows, np.int64)
        values = {name: getattr(self, name) for name in self.PER_IMAGE}
        return dataclasses.replace(self, **{name: _taken(value, taken) for name, value in values.items() if len(value)})

    @classmethod
    def joined(cls: type[Table], parts: Sequence[Table]) -> Table:
        """Return one table of the images of several, in this order; other facts come from the last."""
        per_image = {name: _joined([getattr(part, name) for part in parts], parts) for name in cls.PER_IMAGE}
        return dataclasses.replace(
            parts[-1],
            **per_image,
            skipped=sum(part.skipped for part in parts),
            device=joined_names(part.device for part in parts),
            software=joined_names(part.software for part in parts),
            float_scale=next((part.float_scale for part in parts if part.float_scale), ""),
            skipped_paths=[path for part in parts for path in part.skipped_paths],
            skipped_reasons=[reason for part in parts for reason in part.skipped_reasons],
        )


def _taken(values: Any, rows: NDArray[np.int64]) -> Any:  # noqa: ANN401, an array or a list
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows.tolist()]


def _joined(values: list[Any], parts: Sequence[ImageTable]) -> Any:  # noqa: ANN401, an array or a list
    """Join values of one row an image. Where some parts do not know them, their rows are NaN, -2 or ""."""
    if not any(map(len, values)):
        return values[0]
    filled = [value if len(value) else _unknown(values, len(part)) for value, part in zip(values, parts, strict=True)]
    if isinstance(filled[0], list):
        return [each for value in filled for each in value]
    return np.concatenate(filled)


def _unknown(values: list[Any], rows: int) -> Any:  # noqa: ANN401, an array or a list
    known = next(value for value in values if len(value))
    if isinstance(known, list):
        return [""] * rows
    return np.full((rows, *known.shape[1:]), np.nan if known.dtype.kind == "f" else UNKNOWN_STAMP, known.dtype)


def joined_names(names: Iterable[str]) -> str:
    """Return the names of several devices or versions as one text, each once: "CPU", or "A100 and CPU"."""
    return " and ".join(dict.fromkeys(name for text in names for name in text.split(" and ") if name))


def require_images(source: Source, images: ImageTable) -> None:
    """Raise UserError unless the arrays of a table that was read belong together."""
    n, classes = len(images), len(images.class_names)
    labels = images.labels
    source.require(labels.shape == (n,), f"labels are {labels.shape}, not a class number for each of {n} images")
    lowest = 0 if classes else -1  # images without classes have the label -1
    inside = not n or (labels.min() >= lowest and labels.max() < max(classes, lowest + 1))
    source.require(bool(inside), f"labels lie outside the {classes} classes")
    source.require_different(images.paths)
    source.require(images.lonlat.shape in ((0, 5, 2), (n, 5, 2)), f"lonlat is {images.lonlat.shape}, not {(n, 5, 2)}")
    source.require(images.stamps.shape in ((0, 3), (n, 3)), f"stamps are {images.stamps.shape}, not {(n, 3)}")
    source.require(images.checksums.shape in ((0,), (n,)), f"checksums are {images.checksums.shape}, not {(n,)}")
    same = len(images.skipped_paths) == len(images.skipped_reasons)
    source.require(same, "skipped_paths and skipped_reasons differ in length")
