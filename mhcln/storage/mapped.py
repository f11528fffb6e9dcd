"""Features that stay in their files: rows are read through a memory map when they are used."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.console import UserError
from mhcln.storage.npz import AnyArray, DamagedError, map_arrays

Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class MappedArray:
    """An array `[n, d] float32` of a `.npz`, mapped only while rows of it are copied.

    Pages of a map count as memory of the process until it is closed, even though the system may drop them.

    Attributes:
        state: The `state_of` the file before it was checked: the file must not be replaced after that.
    """

    path: Path
    name: str
    state: tuple[int, ...]
    rows: int
    width: int

    @classmethod
    def find(cls, path: Path, name: str, state: tuple[int, ...]) -> "MappedArray":
        """Find an array of a file, by its name.

        Raises:
            DamagedError: It is no stored array `[n, d] float32`.
        """
        array = _mapped(path, name, state)
        if array is None or array.ndim != 2 or not array.shape[1] or array.dtype != np.float32:
            what = "there are none" if array is None else f"they are {array.dtype} {array.shape}, not float32 [n, d]"
            raise DamagedError(f"{name}: {what}")
        if not array.flags.c_contiguous:
            raise DamagedError(f"{name} do not lie in the file row by row")
        return cls(path, name, state, *array.shape)

    def read(self, rows: NDArray[np.int64]) -> Floats:
        """Return a copy `[m, d]` of these rows; raises UserError if the file was replaced after its check."""
        array = _mapped(self.path, self.name, self.state)
        assert array is not None  # `find` found it
        # as bytes, since numbers in a .npz need not lie at multiples of their size
        return np.take(array.view(np.uint8), rows, axis=0).view(np.float32)


def _mapped(path: Path, name: str, state: tuple[int, ...]) -> AnyArray | None:
    """Map an array of a file, None if there is none of that name."""
    try:
        with path.open("rb") as handle:
            if _state(os.fstat(handle.fileno())) == state:
                return map_arrays(handle, [name]).get(name)
    except FileNotFoundError:
        pass
    raise UserError(f"{path} was replaced while it was being read; run the command again")


def state_of(path: Path) -> tuple[int, ...]:
    """Return numbers that change if a file is replaced or written to; () if it is missing."""
    return _state(path.stat()) if path.is_file() else ()


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class MappedVectors:
    """Vectors `[n, d] float32` of several files, one after another.

    `vectors[10:20]` and `vectors[rows]` are arrays; `vectors[:]` is all of them.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, arrays: Sequence[MappedArray]) -> None:
        """Put one or more arrays of the same width one after another."""
        self._arrays = arrays
        self._ends = np.cumsum([array.rows for array in arrays])
        self.shape = (int(self._ends[-1]), arrays[0].width)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: object = None, copy: bool | None = None) -> Floats:
        return np.asarray(self[:], dtype)  # type: ignore[call-overload,no-any-return]  # what NumPy asks for

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[np.int64]) -> Floats:
        if isinstance(rows, slice):
            chosen = range(len(self))[rows]
            wanted = np.arange(chosen.start, chosen.stop, chosen.step, dtype=np.int64)
        else:
            wanted = np.asarray(rows, np.int64)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {len(self)}")
        found = np.empty((len(wanted), self.shape[1]), np.float32)
        files = np.searchsorted(self._ends, wanted, side="right")
        for number in np.unique(files).tolist():
            here, array = files == number, self._arrays[number]
            found[here] = array.read(wanted[here] - (self._ends[number] - array.rows))
        return found


Vectors = Floats | MappedVectors
