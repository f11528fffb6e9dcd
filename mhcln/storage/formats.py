"""What the `.npz` files of a dump folder hold beside the features, and what must be true of it."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.features_file import no_lonlat
from mhcln.storage.files import read_npz
from mhcln.storage.source import Source, write_npz_content


@dataclasses.dataclass(frozen=True)
class Split:
    """The content of `split.npz`: which images train and which test, and how they were chosen.

    Attributes:
        train_paths: Paths of the training images.
        test_paths: Paths of the test images, which are the queries.
        train_test_split: Share of training images among both.
        seed: Seed of the draw, 0 if it was not drawn.
        rule: How it was made, such as "stratified" or "lists".
        validation_paths: Images that the split holds back for validation, and neither trains on nor tests.
        database_paths: Images that the split names as those to be searched; some may be training images.
    """

    train_paths: list[str]
    test_paths: list[str]
    train_test_split: float
    seed: int
    rule: str
    validation_paths: list[str] = dataclasses.field(default_factory=list)
    database_paths: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Codes:
    """The content of `codes.npz`: hash codes and whose they are, in the storage order of `features.npz`.

    Attributes:
        codes: `[n, ceil(bits / 8)] uint8`, packed as by np.packbits.
        bits: Bits of a code.
        labels: `[n] int32`, numbers into `class_names`.
        paths: Path of each image.
        split: "train" or "test" for each image; "database" for one that is searched only.
        class_names: Names of the classes in label order.
        database_paths: Images that the split names as those to be searched; empty if it names none.
        lonlat: Where the images lie, as in ImageTable.
    """

    codes: NDArray[np.uint8]
    bits: int
    labels: NDArray[np.int32]
    paths: list[str]
    split: list[str]
    class_names: list[str]
    database_paths: list[str] = dataclasses.field(default_factory=list)
    lonlat: NDArray[np.float64] = dataclasses.field(default_factory=no_lonlat)

    def rows_of(self, part: str) -> NDArray[np.int64]:
        """Return the rows of a part of the images: "test", "train", "database" or "all"."""
        if part == "all":
            return np.arange(len(self.paths))
        if part == "database":
            return np.flatnonzero(np.isin(self.paths, self.database_paths))
        return np.flatnonzero(np.array(self.split, np.str_) == part)


@dataclasses.dataclass(frozen=True)
class Activations:
    """The content of `activations.npz`: the numbers between 0 and 1 that the codes were cut from, `[n, K] float32`."""

    activations: NDArray[np.float32]
    paths: list[str]


@dataclasses.dataclass(frozen=True)
class Addition:
    """The content of `archives/<name>.npz`, in which earlier versions kept images that were added to an archive.

    `labels` are -1 and `class_names` empty for images without classes. `extractor` and `model_sha256` say what made
    the codes. `activations` are what they were cut from, `[n, K]`; empty in files of earlier versions.
    """

    codes: NDArray[np.uint8]
    bits: int
    labels: NDArray[np.int32]
    paths: list[str]
    class_names: list[str]
    images_dir: str
    extractor: str
    model_sha256: str
    activations: NDArray[np.float32] = dataclasses.field(default_factory=lambda: np.empty((0, 0), np.float32))
    lonlat: NDArray[np.float64] = dataclasses.field(default_factory=no_lonlat)


def write_split(path: Path, content: Split) -> None:
    """Write a split file."""
    write_npz_content(path, _without_empty(content))


def read_split(path: Path, digest: "hashlib._Hash | None" = None) -> Split:
    """Read a split file.

    Whether it leaks test images into training, `mhcln.data.splits.check` says.

    Args:
        path: The file.
        digest: If given, the bytes of the file that is read are added to it.

    Raises:
        UserError: The file is missing or damaged.
    """
    source = Source(path, layout.GENERATE)
    content = source.read(Split, digest=digest)
    source.require_different(content.train_paths)
    source.require_different(content.test_paths)
    source.require_different(content.validation_paths)
    source.require_different(content.database_paths)
    return content


def split_for_seed(dump_dir: Path, seed: int) -> tuple[Path, Split, str]:
    """Read the split that training with `seed` uses: that seed's if several were made, else `split.npz`.

    Returns:
        The file, its content, and the hex SHA-256 of the bytes that were read.

    Raises:
        UserError: The file is missing or damaged, or the splits are for other seeds.
    """
    several = layout.split_paths(dump_dir)
    path = layout.split_path(dump_dir, seed) if several else dump_dir / layout.SPLIT
    if several and path not in several:
        raise UserError(
            f"{dump_dir} has splits for other seeds ({', '.join(file.stem for file in several)}), not for {seed}; "
            f"make them together, {layout.GENERATE} --seed=...,{seed}"
        )
    digest = hashlib.sha256()
    split = read_split(path, digest)
    return path, split, digest.hexdigest()


def write_codes(run_dir: Path, content: Codes) -> None:
    """Write `codes.npz` of a training run."""
    write_npz_content(run_dir / layout.CODES, _without_empty(content))


def read_codes(run_dir: Path, digest: "hashlib._Hash | None" = None) -> Codes:
    """Read `codes.npz` of a training run.

    Args:
        run_dir: Folder of the run.
        digest: If given, the bytes of the file that is read are added to it.

    Raises:
        UserError: The file is missing or damaged.
    """
    source = Source(run_dir / layout.CODES, layout.retrain(run_dir))
    content = source.read(Codes, digest=digest)
    source.require(len(content.split) == len(content.paths), "split and paths differ in length")
    known = {"train", "test", "database"} if content.database_paths else {"train", "test"}
    source.require(set(content.split) <= known, 'split holds more than "train" and "test"')
    source.require(set(content.database_paths) <= set(content.paths), "database_paths are not among paths")
    _require_codes(source, content)
    return content


def write_activations(run_dir: Path, content: Activations) -> None:
    """Write `activations.npz` of a training run."""
    write_npz_content(run_dir / layout.ACTIVATIONS, vars(content))


def read_activations(run_dir: Path, bits: int) -> Activations | None:
    """Read `activations.npz` of a training run; raises UserError if it is missing or damaged.

    Returns:
        None if it does not hold `bits` float32 for each of its paths.
    """
    arrays = read_npz(run_dir / layout.ACTIVATIONS, layout.retrain(run_dir), ["activations", "paths"])
    values, paths = arrays.get("activations"), arrays.get("paths")
    if values is None or paths is None or paths.dtype.kind != "U":
        return None
    if values.shape != (*paths.shape, bits) or paths.ndim != 1 or values.dtype != np.float32:
        return None
    return Activations(values, paths.tolist())


def read_addition(path: Path) -> Addition:
    """Read an addition that an earlier version made; raises UserError if it is missing or damaged."""
    source = Source(path, layout.ADD)
    content = source.read(Addition)
    _require_codes(source, content)
    values = content.activations
    if values.size:
        shape = (len(content.paths), content.bits)
        source.require(values.shape == shape, f"activations are {values.shape}, not {shape}")
        inside = ((values >= 0) & (values <= 1)).all()  # false for what is not a number
        source.require(bool(inside), "activations lie outside 0 to 1")
    return content


def _require_codes(source: Source, content: Codes | Addition) -> None:
    """Require packed codes, padded with zeros, and a label and a path of its own for each image."""
    codes, bits, shape = content.codes, content.bits, (len(content.paths), (content.bits + 7) // 8)
    source.require(bits >= 1, f"bits is {bits}")
    source.require(codes.shape == shape, f"codes are {codes.shape}, not {shape}")
    if bits % 8:
        padding = codes[:, -1] & (0xFF >> bits % 8)
        source.require(not padding.any(), f"codes have bits beyond the {bits} they claim")
    source.require_labels(content.labels, content.class_names, len(content.paths))
    source.require_different(content.paths)
    source.require_lonlat(content.lonlat, len(content.paths))


def _without_empty(content: Split | Codes) -> dict[str, Any]:
    """Return the arrays of a file but for the lists that most splits do not have: those keep their bytes."""
    rare = ("validation_paths", "database_paths")
    return {name: value for name, value in vars(content).items() if name not in rare or value}
