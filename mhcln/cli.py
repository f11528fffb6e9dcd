"""What the four scripts share on the command line: flags, the console, exit statuses."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from mhcln.errors import UserError

if TYPE_CHECKING:
    from tqdm import tqdm

DUMP_DIR = Path("dump_dir/")


class Terminated(BaseException):
    """SIGTERM arrived: like KeyboardInterrupt, it passes through everything that only handles errors."""


class Parser(argparse.ArgumentParser):
    """An argument parser that answers a wrong flag with one line, and knows no abbreviations."""

    def __init__(self, description: str) -> None:
        super().__init__(
            description=description, allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        self.add_argument("--dump_dir", type=Path, default=DUMP_DIR, help="folder that the four scripts share")

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with exit status 2."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


class Console:
    """Where the package reports to the person at the terminal: lines, warnings, and a bar for long work."""

    def say(self, line: str) -> None:
        """Print a line of the summary on stdout."""
        print(line, flush=True)  # noqa: T201, this is the one place that prints

    def warn(self, line: str) -> None:
        """Print something that the user should know, but that stops nothing, on stderr."""
        print(f"warning: {line}", file=sys.stderr, flush=True)  # noqa: T201, as above

    def bar(self, total: int, description: str, unit: str, done: int = 0) -> "tqdm":
        """A progress bar with rate and time left on a terminal, nothing in a log; use it in a `with` block."""
        from tqdm import tqdm

        return tqdm(total=total, desc=description, unit=unit, initial=done, disable=None, dynamic_ncols=True)


def run(parser: Parser, main: Callable[[argparse.Namespace, Console], None]) -> NoReturn:
    """Parse the command line, run `main`, and leave: 0 done, 2 the user can mend it, 130 Ctrl-C, 143 SIGTERM.

    Any other exception is a fault of ours and leaves with its traceback and status 1.
    """
    flags = parser.parse_args()
    signal.signal(signal.SIGTERM, _terminated)
    try:
        main(flags, Console())
        sys.stdout.flush()
    except UserError as error:
        _leave(2, f"error: {error}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _leave(2, f"error: {where}{error.strerror or error}; nothing half-written was left under a final name")
    except KeyboardInterrupt:
        _leave(130, "stopped by Ctrl-C")
    except Terminated:
        _leave(143, "stopped by SIGTERM")
    sys.exit(0)


def _terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def _leave(status: int, line: str) -> NoReturn:
    print(" ".join(line.split()), file=sys.stderr)  # noqa: T201, the one line of a user's mistake
    sys.exit(status)


def whole_number(minimum: int) -> Callable[[str], int]:
    """A flag's type: an integer of at least `minimum`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {minimum}")
        return value

    return parse


def whole_numbers(minimum: int) -> Callable[[str], list[int]]:
    """A flag's type: one integer of at least `minimum`, or several with commas between, each once."""
    one = whole_number(minimum)

    def parse(text: str) -> list[int]:
        values = [one(part) for part in text.split(",")]
        if len(set(values)) != len(values):
            raise argparse.ArgumentTypeError(f"{text!r} names a number twice")
        return values

    return parse


def names(text: str) -> tuple[str, ...]:
    """A flag's type: one word, or several with commas between, each once."""
    values = tuple(text.split(","))
    if len(set(values)) != len(values):
        raise argparse.ArgumentTypeError(f"{text!r} names something twice")
    return values


def fraction(text: str) -> float:
    """A flag's type: a number above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value
