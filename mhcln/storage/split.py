"""The content of `split.npz`: which images train and which test, by path."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.source import Source, write_npz_content


@dataclasses.dataclass(frozen=True)
class Split:
    """A split of a data set.

    Attributes:
        train_paths: Paths of the training images.
        test_paths: Paths of the test images, which are the queries.
        train_test_split: Share of training images among both.
        seed: Seed of the draw, 0 if it was not drawn.
        rule: How it was made, such as "stratified" or "lists".
        validation_paths: Images for validation, which are neither trained on nor tested.
        database_paths: Images that the split names as those to be searched; some may be training images.
    """

    train_paths: list[str]
    test_paths: list[str]
    train_test_split: float
    seed: int
    rule: str
    validation_paths: list[str] = dataclasses.field(default_factory=list)
    database_paths: list[str] = dataclasses.field(default_factory=list)


def write_split(path: Path, content: Split) -> None:
    """Write a split file."""
    write_npz_content(path, content)


def read_split(path: Path, digest: hashlib._Hash | None = None) -> Split:
    """Read a split file.

    Whether it leaks test images into training, `mhcln.data.splits.check` says.

    Args:
        path: The file.
        digest: If given, the bytes of the file that is read are added to it.
    """
    source = Source(path, layout.GENERATE)
    content = source.read(Split, digest)
    for paths in (content.train_paths, content.test_paths, content.validation_paths, content.database_paths):
        source.require_different(paths)
    return content


def split_for_seed(dump_dir: Path, seed: int) -> tuple[Path, Split, str]:
    """Read the split that training with `seed` uses: that seed's if several were made, else `split.npz`.

    Returns:
        The file, its content, and the hex SHA-256 of the bytes that were read.
    """
    several = layout.split_paths(dump_dir)
    path = layout.split_path(dump_dir, seed) if several else dump_dir / layout.SPLIT
    if several and path not in several:
        raise UserError(
            f"{dump_dir} has splits for other seeds ({', '.join(file.stem for file in several)}), not for {seed}; "
            f"make them together, {layout.GENERATE} --seed=...,{seed}"
        )
    digest = hashlib.sha256()
    split = read_split(path, digest)
    return path, split, digest.hexdigest()
