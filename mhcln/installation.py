"""Whether this Python can run the scripts: new enough, on a system that they run on, with the packages they need.

Checked before anything is imported that needs either; so nothing here is newer than Python 3.7.
"""

import importlib.util
import os
import shlex
import sys
from pathlib import Path

OLDEST = (3, 10)
FIRST = {"numpy": "NumPy", "PIL": "Pillow"}  # what the scripts import at their start, by the name that is imported
ROOT = Path(__file__).resolve().parents[1]


def check() -> None:
    """Leave with one line on stderr and exit status 2 if this Python cannot run the scripts."""
    found = problem()
    if found:
        sys.stderr.write("error: " + found + "\n")
        sys.exit(2)


def problem() -> str:
    """Return why this Python cannot run the scripts, and what to do; "" if it can."""
    if os.name == "nt":
        return "Windows is not supported; install WSL2 and run the scripts there"
    if sys.version_info < OLDEST:
        version = ".".join(map(str, sys.version_info[:3]))
        return "this is Python {}, {}.{} or newer is needed; {}".format(version, *OLDEST, advice())
    missing = [title for name, title in FIRST.items() if importlib.util.find_spec(name) is None]
    return is_missing(" and ".join(missing)) if missing else ""


def is_missing(what: str) -> str:
    """Return the line that says that packages are missing, and how they are installed."""
    return f"{sys.executable or 'this Python'} has no {what}; {advice()}"


def advice() -> str:
    """Return the commands that make an environment with everything in it, and run the same script there."""
    environment, requirements = (shlex.quote(str(ROOT / name)) for name in (".venv", "requirements.txt"))
    install = f"python3 -m venv {environment} && {environment}/bin/pip install -r {requirements}"
    return f"install what is needed by: {install}; then run {environment}/bin/python {shlex.quote(sys.argv[0])}"
