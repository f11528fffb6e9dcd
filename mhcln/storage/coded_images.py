"""Hash codes and their images: the content of `codes.npz`, and of each shard of images that were added to a run."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mhcln.storage import layout
from mhcln.storage.image_table import ImageTable, require_images
from mhcln.storage.npz import AnyArray
from mhcln.storage.source import Source, write_npz_content

NO_ROWS = np.empty(0, np.uint32)
NO_LEVELS = np.empty((0, 0), np.uint8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodedImages(ImageTable):
    """Images with their codes.

    The last five arrays are the sort order, which a search needs: shards have it in their files, `codes.npz` has not.

    Attributes:
        codes: `[n, ceil(bits / 8)] uint8`, packed as by np.packbits.
        bits: Bits of a code.
        split: "train" or "test" for each image, "database" for one that is only searched; empty for added images.
        database_paths: Images that the split names as those to be searched; empty if it names none.
        model_sha256: SHA-256 of the network that made the codes of an addition.
        levels: `[n, bits]`, activations in 256 steps; in the order of `rows` if there is a sort order; empty if they
            are not known.
        distinct: `[m, ceil(bits / 8)]`, the different codes, sorted.
        first: `[m + 1]`, where the rows of each different code begin in `rows`, and the end.
        rows: `[n]`, rows sorted by code.
        path_order: `[n]`, rows sorted by path.
    """

    PER_IMAGE: ClassVar = (*ImageTable.PER_IMAGE, "codes", "split", "levels")

    codes: NDArray[np.uint8]
    bits: int
    split: list[str] = dataclasses.field(default_factory=list)
    database_paths: list[str] = dataclasses.field(default_factory=list)
    model_sha256: str = ""
    levels: NDArray[np.uint8] = dataclasses.field(default_factory=NO_LEVELS.copy)
    distinct: NDArray[np.uint8] = dataclasses.field(default_factory=NO_LEVELS.copy)
    first: NDArray[np.uint32] = dataclasses.field(default_factory=NO_ROWS.copy)
    rows: NDArray[np.uint32] = dataclasses.field(default_factory=NO_ROWS.copy)
    path_order: NDArray[np.uint32] = dataclasses.field(default_factory=NO_ROWS.copy)

    @classmethod
    def of(cls, images: ImageTable, codes: NDArray[np.uint8], bits: int, **more: Any) -> CodedImages:  # noqa: ANN401
        """Return the images of a table with their codes; `more` are other fields."""
        facts = {field.name: getattr(images, field.name) for field in dataclasses.fields(ImageTable)}
        # of the whole extraction, and not of these images
        facts |= {"skipped": 0, "skipped_paths": [], "skipped_reasons": [], "inputs": ""}
        return cls(**facts, codes=codes, bits=bits, **more)

    def rows_of_part(self, part: str) -> NDArray[np.int64]:
        """Return the rows of a part of a run's images: "test", "train", "database" or "all"."""
        if part == "all":
            return np.arange(len(self))
        if part == "database":
            return np.flatnonzero(np.isin(self.paths, self.database_paths))
        return np.flatnonzero(np.array(self.split, np.str_) == part)

    def unsorted(self) -> CodedImages:
        """Return the images without a sort order: `levels` are in storage order."""
        if not len(self.rows):
            return self
        levels = np.empty_like(self.levels)
        if len(levels):
            levels[self.rows] = self.levels
        unsorted = dataclasses.replace(self, levels=levels, distinct=NO_LEVELS)
        return dataclasses.replace(unsorted, first=NO_ROWS, rows=NO_ROWS, path_order=NO_ROWS)

    def rows_of_path(self, path: str) -> list[int]:
        """Return the rows of a path, in storage order."""
        if not len(self.path_order):
            return self._rows_by_path.get(path, [])
        paths = np.asarray(self.paths)
        if len(path) > paths.dtype.itemsize // 4:
            return []
        wanted = np.array(path, paths.dtype)
        start, stop = (int(np.searchsorted(paths, wanted, side, self.path_order)) for side in ("left", "right"))
        return sorted(self.path_order[start:stop].tolist())

    @functools.cached_property
    def _rows_by_path(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, path in enumerate(self.paths):
            rows.setdefault(path, []).append(row)
        return rows


def write_codes(run_dir: Path, content: CodedImages) -> None:
    """Write `codes.npz` of a training run."""
    write_npz_content(run_dir / layout.CODES, content)


def read_codes(run_dir: Path, digest: hashlib._Hash | None = None) -> CodedImages:
    """Read `codes.npz` of a training run.

    Args:
        run_dir: Folder of the run.
        digest: If given, the bytes of the file that is read are added to it.
    """
    source = Source(run_dir / layout.CODES, layout.retrain(run_dir))
    content = source.read(CodedImages, digest)
    source.require(len(content.split) == len(content), "split and paths differ in length")
    known = {"train", "test", "database"} if content.database_paths else {"train", "test"}
    source.require(set(content.split) <= known, f"split holds more than {' and '.join(sorted(known))}")
    source.require(set(content.database_paths) <= set(content.paths), "database_paths are not among paths")
    require_images(source, content)
    _require_codes(source, content)
    return content


def build_shard(source: Source, arrays: dict[str, AnyArray]) -> CodedImages:
    """Return the content of a shard from its mapped arrays, of which little is read."""
    content = source.build(CodedImages, arrays, also=("levels", "distinct", "first", "rows", "path_order"))
    n = len(content)
    source.require(content.rows.shape == content.path_order.shape == content.labels.shape == (n,), "it lacks rows")
    counts_fit = len(content.first) == len(content.distinct) + 1 and content.first[-1] == n
    source.require(counts_fit, "its different codes do not fit its rows")
    for name in ("stamps", "checksums", "lonlat"):
        source.require(len(getattr(content, name)) in (0, n), f"{name} and paths differ in length")
    _require_codes(source, content)
    return content


def _require_codes(source: Source, content: CodedImages) -> None:
    """Require packed codes, padded with zeros, and the levels of all images or of none."""
    codes, bits, shape = content.codes, content.bits, (len(content), (content.bits + 7) // 8)
    source.require(bits >= 1, f"bits is {bits}")
    source.require(codes.shape == shape, f"codes are {codes.shape}, not {shape}")
    source.require(content.levels.shape in ((0, 0), (len(content), bits)), f"levels are {content.levels.shape}")
    if bits % 8 and not source.mapped:
        padding = codes[:, -1] & (0xFF >> bits % 8)
        source.require(not padding.any(), f"codes have bits beyond the {bits} they claim")
