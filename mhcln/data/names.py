"""Names of files and folders in messages: which can be printed, and how many are listed."""

import re
from collections.abc import Sequence

# Control characters (C0, DEL, C1), and lone surrogates: Python's stand-ins for bytes of a name that is not UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def is_printable(name: str) -> bool:
    """Return whether a name can be printed.

    `str.isprintable` is stricter: it refuses all blanks but one, the joiners in words and emoji of many scripts, and
    whatever is newer than Python's table of Unicode.
    """
    return name.isprintable() or not _UNPRINTABLE.search(name)


def shown(name: str) -> str:
    """Return a name as it stands in a message: as a Python string with escapes if it cannot be printed."""
    return name if is_printable(name) else repr(name)


def abbreviated(names: Sequence[str], most: int = 5) -> str:
    """Return the first `most` names as they stand in a message, and how many more there are."""
    listed = ", ".join(map(shown, names[:most]))
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")
