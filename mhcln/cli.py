"""The command line of all four scripts: the parser, the types of flags, exit statuses.

Each script imports this file first. It ends a Python that cannot run the scripts, in one line, before it imports what
needs a new Python, then NumPy. So nothing here is newer than Python 3.7 up to that point, nor the syntax below it.
"""

import argparse
import importlib.util
import math
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO, TypeVar, cast

OLDEST_PYTHON = (3, 10)
REPO_ROOT = Path(__file__).resolve().parents[1]


def _is_missing(what: str) -> str:
    """Return the line that says which packages are missing, and how to install them and run the script again."""
    return f"{sys.executable or 'this Python'} has no {what}; {_how_to_install()}"


def _how_to_install() -> str:
    environment, requirements = (shlex.quote(str(REPO_ROOT / name)) for name in (".venv", "requirements.txt"))
    install = f"python3 -m venv {environment} && {environment}/bin/pip install -r {requirements}"
    return f"install what is needed by: {install}; then run {environment}/bin/python {shlex.quote(sys.argv[0])}"


def _check_python() -> None:
    missing = [title for name, title in (("numpy", "NumPy"), ("PIL", "Pillow")) if not importlib.util.find_spec(name)]
    if os.name == "nt":
        problem = "Windows is not supported; install WSL2 and run the scripts there"
    elif sys.version_info < OLDEST_PYTHON:
        found, oldest = (".".join(map(str, version[:3])) for version in (sys.version_info, OLDEST_PYTHON))
        problem = f"this is Python {found}, {oldest} or newer is needed; {_how_to_install()}"
    elif missing:
        problem = _is_missing(" and ".join(missing))
    else:
        return
    sys.stderr.write(f"error: {problem}\n")
    sys.exit(2)


_check_python()

from mhcln.console import Console, Terminated, UserError, print_line, user_path  # noqa: E402
from mhcln.storage import layout  # noqa: E402

T = TypeVar("T")
LARGEST_SEED = 2**63 - 1  # TensorFlow takes a seed as int64
_MOST_BANDS = 65535  # of a TIFF
_SHOWN = 60  # characters of a flag's value in a message
TRACEBACK = "MHCLN_TRACEBACK"  # environment variable: show the traceback of an error of the operating system


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a wrong flag in one line, and takes no abbreviations."""

    def __init__(self, description: str) -> None:
        super().__init__(
            description=description, allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        self.add_argument("--dump_dir", type=path, default=layout.DUMP_DIR, help="folder that the four scripts share")

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with exit status 2."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")

    def _print_message(self, message: str, file: object = None) -> None:
        print_line(message.removesuffix("\n"), cast(TextIO, file or sys.stderr))


def run(parser: Parser, main: Callable[[argparse.Namespace, Console], None]) -> NoReturn:
    """Parse the command line, run `main`, and leave the process.

    Exit status 0 is done, also if what was printed was not read to its end; 2 a mistake that the user can fix, 130
    Ctrl-C, 143 SIGTERM. Any other exception is an error of this software: it leaves with its traceback and status 1.

    Args:
        parser: The flags of the script.
        main: Takes the parsed flags and the console.
    """
    _open_missing_streams()
    signal.signal(signal.SIGTERM, _raise_terminated)
    # odd metadata of image files, about which the user can do nothing; files that cannot be read are errors anyway
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        main(parser.parse_args(), Console())
    except UserError as error:
        _leave(2, f"error: {error}")
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in sys.modules or package == "mhcln":
            raise
        _leave(2, f"error: {_is_missing(package)}")
    except OSError as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        where = f"{error.filename}: " if error.filename else ""
        _leave(2, f"error: {where}{error.strerror or error}; nothing half-written was left under a final name")
    except KeyboardInterrupt:
        _leave(130, "stopped by Ctrl-C")
    except Terminated:
        _leave(143, "stopped by SIGTERM")
    sys.exit(0)


def _open_missing_streams() -> None:
    """Put the null device where a stream is closed, as by `>&-`: the next file would take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123, open until the process ends


def _raise_terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


def _leave(status: int, line: str) -> NoReturn:
    print_line(" ".join(line.split()), sys.stderr)
    sys.exit(status)


def path(text: str) -> Path:
    """A flag's type: the path of a file or folder; `~` at its start is the home folder."""
    if not text:
        raise argparse.ArgumentTypeError("'' is not a path; give the name of a file or folder")
    return user_path(text)


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return a flag's type: an integer from `minimum` to `maximum`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if not minimum <= value <= maximum:
            what = f"a whole number of at least {minimum} and at most {maximum}"
            raise argparse.ArgumentTypeError(f"{_quoted(text)} is not {what}")
        return value

    return parse


def whole_numbers(minimum: int, maximum: int) -> Callable[[str], list[int]]:
    """Return a flag's type: one integer from `minimum` to `maximum`, or several different ones with commas between."""
    parse_one = whole_number(minimum, maximum)

    def parse(text: str) -> list[int]:
        return _different([parse_one(part) for part in text.split(",")], f"{_quoted(text)} names a number twice")

    return parse


def names(text: str) -> tuple[str, ...]:
    """A flag's type: one word, or several different ones with commas between."""
    return tuple(_different(text.split(","), f"{_quoted(text)} names something twice"))


def _different(values: list[T], message: str) -> list[T]:
    if len(set(values)) != len(values):
        raise argparse.ArgumentTypeError(message)
    return values


def band_numbers(text: str) -> tuple[int, ...]:
    """A flag's type: the number of one band, or of three with commas between."""
    numbers = tuple(map(whole_number(1, _MOST_BANDS), text.split(",")))
    if len(numbers) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{_quoted(text)} are not three bands, red first, or one for grey")
    return numbers


def value_range(text: str) -> tuple[float, float]:
    """A flag's type: a lower and a higher number with a comma between."""
    low, _, high = text.partition(",")
    found = _number(low), _number(high)
    if not -math.inf < found[0] < found[1] < math.inf:
        raise argparse.ArgumentTypeError(f"{_quoted(text)} is not LOW,HIGH, a number and a higher one")
    return found


def fraction(text: str) -> float:
    """A flag's type: a number above 0 and below 1."""
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{_quoted(text)} is not a number between 0 and 1")
    return value


def margin(text: str) -> float:
    """A flag's type: a number above 0, and at most 2, the largest squared distance of two activations."""
    value = _number(text)
    if not 0 < value <= 2:
        raise argparse.ArgumentTypeError(f"{_quoted(text)} is not a margin above 0 and at most 2")
    return value


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def folder_name(text: str) -> str:
    """A flag's type: the name of a folder inside the dump folder, which is not a name of this software."""
    problem = layout.name_problem(text)
    if problem:
        raise argparse.ArgumentTypeError(f"{_quoted(text)} is not the name of a folder: {problem}")
    return text
