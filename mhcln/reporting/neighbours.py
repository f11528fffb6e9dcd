"""The neighbours of a query image, as lines, as JSON, as GeoJSON and as a picture."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mhcln.console import Console, shown
from mhcln.data.reading import AS_THEY_ARE, ImageError, Reading
from mhcln.reporting import pictures
from mhcln.storage import layout
from mhcln.storage.archive import Archive
from mhcln.storage.files import replacing

GREY = "#c8c8c8"
DIGITS = 8  # of a degree: a millimetre


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The neighbours of a query image.

    Attributes:
        query: The image.
        rows: `[k]`, rows of the archive, nearest first.
        distances: `[k]`, their Hamming distances.
        tied: Number of images of the archive at the last of these distances.
    """

    query: Path
    rows: NDArray[np.int64]
    distances: NDArray[np.integer]
    tied: int = 0

    @property
    def cut(self) -> dict[str, int] | None:
        """The last distance, the number of images at it and the number found; None if all were found."""
        last = int(self.distances[-1])
        found = int(np.count_nonzero(self.distances == last))
        return {"distance": last, "images": self.tied, "shown": found} if self.tied > found else None


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
    """Return the lines of a table of the neighbours: rank, distance, class, path."""
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
    entries = []
    for row, entry in _entries(found, archive):
        lonlat = archive.lonlat_of(row)
        known = {} if lonlat is None else {"centre": lonlat[0].tolist(), "corners": lonlat[1:].tolist()}
        entries.append({**entry, "images_dir": archive.images_dir_of(row), **known})
    return {
        "query": str(found.query),
        "run": run_name,
        "bits": archive.bits,
        "searched": len(archive),
        "ties": found.cut,
        "found": entries,
    }


def _entries(found: Neighbours, archive: Archive) -> list[tuple[int, dict[str, object]]]:
    """Return the row of each neighbour in the archive, and its rank, distance, class and path."""
    pairs = zip(found.rows.tolist(), found.distances.tolist(), strict=True)
    return [
        (row, {"rank": rank, "distance": near, "class": archive.class_of(row) or None, "path": archive.path_of(row)})
        for rank, (row, near) in enumerate(pairs, 1)
    ]


def to_geojson(found: Neighbours, archive: Archive) -> str:
    """Return the neighbours as GeoJSON (RFC 7946), as QGIS and geojson.io open it.

    The geometry of an image without a georeference is null; "" is returned if no image has one.
    """
    features = [
        {"type": "Feature", "geometry": _geometry(archive.lonlat_of(row)), "properties": entry}
        for row, entry in _entries(found, archive)
    ]
    if all(feature["geometry"] is None for feature in features):
        return ""
    return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False, indent=1) + "\n"


def _geometry(lonlat: NDArray[np.float64] | None) -> dict[str, object] | None:
    """Return the polygon of the corners of an image, or its centre if the 180th meridian passes through it.

    A polygon over that meridian would go around the Earth the other way.

    Args:
        lonlat: `[5, 2]` degrees of the centre and the corners, None if they are not known.
    """
    if lonlat is None:
        return None
    (centre, *ring), longitudes = lonlat.round(DIGITS).tolist(), lonlat[:, 0]
    if np.ptp(longitudes) > 180:
        return {"type": "Point", "coordinates": centre}
    doubled_area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, ring[1:] + ring[:1], strict=True))
    ring = ring if doubled_area > 0 else ring[::-1]  # counter-clockwise
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def draw(found: Neighbours, archive: Archive, path: Path, console: Console, reading: Reading = AS_THEY_ARE) -> None:
    """Draw a query and its neighbours into a file; an image that cannot be read is grey, and reported.

    Args:
        found: The query and its neighbours.
        archive: The archive.
        path: The file.
        console: Where images that cannot be read are reported.
        reading: How rasters are read.
    """
    gone: list[str] = []

    def read(file: Path) -> Image.Image:
        try:
            return pictures.read(file, reading)
        except ImageError as error:
            gone.append(f"{file}: {error}")
            return Image.new("RGB", (pictures.TILE, pictures.TILE), GREY)

    rows = found.rows[: pictures.shown(len(found.rows))].tolist()
    query = pictures.Tile(read(found.query), "Query", pictures.BLUE)
    tiles = [pictures.Tile(read(archive.file_of(row)), archive.class_of(row)) for row in rows]
    if gone:
        console.warn(f"{len(gone)} images in the picture of {shown(str(found.query))} are grey: {gone[0]}")
    with replacing(path) as part:
        pictures.draw_grid(query, tiles).save(part, format="PNG")
