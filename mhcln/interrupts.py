"""Ctrl-C and SIGTERM, kept until the work is at a place where it can be saved whole."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from mhcln.cli import Terminated

_RAISED: dict[int, type[BaseException]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


@contextlib.contextmanager
def held() -> Iterator[Callable[[], type[BaseException] | None]]:
    """Within the block both signals only leave a note; yield a function that answers what to raise for it, if any.

    Outside the main thread, where Python delivers no signals, nothing changes.
    """
    notes: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        notes.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.signal(number, note) for number in _RAISED}
    try:
        yield lambda: _RAISED[notes[0]] if notes else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
