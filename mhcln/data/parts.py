"""The parts of a data set that comes split: class folders within `train/` and `test/`, perhaps `val/`."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from mhcln.data.names import abbreviated

# Names, in any case, of the folders that hold the parts of a data set.
PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def are_parts(folders: Iterable[str]) -> bool:
    """Return whether folders of these names hold the parts of one data set: two or more, and nothing else."""
    parts = {PARTS.get(folder.casefold()) for folder in folders}
    return None not in parts and len(parts) > 1


def parts_of(paths: Sequence[str]) -> dict[str, list[str]]:
    """Return the paths of each part, "train", "val" or "test", if all lie in class folders within such folders.

    Returns:
        At least two parts, with their paths in the order given; nothing if the paths are of other folders.
    """
    parts: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folder, _, inner = path.partition("/")
        if "/" not in inner or folder.casefold() not in PARTS:
            return {}
        parts[PARTS[folder.casefold()]].append(path)
    return dict(parts) if len(parts) > 1 else {}


def part_notes(images_dir: Path, paths: Sequence[str]) -> list[str]:
    """Return lines about the parts of a data set and the classes that some lack; none if it has no parts."""
    parts = parts_of(paths)
    if not parts:
        return []
    counts = ", ".join(f"{part} {len(found):,}" for part, found in parts.items())
    classes = {part: {path.split("/")[-2] for path in found} for part, found in parts.items()}
    every = set().union(*classes.values())
    advice = ", which dataset_generator.py takes with --rule=folders" if "train" in parts else ""
    notes = [f"{images_dir} comes with a split{advice}: {counts} images"]
    for part, present in classes.items():
        if absent := sorted(every - present):
            notes.append(f"{len(absent)} of {len(every)} classes have no images in {part}: {abbreviated(absent)}")
    return notes
