"""Console output, user errors, paths as users write them, and signals."""

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

# Control characters (C0, DEL, C1), and lone surrogates: Python's stand-ins for bytes of a name that is not UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but newlines and tabs


class UserError(Exception):
    """A mistake that the user can fix: one line that says what is wrong, where, and what to do.

    The scripts print it on stderr and end with exit status 2 (see `mhcln.cli.run`).
    """


class Terminated(BaseException):
    """SIGTERM arrived. Like KeyboardInterrupt, it passes through code that handles only errors."""


def is_printable(name: str) -> bool:
    """Return whether a name can be printed.

    `str.isprintable` is stricter: it refuses all blanks but one, the joiners in words and emoji of many scripts, and
    whatever is newer than Python's table of Unicode.
    """
    return name.isprintable() or not _UNPRINTABLE.search(name)


def shown(name: str) -> str:
    """Return a name for a message: as a Python string with escapes if it cannot be printed."""
    return name if is_printable(name) else repr(name)


def abbreviated(names: Sequence[str], most: int = 5) -> str:
    """Return the first `most` names for a message, and how many more there are."""
    listed = ", ".join(map(shown, names[:most]))
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")


def user_path(text: str) -> Path:
    """Return the path that a user wrote; a `~` at its start is a home folder, which shells leave in `--flag=~/x`."""
    expanded = os.path.expanduser(text)  # noqa: PTH111, Path's fails where no user has such a name
    if expanded == text and f"{text}/".startswith("~/"):  # a file may be called ~x: it stays if no user is
        raise UserError(f"{text}: your home folder is not known; set HOME, or write the whole path")
    return Path(expanded)


def print_line(line: str, stream: TextIO) -> None:
    """Print a line; control characters, and characters that the encoding of the stream lacks, are escaped.

    If the reader of the stream is gone, as with `| head -1`, this line and all that follow are dropped.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    plain = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), line)
    printable = plain.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(printable, file=stream, flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class Console:
    """Prints summary lines and warnings, and shows a progress bar for long work."""

    _hides_bars: bool | None = None  # on a terminal they are shown, in a log they are not

    def say(self, line: str) -> None:
        """Print a line of the summary on stdout."""
        print_line(line, sys.stdout)

    def warn(self, line: str) -> None:
        """Print a warning on stderr."""
        print_line(f"warning: {line}", sys.stderr)

    def bar(self, total: int, description: str, unit: str, done: int = 0) -> "tqdm[Any]":
        """Return a progress bar with rate and time left, to be used in a `with` block.

        Args:
            total: Number of units when the work is complete.
            description: Text before the bar.
            unit: Name of one unit, for the rate.
            done: Units that an earlier process has completed.
        """
        from tqdm import tqdm  # takes a tenth of the time of a whole evaluation, which has no bar

        hidden = self._hides_bars
        return tqdm(total=total, desc=description, unit=unit, initial=done, disable=hidden, dynamic_ncols=True)


class Quiet(Console):
    """A console that prints nothing, for use as a library."""

    _hides_bars = True

    def say(self, line: str) -> None:
        """Drop the line."""

    def warn(self, line: str) -> None:
        """Drop the warning."""


_EXCEPTIONS: dict[int, type[BaseException]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


@contextlib.contextmanager
def deferred_signals() -> Iterator[Callable[[], BaseException | None]]:
    """Defer Ctrl-C and SIGTERM within the block, so that work stops only where it can be saved.

    Outside the main thread nothing changes, since Python delivers signals to that thread only.

    Yields:
        A function that returns the exception to raise for a signal that arrived, None if none did.
    """
    arrived: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.signal(number, note) for number in _EXCEPTIONS}
    try:
        yield lambda: _EXCEPTIONS[arrived[0]]() if arrived else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
