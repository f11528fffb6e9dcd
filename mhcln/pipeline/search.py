"""Query images to their nearest neighbours in a run's archive."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mhcln.backbone import batches
from mhcln.console import Console, UserError, is_printable
from mhcln.device import explained, open_device
from mhcln.hamming.codes import points_of
from mhcln.hamming.index import Index
from mhcln.pipeline.hasher import Hasher
from mhcln.pipeline.opened_run import OpenedRun, index_of
from mhcln.pipeline.queries import Query, features_file, find_queries, read_of_same_extractor
from mhcln.reporting import neighbours
from mhcln.reporting.neighbours import Neighbours
from mhcln.storage import layout
from mhcln.storage.archive import Archive
from mhcln.storage.features import Features
from mhcln.storage.files import locked
from mhcln.storage.text_files import write_json, write_text


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """The query images, and how they are searched.

    Attributes:
        query: An image, by file or by its path in the archive; a folder of images; "-" for a list on standard input;
            or features: a `.npz`, a `features.json`, or the folder of either.
        k: Number of neighbours.
        archive: The images that are searched: "test", "train", "database", or "all" for these and all added images.
        model_dir: Folder of the backbone; None for the folder where extraction found it.
        device: The device of features and codes, one of `mhcln.device.CHOICES`.
    """

    query: str
    k: int = 20
    archive: str = "all"
    model_dir: Path | None = None
    device: str = "auto"


@explained("fewer queries at a time")
def search(opened: OpenedRun, options: SearchOptions, console: Console) -> None:
    """Search the archive of a run with query images; print, write and draw their neighbours.

    An image of the archive is compared by its stored code: without TensorFlow, if no other image is among the queries.
    Unusable images are reported after the other queries are searched.
    """
    watch = Stopwatch()
    file = features_file(options.query)
    given = None if file is None else read_of_same_extractor(file, opened.run)
    archive = opened.archive(options.archive)
    queries = find_queries(options.query, archive) if given is None else _points_of(given)
    index = index_of(archive, console)
    watch.lap("archive")
    files = [each.path for each in queries if each.row is None]
    errors = {file: "its name cannot be printed" for file in files if not is_printable(file.name)}
    activations: dict[Path, NDArray[np.float32]] = {}
    if files:
        activations = _activations(files, given, errors, opened, options, console, watch)
    usable = [each for each in queries if each.row is not None or each.path in activations]
    found = [_search(index, each, activations.get(each.path), options.k) for each in usable]
    watch.lap("search", len(found))
    folder = opened.results_folder(layout.QUERIES, console, wait=True)
    _report(found, archive, opened, folder, console)
    watch.lap("tables and pictures", len(found))
    count = "1 query" if len(found) == 1 else f"{len(found)} queries"
    console.say(f"{count} in {len(archive):,} images" + (f", results in {folder}" if folder else ""))
    console.say(str(watch))
    if errors:
        raise UserError(unusable_queries({file: errors[file] for file in files if file in errors}, len(found)))


def _points_of(features: Features) -> list[Query]:
    return [Query(Path(features.images.images_dir, path)) for path in features.images.paths]


def _activations(
    files: Sequence[Path],
    given: Features | None,
    errors: dict[Path, str],
    opened: OpenedRun,
    options: SearchOptions,
    console: Console,
    watch: Stopwatch,
) -> dict[Path, NDArray[np.float32]]:
    """Return the activations `[K]` of image files, from their features if these are given, else from their pixels.

    Files that are not usable are left out, and added to `errors`.
    """
    open_device(options.device, console)
    hasher = Hasher.of_run(opened.run)
    if given is not None:
        vectors, source = given.vectors, options.query
        watch.lap("model")
    else:
        backbone = hasher.open_backbone(options.model_dir)
        backbone.features(np.zeros((1, *backbone.scaling.size, 3), np.float32))  # the first call compiles the network
        watch.lap("backbone and model")
        vectors, infos = batches.extract([*files], backbone, console)
        errors |= {file: info.error for file, info in zip(files, infos, strict=True) if info.error}
        source = f"the backbone {backbone.extractor!r}"
        watch.lap("features", len(files))
    good = [row for row, file in enumerate(files) if file not in errors]
    activations = hasher.activations(vectors, source, np.array(good, np.int64))
    watch.lap("codes", len(good))
    return {files[row]: values for row, values in zip(good, activations, strict=True)}


def _search(index: Index, query: Query, activations: NDArray[np.float32] | None, k: int) -> Neighbours:
    compared = points_of(activations[None]) if activations is not None else index.stored(query.row or 0)
    (rows,), (distances,), (tied,) = index.search(compared.codes, k, compared.levels)
    return Neighbours(query.path, rows, distances, int(tied))


class Stopwatch:
    """Milliseconds of each stage, for the line that ends a search."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._laps: list[str] = []

    def lap(self, stage: str, images: int = 0) -> None:
        """Note the time since the last call; per image if several were handled."""
        now = time.perf_counter()
        spent = 1000 * (now - self._last)
        self._laps.append(f"{stage} {spent / images:.1f} ms an image" if images else f"{stage} {spent:.0f} ms")
        self._last = now

    def __str__(self) -> str:
        return ", ".join(self._laps)


def unusable_queries(errors: dict[Path, str], searched: int) -> str:
    """Return the line that names the images that could not be searched with, and the mend."""
    unusable = "; ".join(f"{path} is not usable: {error}" for path, error in errors.items())
    rest = f"the other {searched} were searched" if searched > 1 else "the other one was searched" if searched else ""
    advice = "repair it or give another image" if len(errors) == 1 else "repair them or give other images"
    return "; ".join(filter(None, (unusable, advice, rest)))


def _report(
    found: list[Neighbours], archive: Archive, opened: OpenedRun, folder: Path | None, console: Console
) -> None:
    """Print the neighbours of each query, and write them as JSON and as a picture into `folder`, if there is one."""
    names = neighbours.distinct_names([each.query for each in found])
    for each, name in zip(found, names, strict=True):
        for line in neighbours.table(each, archive):
            console.say(line)
        if folder is None:
            continue
        with locked(folder, wait=True):  # others may query the same run
            write_json(folder / f"query_{name}.json", neighbours.to_json(each, archive, opened.run.folder.name))
            _write_or_remove(folder / f"query_{name}.geojson", neighbours.to_geojson(each, archive))
            if each.query.is_file():  # features may be given for images that are not there
                neighbours.draw(each, archive, folder / f"query_{name}.png", console, opened.reading)
    gone = [each.query for each in found if not each.query.is_file()]
    if gone and folder is not None:
        console.warn(f"{len(gone)} queries have no picture, since their images are not there, first {gone[0]}")


def _write_or_remove(path: Path, text: str) -> None:
    """Write a text; if it is empty, remove the file that an earlier query left."""
    if text:
        write_text(path, text)
    else:
        path.unlink(missing_ok=True)
