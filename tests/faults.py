"""Makes the operating system refuse one operation on files: the n-th that writes, syncs, renames or removes.

Each has a kind: what it does, and the ending of the file's name.
"""

import builtins
import contextlib
import io
import os
import pathlib
from collections.abc import Iterator
from unittest import mock


class Faults:
    """Counts operations under `root`; the one numbered `at` fails with `number`."""

    def __init__(self, root: pathlib.Path, at: int, number: int) -> None:
        self.root, self.at, self.number = str(root), at, number
        self.kinds: list[tuple[str, str]] = []

    @property
    def fired(self) -> bool:
        return len(self.kinds) >= self.at

    def operation(self, name: str, path: object) -> None:
        if str(path).startswith(self.root):
            self.kinds.append((name, pathlib.Path(str(path)).suffix))
            if len(self.kinds) == self.at:
                raise OSError(self.number, os.strerror(self.number), str(path))

    def wrap(self, function):
        def checked(path, *arguments, **named):
            self.operation(function.__name__, path)
            return function(path, *arguments, **named)

        return checked

    def syncing(self, function):
        def synced(handle):
            self.operation("fsync", pathlib.Path(f"/proc/self/fd/{handle}").readlink())
            return function(handle)

        return synced

    def opener(self, function):
        def opened(path, mode="r", *arguments, **named):
            writes = isinstance(mode, str) and set(mode) & set("wax+")
            if writes:
                self.operation("open", path)
            handle = function(path, mode, *arguments, **named)
            return _Written(handle, path, self) if writes and "b" in mode else handle

        return opened


class _Written:
    """A binary file whose every write may fail."""

    def __init__(self, handle, path, faults: Faults) -> None:
        self._handle, self._path, self._faults = handle, path, faults

    def write(self, data) -> int:
        self._faults.operation("write", self._path)
        return self._handle.write(data)

    def __enter__(self):
        return self

    def __exit__(self, *_error) -> None:
        self._handle.close()

    def __iter__(self):
        return iter(self._handle)

    def __getattr__(self, name):
        return getattr(self._handle, name)


@contextlib.contextmanager
def failing(root: pathlib.Path, at: int, number: int) -> Iterator[Faults]:
    """Let the `at`-th operation on files under `root` fail with error `number`."""
    faults = Faults(root, at, number)
    with contextlib.ExitStack() as stack:
        patch = lambda *arguments: stack.enter_context(mock.patch.object(*arguments))  # noqa: E731, used four times
        patch(builtins, "open", faults.opener(builtins.open))
        patch(io, "open", faults.opener(io.open))
        for name in ("replace", "unlink", "mkdir", "rmdir", "write_text", "write_bytes"):
            patch(pathlib.Path, name, faults.wrap(getattr(pathlib.Path, name)))
        patch(os, "fsync", faults.syncing(os.fsync))
        yield faults
