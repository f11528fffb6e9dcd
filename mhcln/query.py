"""Searching with the user's own images: described and hashed as the archive was, then looked up in it."""

import dataclasses
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mhcln import artifacts, datasets, extraction, figures, files, grid, pictures
from mhcln.archive import FOLDER, Archive, load
from mhcln.artifacts import Addition
from mhcln.cli import Console
from mhcln.errors import UserError
from mhcln.hamming import Index, binarise, pack
from mhcln.inception import Backbone, backbone_for
from mhcln.learner import activations
from mhcln.runtime import keras
from mhcln.trained import Run

QUERIES = "queries"
GREY = "#c8c8c8"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What was found for a query image: archive `rows` [k] and their Hamming `distances` [k], nearest first."""

    query: Path
    rows: np.ndarray
    distances: np.ndarray


def ask(
    dump_dir: Path,
    run: Run,
    wanted: str,
    k: int,
    which: str,
    model_dir: Path | None,
    images_dir: Path | None,
    console: Console,
) -> None:
    """Search the archive of a run with the images that `wanted` names; print, write and draw what is found.

    `k`, `which` and the folders are those of the flags --k, --archive, --model_dir and --images_dir.

    Raises UserError where nothing can be searched with or in; bad images among several are named at the end, once
    the others are answered.
    """
    clock = Clock()
    queries = images_of(wanted, sys.stdin)
    archive = load(run, which, images_dir)
    index = Index(archive.codes)
    clock.lap("archive")
    model = load_model(run)
    backbone = recorded_backbone(dump_dir, run, model_dir, console)
    backbone.features(np.zeros((1, *backbone.scaling.size, 3), np.float32))  # the first run compiles the network
    clock.lap("backbone and model")
    features, problems = extraction.describe(queries, backbone)
    clock.lap("features", len(queries))
    good = [row for row in range(len(queries)) if row not in problems]
    codes = hashed(model, features[good]) if good else np.empty((0, archive.codes.shape[1]), np.uint8)
    clock.lap("codes", len(good))
    rows, distances = index.search(codes, min(k, len(archive.paths)))
    clock.lap("search", len(good))
    folder = run.folder / QUERIES
    folder.mkdir(exist_ok=True)
    names = distinct_names([queries[row] for row in good])
    for row, name, *found in zip(good, names, rows, distances, strict=True):
        answer = Answer(queries[row], *found)
        for line in table(answer, archive):
            console.say(line)
        files.write_json(folder / f"query_{name}.json", record(answer, archive, run))
        picture(answer, archive, folder / f"query_{name}.png", console)
    clock.lap("tables and pictures", len(good))
    count = "1 query" if len(good) == 1 else f"{len(good)} queries"
    console.say(f"{count} in {len(archive.paths):,} images, answers in {folder}")
    console.say(str(clock))
    if problems:
        raise UserError("; ".join(f"{error.path} is no query: {error.reason}" for error in problems.values()))


def add(run: Run, added_dir: Path, console: Console) -> None:
    """Hash the features in `added_dir` with the model of a run and add them to what its queries search.

    Raises UserError where the features are of another backbone than the run's.
    """
    features = artifacts.read_features(added_dir)
    if features.extractor != run.setup["extractor"]:
        raise UserError(
            f"{added_dir} has features of {features.extractor!r}, {run.folder} was trained on "
            f"{run.setup['extractor']!r}; extract them again with the same backbone and flags"
        )
    model = load_model(run)
    path = run.folder / FOLDER / f"{added_dir.resolve().name}.npz"
    path.parent.mkdir(exist_ok=True)
    addition = Addition(
        codes=hashed(model, features.features),
        bits=run.codes.bits,
        labels=features.labels,
        paths=features.paths,
        class_names=list(datasets.load(features.dataset, features.class_names).display_names),
        images_dir=features.images_dir,
        extractor=features.extractor,
        model_sha256=run.files["model.keras"],
    )
    replaced = path.exists()
    artifacts.write_addition(path, addition)
    console.say(f"{len(features.paths):,} images {'replace those in' if replaced else 'added as'} {path}")


class Clock:
    """Milliseconds of each stage, for the line that ends a search."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._laps: list[str] = []

    def lap(self, stage: str, images: int = 0) -> None:
        """Note the time since the last call; per image where several were handled."""
        now = time.perf_counter()
        spent = 1000 * (now - self._last)
        self._laps.append(f"{stage} {spent / images:.1f} ms an image" if images else f"{stage} {spent:.0f} ms")
        self._last = now

    def __str__(self) -> str:
        return ", ".join(self._laps)


def images_of(wanted: str, standard_input: Iterable[str]) -> list[Path]:
    """The query images that `--query` names: one file, all images under a folder, or "-" for a list on stdin.

    Raises UserError where there are none.
    """
    if wanted == "-":
        paths = [Path(line.strip()) for line in standard_input if line.strip()]
        if not paths:
            raise UserError("--query=- found no path on standard input; give one image path a line")
        return paths
    path = Path(wanted)
    if path.is_dir():
        return [path / image for image in datasets.scan_unlabelled(path).paths]
    if not path.is_file():
        raise UserError(f"--query={wanted} is neither an image nor a folder of images")
    return [path]


def load_model(run: Run) -> keras.Model:
    """The hashing network of a run; raises UserError where it is not the one that made the run's codes."""
    path = run.checked("model.keras")
    if path is None or path.name not in run.files:
        raise UserError(f"{run.folder} holds no model.keras that run.json tells of; make it with {artifacts.TRAIN}")
    return keras.models.load_model(path, safe_mode=True, compile=False)


def recorded_backbone(dump_dir: Path, run: Run, model_dir: Path | None, console: Console) -> Backbone:
    """The backbone that described the archive of a run, from where extraction found it or from `model_dir`."""
    known = (dump_dir / "features.npz").is_file()
    features = artifacts.read_features(dump_dir, vectors=False) if known else None
    same = features is not None and features.extractor == run.setup["extractor"]
    return backbone_for(console, run.setup["extractor"] or "", features.model_file if same else "", model_dir)


def hashed(model: keras.Model, features: np.ndarray) -> np.ndarray:
    """Packed codes [n, ceil(K / 8)] uint8 of features [n, d] float32; raises UserError for another width."""
    if model.input_shape[1] != features.shape[1]:
        raise UserError(f"the model takes features of width {model.input_shape[1]}, these have {features.shape[1]}")
    return pack(binarise(activations(model, features)))


def distinct_names(queries: list[Path]) -> list[str]:
    """File names for the answers: the query's own, with a number where several share it."""
    seen: dict[str, int] = {}
    names = []
    for query in queries:
        seen[query.stem] = seen.get(query.stem, 0) + 1
        names.append(query.stem if seen[query.stem] == 1 else f"{query.stem}_{seen[query.stem]}")
    return names


def table(answer: Answer, archive: Archive) -> list[str]:
    """The lines that show an answer: rank, distance, class, path."""
    classes = [archive.class_of(row) or "-" for row in answer.rows]
    width = max(map(len, [*classes, "class"]))
    lines = [str(answer.query), f"  rank  distance  {'class':{width}}  path"]
    for rank, (row, distance, name) in enumerate(zip(answer.rows, answer.distances, classes, strict=True), 1):
        lines.append(f"  {rank:4}  {distance:8}  {name:{width}}  {archive.paths[row]}")
    return lines


def record(answer: Answer, archive: Archive, run: Run) -> dict[str, object]:
    """The content of `query_<name>.json`."""
    found = [
        {
            "rank": rank,
            "distance": int(distance),
            "class": archive.class_of(row) or None,
            "path": archive.paths[row],
            "images_dir": archive.images_dirs[archive.origin[row]],
        }
        for rank, (row, distance) in enumerate(zip(answer.rows, answer.distances, strict=True), 1)
    ]
    searched = {"run": run.folder.name, "bits": archive.bits, "searched": len(archive.paths)}
    return {"query": str(answer.query), **searched, "found": found}


def picture(answer: Answer, archive: Archive, path: Path, console: Console) -> None:
    """Draw a query and its neighbours; a neighbour whose image is gone is left grey, and told."""
    tiles = [figures.Tile(pictures.read(answer.query), "Query", figures.BLUE)]
    gone: list[str] = []
    for row in answer.rows[: grid.shown(len(answer.rows))]:
        try:
            image = pictures.read(archive.place_of(row))
        except UserError as error:
            gone.append(str(error))
            image = figures.Image.new("RGB", (grid.TILE, grid.TILE), GREY)
        tiles.append(figures.Tile(image, archive.class_of(row)))
    if gone:
        console.warn(f"{len(gone)} neighbours of {answer.query} are drawn grey: {gone[0]}")
    with files.replacing(path) as part:
        figures.draw(tiles[0], tiles[1:]).save(part, format="PNG")
