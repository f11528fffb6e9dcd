"""Paths of very many images: one array of bytes in place of a Python string for each."""

import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_ENCODING = "utf-8", "surrogatepass"  # every str comes back, also one that stands for bytes of a name that are no UTF-8


class PathTable(Sequence[str]):
    """Paths in storage order, and found by their text.

    Attributes:
        content: `[bytes] uint8`, one path behind another.
        starts: `[n + 1]`, where each begins in it, and the end.
    """

    def __init__(self, content: NDArray[np.uint8], starts: NDArray[np.integer]) -> None:
        self.content, self.starts = content, starts
        self._bounds: tuple[bytes, bytes] | None = None

    @classmethod
    def stored(
        cls,
        content: NDArray[np.uint8],
        starts: NDArray[np.integer],
        order: NDArray[np.uint32],
        bounds: tuple[str, str],
    ) -> "PathTable":
        """Return a table whose properties `order` and `bounds` are known, so that a look-up reads little of it."""
        table = cls(content, starts)
        table.order = order
        table._bounds = bounds[0].encode(*_ENCODING), bounds[1].encode(*_ENCODING)
        return table

    @classmethod
    def of(cls, paths: Sequence[str]) -> "PathTable":
        """Return the table of these paths."""
        encoded = [path.encode(*_ENCODING) for path in paths]
        starts = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        narrow = starts.astype(np.uint32) if starts[-1] < 1 << 32 else starts
        return cls(np.frombuffer(b"".join(encoded), np.uint8), narrow)

    @cached_property
    def order(self) -> NDArray[np.uint32]:
        """Rows `[n]` in the order of the bytes of their paths."""
        encoded = [self._encoded(row) for row in range(len(self))]
        return np.array(sorted(range(len(encoded)), key=encoded.__getitem__), np.uint32)

    @property
    def bounds(self) -> tuple[str, str]:
        """First and last path in the order of their bytes; "" if there is none."""
        return (self[int(self.order[0])], self[int(self.order[-1])]) if len(self) else ("", "")

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> str:  # type: ignore[override]  # no slices
        return self._encoded(row).decode(*_ENCODING)

    def __iter__(self) -> Iterator[str]:
        content, starts = self.content.tobytes(), self.starts.tolist()
        for start, end in itertools.pairwise(starts):
            yield content[start:end].decode(*_ENCODING)

    def rows_of(self, path: str) -> list[int]:
        """Return the rows of a path, in storage order."""
        wanted = path.encode(*_ENCODING)
        if self._bounds and not self._bounds[0] <= wanted <= self._bounds[1]:
            return []
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._encoded(int(self.order[middle])) < wanted:
                low = middle + 1
            else:
                high = middle
        rows = []
        while low < len(self) and self._encoded(int(self.order[low])) == wanted:
            rows.append(int(self.order[low]))
            low += 1
        return rows

    def _encoded(self, row: int) -> bytes:
        return self.content[int(self.starts[row]) : int(self.starts[row + 1])].tobytes()
