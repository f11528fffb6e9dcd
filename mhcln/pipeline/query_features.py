"""Features that a search starts from in place of images: those of the network that described the archive."""

from pathlib import Path

from mhcln.console import UserError, user_path
from mhcln.data import folders
from mhcln.storage import layout
from mhcln.storage.features import FILES, file_of, read_features
from mhcln.storage.features_file import Features
from mhcln.storage.runs import Run


def features_file(query: str) -> Path | None:
    """Return the file of features that `--query` names: itself, or that of a folder without images.

    Raises:
        UserError: The folder holds both.
    """
    path = user_path(query)
    if path.suffix in FILES:
        return path
    file = file_of(path)
    if not query or not file.is_file():
        return None
    image = folders.first_image(path)
    if image is not None:
        raise UserError(
            f"--query={query} holds {file.name} and images, first {image}; "
            f"give {file} to search with that, or a folder that holds the images alone"
        )
    return file


def read_of_same_maker(place: Path, run: Run) -> Features:
    """Read features that can be compared with those that a run was trained on.

    Args:
        place: The file, or the folder of a `features.npz` or `features.json`.
        run: The run.

    Raises:
        UserError: They are of another network than the run's, or of no image.
    """
    features = read_features(place)
    if not features.images.paths:
        raise UserError(f"{place} has features of no image; make them again with {layout.EXTRACT}")
    if features.images.extractor != run.inputs.extractor:
        raise UserError(
            f"{place} has features of {features.images.extractor!r}, {run.folder} was trained on "
            f"{run.inputs.extractor!r}; extract them again with the same backbone and flags"
        )
    return features
