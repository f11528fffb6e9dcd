"""Text files, whole or absent: CSV that no spreadsheet runs, JSON that carries a checksum of itself."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mhcln.console import UserError
from mhcln.storage.files import replacing

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four full-width
_SEPARATORS = ',;\t\r\n"'


def write_text(path: Path, text: str) -> None:
    r"""Write a UTF-8 text file, whole or not at all.

    A byte of a path that is not UTF-8, which Python keeps as a lone surrogate, is written as `\udce9`. That shows it in
    CSV, HTML and Markdown, and is an escape in JSON, from which a reader gets the very path back.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header, lines ended by a newline alone, whole or not at all."""
    lines = (",".join(map(_csv_cell, row)) + "\n" for row in itertools.chain([header], rows))
    write_text(path, "".join(lines))


def _csv_cell(value: object) -> str:
    """Return a cell, such that no spreadsheet takes text for a formula.

    As OWASP advises ("CSV Injection"): an apostrophe before such text, and quotes around what holds a separator of any
    locale. Numbers stay as they are.
    """
    text = "" if value is None else str(value)
    if text.startswith(_FORMULA) and not _is_number(text):
        text = f"'{text}"
    elif not any(letter in text for letter in _SEPARATORS):
        return text
    return '"' + text.replace('"', '""') + '"'


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a JSON object with a `checksum` of the rest, whole or not at all."""
    checksum = _json_checksum(value)
    write_text(path, json.dumps({**value, "checksum": checksum}, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, made_by: str, digest: "hashlib._Hash | None" = None) -> dict[str, object]:
    """Read what `write_json` wrote, without its checksum.

    Args:
        path: The file.
        made_by: The command that makes the file, for the messages.
        digest: If given, the bytes of the file that is read are added to it.
    """
    value = parse_json(path, made_by, digest)
    checksum = value.pop("checksum", None)
    if checksum != _json_checksum(value):
        raise UserError(f"{path} was changed after it was written; make it again with {made_by}")
    return value


def parse_json(path: Path, made_by: str, digest: "hashlib._Hash | None" = None) -> dict[str, object]:
    """Read a JSON object that people write by hand, and which so has no checksum; arguments as in `read_json`."""
    if not path.is_file():
        raise UserError(f"{path} is missing; make it with {made_by}")
    content = path.read_bytes()
    if digest is not None:
        digest.update(content)
    try:
        value = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); make it again with {made_by}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} does not hold a JSON object; make it again with {made_by}")
    return value


def _json_checksum(value: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
