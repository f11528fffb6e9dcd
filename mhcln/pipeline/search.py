"""Query images to their nearest neighbours in a run's archive."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mhcln.backbone.describe import describe
from mhcln.console import Console, UserError, is_printable
from mhcln.data import datasets
from mhcln.data.images import ImageError
from mhcln.data.reading import Reading
from mhcln.device import explained, open_device
from mhcln.hamming.ordered import Point, point_of
from mhcln.pipeline.add_images import add_images
from mhcln.pipeline.evaluate import open_run
from mhcln.pipeline.hasher import Hasher
from mhcln.pipeline.outputs import output_folder, require_no_other_run
from mhcln.pipeline.queries import Query, find_queries, index_of
from mhcln.pipeline.query_features import features_file, read_of_same_maker
from mhcln.reporting import geojson, neighbours
from mhcln.reporting.neighbours import Neighbours
from mhcln.storage import layout, runs
from mhcln.storage.archive import Archive, load_archive
from mhcln.storage.features_file import Features
from mhcln.storage.files import locked
from mhcln.storage.mapped import Vectors
from mhcln.storage.runs import Run
from mhcln.storage.text_files import write_json, write_text


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """What is searched, with what.

    Attributes:
        dump_dir: Folder of the run's folder.
        run_name: The run; None for the only one.
        query: An image, by file or by its path in the archive, a folder of images, "-" for such on standard input, or
            features: a `.npz`, a `features.json`, or the folder of either; None to search nothing.
        add: Features, given in the same ways, whose images are added to the archive first; None to add nothing.
        k: Number of neighbours.
        archive: Which images are searched: "test", "train", "database", or "all" for them and all that was added.
        model_dir: Folder of the backbone; None if it is where extraction found it.
        images_dir: Where the run's images are; None if where extraction found them.
        device: What computes features and codes, one of `mhcln.device.CHOICES`.
        out: Folder that gets the `queries/` folder; None for the run's.
    """

    dump_dir: Path
    run_name: str | None = None
    query: str | None = None
    add: Path | None = None
    k: int = 20
    archive: str = "all"
    model_dir: Path | None = None
    images_dir: Path | None = None
    device: str = "auto"
    out: Path | None = None


def search(options: SearchOptions, console: Console) -> None:
    """Add to the archive of a run, then search it, as far as the options ask for either.

    Raises:
        UserError: The run or the images do not allow it.
    """
    run = open_run(runs.choose_run(options.dump_dir, options.run_name))
    require_no_other_run(options.out, run.folder)
    with explained("fewer queries at a time", console):
        if options.add is not None:
            add_images(run, options.add, options.device, console)
        if options.query is not None:
            query_images(run, options, console)


def query_images(run: Run, options: SearchOptions, console: Console) -> None:
    """Search the archive of a run with what `options.query` names; print, write and draw what is found.

    An image of the archive is compared by its stored code: without TensorFlow, if no other image is among the queries.

    Args:
        run: The run.
        options: The query, and how it is searched.
        console: Where the neighbours are printed.

    Raises:
        UserError: There is nothing to search with or in; or, once the others are searched, some images are not usable.
    """
    watch = Stopwatch()
    file = features_file(options.query or "")
    given = None if file is None else read_of_same_maker(file, run)
    class_names = datasets.display_names(run.inputs.dataset, run.codes.class_names)
    archive = load_archive(run, options.archive, class_names, options.images_dir)
    queries = find_queries(options.query or "", archive) if given is None else _queries_of(given)
    index = index_of(archive, console)
    watch.lap("archive")
    files = [query.path for query in queries if query.row is None]
    if given is not None:
        described, problems = _hash_features(files, given, run, options, console, watch)
    else:
        described, problems = _describe(files, run, options, console, watch) if files else ({}, {})
    found = []
    for query in queries:
        if query.row is not None or query.path in described:
            point = described[query.path] if query.row is None else index.point(query.row)
            found.append(Neighbours(query.path, *index.search(point, options.k)))
    watch.lap("search", len(found))
    out = options.out / layout.QUERIES if options.out else None
    folder = output_folder(run.folder / layout.QUERIES, out, console, wait=True)
    _report(found, archive, run, folder, console)
    watch.lap("tables and pictures", len(found))
    count = "1 query" if len(found) == 1 else f"{len(found)} queries"
    console.say(f"{count} in {len(archive):,} images" + (f", results in {folder}" if folder else ""))
    console.say(str(watch))
    if problems:
        raise UserError(unusable_queries([*problems.values()], len(found)))


def _describe(
    files: Sequence[Path], run: Run, options: SearchOptions, console: Console, watch: "Stopwatch"
) -> tuple[Mapping[Path, Point], Mapping[Path, ImageError]]:
    """Compute by what image files are compared: through the backbone, then through the run's network.

    Returns:
        What each file is compared by, and what is wrong with the others, in the order of the files.
    """
    open_device(options.device, console)
    hasher = Hasher.of_run(run)
    backbone = hasher.open_backbone(options.model_dir)
    backbone.features(np.zeros((1, *backbone.scaling.size, 3), np.float32))  # the first call compiles the network
    watch.lap("backbone and model")
    vectors, problems = describe([*files], backbone, console)
    watch.lap("features", len(files))
    return _hashed(files, vectors, problems, hasher, f"the backbone {backbone.extractor!r}", watch)


def _hash_features(
    files: Sequence[Path], given: Features, run: Run, options: SearchOptions, console: Console, watch: "Stopwatch"
) -> tuple[Mapping[Path, Point], Mapping[Path, ImageError]]:
    """Do what `_describe` does with features of the same maker in place of images."""
    open_device(options.device, console)
    hasher = Hasher.of_run(run)
    watch.lap("model")
    return _hashed(files, given.vectors, {}, hasher, options.query or "", watch)


def _hashed(
    files: Sequence[Path],
    vectors: Vectors,
    problems: dict[int, ImageError],
    hasher: Hasher,
    source: str,
    watch: "Stopwatch",
) -> tuple[Mapping[Path, Point], Mapping[Path, ImageError]]:
    """Pass the features of the files that can be read, and whose names can be printed, through the network."""
    for row, file in enumerate(files):
        if not is_printable(file.name):
            problems[row] = ImageError(file, "its name cannot be printed")
    good = [row for row in range(len(files)) if row not in problems]
    activations = hasher.activations(vectors, source, np.array(good, np.int64))
    watch.lap("codes", len(good))
    points = {files[row]: point_of(values) for row, values in zip(good, activations, strict=True)}
    return points, {files[row]: problems[row] for row in sorted(problems)}


def _queries_of(features: Features) -> list[Query]:
    return [Query(Path(features.images.images_dir, path)) for path in features.images.paths]


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


def unusable_queries(problems: list[ImageError], searched: int) -> str:
    """Return the line that names the images that could not be searched with, and says what to do."""
    what = "; ".join(f"{error.path} is not usable: {error.reason}" for error in problems)
    rest = f"the other {searched} were searched" if searched > 1 else "the other one was searched" if searched else ""
    advice = "repair it or give another image" if len(problems) == 1 else "repair them or give other images"
    return "; ".join(filter(None, (what, advice, rest)))


def _report(found: list[Neighbours], archive: Archive, run: Run, folder: Path | None, console: Console) -> None:
    """Print what was found for each query, and write it as JSON and as a picture into `folder`, if there is one."""
    names = neighbours.distinct_names([each.query for each in found])
    reading = Reading.of_extractor(run.inputs.extractor or "")
    for each, name in zip(found, names, strict=True):
        for line in neighbours.table(each, archive):
            console.say(line)
        if folder is None:
            continue
        with locked(folder, wait=True):  # others may query the same run
            write_json(folder / f"query_{name}.json", neighbours.to_json(each, archive, run.folder.name))
            _write_places(folder / f"query_{name}.geojson", geojson.collection(each, archive))
            if each.query.is_file():  # as every query is that was described here
                neighbours.draw(each, archive, folder / f"query_{name}.png", console, reading)
    gone = [each.query for each in found if not each.query.is_file()]
    if gone and folder is not None:
        console.warn(f"{len(gone)} queries have no picture, since their images are not there, first {gone[0]}")


def _write_places(path: Path, places: str) -> None:
    """Write where the images lie that were found; remove what an earlier query left if nobody knows it."""
    if places:
        write_text(path, places)
    else:
        path.unlink(missing_ok=True)
