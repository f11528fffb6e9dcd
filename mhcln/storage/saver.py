"""Files are written in a thread of their own, while the main thread computes what comes next."""

import collections
import concurrent.futures
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec

MOST_WAITING = 2  # what a killed process has computed and not saved

_Arguments = ParamSpec("_Arguments")


class Saver:
    """Calls functions one after another in one thread; a `with` block ends when all are done.

    What a function raises is raised in the main thread: at the next call of `save`, or at the end of the block. A full
    disk then stops the work as if the main thread had written the file.
    """

    def __init__(self) -> None:
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="save")
        self._waiting: collections.deque[concurrent.futures.Future[object]] = collections.deque()

    def save(
        self, function: Callable[_Arguments, object], *args: _Arguments.args, **options: _Arguments.kwargs
    ) -> None:
        """Let the thread call `function` with these arguments, which must not change from now on."""
        while self._waiting and (self._waiting[0].done() or len(self._waiting) >= MOST_WAITING):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(function, *args, **options))

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        for done in self._waiting:
            done.result()
