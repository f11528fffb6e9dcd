"""The neighbours of a query image, as lines, as JSON and as a picture."""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mhcln.console import Console
from mhcln.data.images import ImageError
from mhcln.data.names import shown
from mhcln.data.reading import AS_THEY_ARE, Reading
from mhcln.reporting import pictures
from mhcln.storage import layout
from mhcln.storage.archive import Archive
from mhcln.storage.files import replacing

GREY = "#c8c8c8"


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """What was found for a query image.

    Attributes:
        query: The image.
        rows: `[k]`, rows of the archive, nearest first.
        distances: `[k]`, their Hamming distances.
        tied: How many images of the archive are at the last of these distances, found or not.
    """

    query: Path
    rows: NDArray[np.int64]
    distances: NDArray[np.integer]
    tied: int = 0

    @property
    def cut(self) -> dict[str, int] | None:
        """Of how many images at the last distance how many were found; None if all were."""
        last = int(self.distances[-1])
        shown = int(np.count_nonzero(self.distances == last))
        return {"distance": last, "images": self.tied, "shown": shown} if self.tied > shown else None


def distinct_names(queries: list[Path]) -> list[str]:
    """Return a file name for each query: its own, cut if it is long, numbered if several share it."""
    counts: dict[str, int] = {}
    names: dict[str, None] = {}
    for query in queries:
        name = stem = layout.stem(query.stem)
        while name in names:
            counts[stem] = counts.get(stem, 1) + 1
            name = f"{stem}_{counts[stem]}"
        names[name] = None
    return list(names)


def table(found: Neighbours, archive: Archive) -> list[str]:
    """Return the lines that show what was found: rank, distance, class, path."""
    rows = found.rows.tolist()
    classes = [archive.class_of(row) or "-" for row in rows]
    width = max(map(len, [*classes, "class"]))
    lines = [shown(str(found.query)), f"  rank  distance  {'class':{width}}  path"]
    for rank, (row, distance, name) in enumerate(zip(rows, found.distances, classes, strict=True), 1):
        lines.append(f"  {rank:4}  {distance:8}  {name:{width}}  {archive.path_of(row)}")
    if cut := found.cut:
        lines.append(f"  {cut['images']:,} images at distance {cut['distance']}, {cut['shown']:,} shown")
    return lines


def to_json(found: Neighbours, archive: Archive, run_name: str) -> dict[str, object]:
    """Return the content of `query_<name>.json`."""
    entries = [
        {
            "rank": rank,
            "distance": distance,
            "class": archive.class_of(row) or None,
            "path": archive.path_of(row),
            "images_dir": archive.images_dir_of(row),
            **_place(archive, row),
        }
        for rank, (row, distance) in enumerate(zip(found.rows.tolist(), found.distances.tolist(), strict=True), 1)
    ]
    return {
        "query": str(found.query),
        "run": run_name,
        "bits": archive.bits,
        "searched": len(archive),
        "ties": found.cut,
        "found": entries,
    }


def _place(archive: Archive, row: int) -> dict[str, object]:
    """Return longitude and latitude of an image's centre and corners, as far as they are known."""
    lonlat = archive.lonlat_of(row)
    return {} if lonlat is None else {"centre": lonlat[0].tolist(), "corners": lonlat[1:].tolist()}


def draw(found: Neighbours, archive: Archive, path: Path, console: Console, reading: Reading = AS_THEY_ARE) -> None:
    """Draw a query and its neighbours into a file; an image that is gone is left grey, and reported.

    Args:
        found: What was found.
        archive: Where it was found.
        path: The file.
        console: Where images that are gone are reported.
        reading: How rasters are read.
    """
    gone: list[ImageError] = []

    def read(file: Path) -> Image.Image:
        try:
            return pictures.read(file, reading)
        except ImageError as error:
            gone.append(error)
            return Image.new("RGB", (pictures.TILE, pictures.TILE), GREY)

    rows = found.rows[: pictures.shown(len(found.rows))].tolist()
    query = pictures.Tile(read(found.query), "Query", pictures.BLUE)
    tiles = [pictures.Tile(read(archive.file_of(row)), archive.class_of(row)) for row in rows]
    if gone:
        console.warn(f"{len(gone)} images in the picture of {shown(str(found.query))} are grey: {gone[0]}")
    with replacing(path) as part:
        pictures.draw_grid(query, tiles).save(part, format="PNG")
