"""Where an evaluation, a table or a query writes its files: beside what it read, into `--out`, or nowhere."""

from pathlib import Path

from mhcln.console import Console, UserError
from mhcln.storage import layout
from mhcln.storage.files import NotWritableError, locked


def output_folder(usual: Path, out: Path | None, console: Console, wait: bool = False) -> Path | None:
    """Return the folder to write to.

    Args:
        usual: Where results go if the user does not say it.
        out: Where the user wants them; None if not said.
        console: Where it is reported that nothing will be written.
        wait: Whether to wait until no other process writes there.

    Returns:
        `out` if it is given; else `usual`, or None if that cannot be written to, as on a read-only disk.
    """
    if out is not None:
        return out
    try:
        with locked(usual, wait):
            return usual
    except NotWritableError as error:
        console.warn(f"nothing is written: {error.what}; --out=folder takes what would be")
        return None


def require_no_other_run(out: Path | None, run_folder: Path) -> None:
    """Raise UserError if `out` is the folder of a run, whose results those of `run_folder` would replace."""
    if out is None or not any((out / name).exists() for name in (layout.RUN, layout.CODES)):
        return
    if not out.samefile(run_folder):
        raise UserError(f"--out={out} is the folder of another run than {run_folder}; choose another folder")
