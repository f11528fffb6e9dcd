"""The features of a dump folder."""

from pathlib import Path

from mhcln.storage import layout
from mhcln.storage.features_file import Features, ImageTable, read_file, read_table, write_file


def write_features(dump_dir: Path, content: Features) -> None:
    """Write `features.npz`."""
    write_file(dump_dir / layout.FEATURES, content)


def read_features(path: str | Path) -> Features:
    """Read the `features.npz` of a dump folder, or a file of that format under any name.

    Raises:
        UserError: The file is missing or damaged, or holds features that are not finite floats.
    """
    path = Path(path)
    return read_file(path if path.suffix == ".npz" else path / layout.FEATURES)


def read_image_table(dump_dir: Path) -> ImageTable:
    """Read `features.npz` but for the features themselves; raises UserError if it is missing or damaged."""
    return read_table(dump_dir / layout.FEATURES)
