"""Names of files and folders in messages: how they are shown, and how many are listed."""

from collections.abc import Sequence

from mhcln.console import is_printable


def shown(name: str) -> str:
    """Return a name as it stands in a message: as a Python string with escapes if it cannot be printed."""
    return name if is_printable(name) else repr(name)


def abbreviated(names: Sequence[str], most: int = 5) -> str:
    """Return the first `most` names as they stand in a message, and how many more there are."""
    listed = ", ".join(map(shown, names[:most]))
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")
