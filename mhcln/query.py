"""Searching with the user's own images: described and hashed as the archive was, then looked up in it."""

import dataclasses
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mhcln import artifacts, datasets, extraction, figures, files, grid, pictures
from mhcln.archive import Archive, load, place_for
from mhcln.artifacts import Addition
from mhcln.cli import Console
from mhcln.errors import UserError
from mhcln.hamming import Index, binarise, pack
from mhcln.images import ImageError
from mhcln.inception import Backbone, backbone_for
from mhcln.learner import activations
from mhcln.runtime import keras
from mhcln.trained import Run

QUERIES = "queries"
LONGEST = 200  # bytes of a query's name in those of its answers: file systems take 255
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
    queries = images_of(wanted, sys.stdin.buffer if wanted == "-" and sys.stdin else ())
    archive = load(run, which, images_dir)
    index = Index(archive.codes)
    clock.lap("archive")
    model = load_model(run)
    backbone = recorded_backbone(dump_dir, run, model_dir, console)
    backbone.features(np.zeros((1, *backbone.scaling.size, 3), np.float32))  # the first run compiles the network
    clock.lap("backbone and model")
    features, problems = extraction.describe(queries, backbone)
    for row, query in enumerate(queries):
        if not str(query).isprintable():
            problems[row] = ImageError(query, "its name cannot be printed")
    clock.lap("features", len(queries))
    good = [row for row in range(len(queries)) if row not in problems]
    codes = np.empty((0, archive.codes.shape[1]), np.uint8)
    if good:
        codes = hashed(model, features[good], f"the backbone {backbone.extractor!r}")
    clock.lap("codes", len(good))
    rows, distances = index.search(codes, min(k, len(archive)))
    clock.lap("search", len(good))
    folder = run.folder / QUERIES
    names = distinct_names([queries[row] for row in good])
    with files.locked(folder):
        for row, name, *found in zip(good, names, rows, distances, strict=True):
            answer = Answer(queries[row], *found)
            for line in table(answer, archive):
                console.say(line)
            files.write_json(folder / f"query_{name}.json", record(answer, archive, run))
            picture(answer, archive, folder / f"query_{name}.png", console)
    clock.lap("tables and pictures", len(good))
    count = "1 query" if len(good) == 1 else f"{len(good)} queries"
    console.say(f"{count} in {len(archive):,} images, answers in {folder}")
    console.say(str(clock))
    if problems:
        raise UserError(no_queries([problems[row] for row in sorted(problems)], len(good)))


def add(run: Run, added_dir: Path, console: Console) -> None:
    """Hash the features in `added_dir` with the model of a run and add them to what its queries search.

    Raises UserError where the features are of another backbone than the run's, or of no image.
    """
    features = artifacts.read_features(added_dir)
    if not features.paths:
        raise UserError(f"{added_dir} has features of no image; make them again with {artifacts.EXTRACT}")
    if features.extractor != run.setup["extractor"]:
        raise UserError(
            f"{added_dir} has features of {features.extractor!r}, {run.folder} was trained on "
            f"{run.setup['extractor']!r}; extract them again with the same backbone and flags"
        )
    model = load_model(run)
    path = place_for(run.folder, added_dir.resolve().name, features.images_dir)
    addition = Addition(
        codes=hashed(model, features.features, f"the backbone of {added_dir}"),
        bits=run.codes.bits,
        labels=features.labels,
        paths=np.array(features.paths),
        class_names=list(datasets.load(features.dataset, features.class_names).display_names),
        images_dir=features.images_dir,
        extractor=features.extractor,
        model_sha256=run.files["model.keras"],
    )
    with files.locked(path.parent):
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


def images_of(wanted: str, standard_input: Iterable[bytes]) -> list[Path]:
    """The query images that `--query` names: one file, all images under a folder, or "-" for a list on stdin.

    Raises UserError where there are none.
    """
    if wanted == "-":
        paths = [Path(os.fsdecode(line.strip())) for line in standard_input if line.strip()]
        if not paths:
            raise UserError("--query=- found no path on standard input; give one image path a line")
        return paths
    path = Path(wanted)
    if wanted and path.is_dir():
        return [path / image for image in datasets.scan_unlabelled(path).paths]
    if not path.is_file():
        raise UserError(f"--query={wanted} is neither an image nor a folder of images; give the path of one")
    return [path]


def no_queries(problems: list[ImageError], answered: int) -> str:
    """The line that names the images that no answer was found for, and says what to do."""
    what = "; ".join(f"{error.path} is no query: {error.reason}" for error in problems)
    rest = f"the other {answered} are answered" if answered > 1 else "the other one is answered" if answered else ""
    advice = "mend it or give another image" if len(problems) == 1 else "mend them or give other images"
    return "; ".join(filter(None, (what, advice, rest)))


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


def hashed(model: keras.Model, features: np.ndarray, source: str) -> np.ndarray:
    """Packed codes [n, ceil(K / 8)] uint8 of features [n, d] float32; raises UserError for another width."""
    if model.input_shape[1] != features.shape[1]:
        raise UserError(
            f"{source} gives features of width {features.shape[1]}, the model takes {model.input_shape[1]}; "
            "extract them with the backbone that the run was trained on"
        )
    return pack(binarise(activations(model, features)))


def distinct_names(queries: list[Path]) -> list[str]:
    """File names for the answers: the query's own, cut where it is long, with a number where several share it."""
    counts: dict[str, int] = {}
    names: dict[str, None] = {}
    for query in queries:
        name = stem = query.stem.encode()[:LONGEST].decode(errors="ignore")
        while name in names:
            counts[stem] = counts.get(stem, 1) + 1
            name = f"{stem}_{counts[stem]}"
        names[name] = None
    return list(names)


def table(answer: Answer, archive: Archive) -> list[str]:
    """The lines that show an answer: rank, distance, class, path."""
    classes = [archive.class_of(row) or "-" for row in answer.rows]
    width = max(map(len, [*classes, "class"]))
    lines = [str(answer.query), f"  rank  distance  {'class':{width}}  path"]
    for rank, (row, distance, name) in enumerate(zip(answer.rows, answer.distances, classes, strict=True), 1):
        lines.append(f"  {rank:4}  {distance:8}  {name:{width}}  {archive.path_of(row)}")
    return lines


def record(answer: Answer, archive: Archive, run: Run) -> dict[str, object]:
    """The content of `query_<name>.json`."""
    found = [
        {
            "rank": rank,
            "distance": int(distance),
            "class": archive.class_of(row) or None,
            "path": archive.path_of(row),
            "images_dir": archive.images_dir_of(row),
        }
        for rank, (row, distance) in enumerate(zip(answer.rows, answer.distances, strict=True), 1)
    ]
    searched = {"run": run.folder.name, "bits": archive.bits, "searched": len(archive)}
    return {"query": str(answer.query), **searched, "found": found}


def picture(answer: Answer, archive: Archive, path: Path, console: Console) -> None:
    """Draw a query and its neighbours; an image that is gone is left grey, and told."""
    gone: list[ImageError] = []

    def image(place: Path) -> figures.Image.Image:
        try:
            return pictures.read(place)
        except ImageError as error:
            gone.append(error)
            return figures.Image.new("RGB", (grid.TILE, grid.TILE), GREY)

    shown = answer.rows[: grid.shown(len(answer.rows))]
    query = figures.Tile(image(answer.query), "Query", figures.BLUE)
    tiles = [figures.Tile(image(archive.place_of(row)), archive.class_of(row)) for row in shown]
    if gone:
        console.warn(f"{len(gone)} images in the picture of {answer.query} are grey: {gone[0]}")
    with files.replacing(path) as part:
        figures.draw(query, tiles).save(part, format="PNG")
