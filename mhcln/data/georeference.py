"""Where an image lies: its centre and corners in its own coordinate reference system, and in longitude and latitude."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.data import rasters

POINTS = 5  # the centre, then the corners: upper left, lower left, lower right, upper right
# Tags of GeoTIFF (OGC 19-008r4, 7.1) and the key of the point that a tie point names.
SCALE, TIE_POINTS, MATRIX, KEYS, DOUBLES, TEXTS = 33550, 33922, 34264, 34735, 34736, 34737
RASTER_TYPE, PIXEL_IS_POINT = 1025, 2
WIDTH, HEIGHT = 256, 257
# Endings of world files, as GDAL looks for them
_WORLD_FILES = {
    "JPEG": (".jgw", ".jpgw", ".jpegw", ".wld"),
    "PNG": (".pgw", ".pngw", ".wld"),
    "TIFF": (".tfw", ".tifw", ".tiffw", ".wld"),
}

Transform = tuple[float, float, float, float, float, float]  # x = a * column + b * row + c, y = d * column + ...


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an image lies.

    Attributes:
        points: Its centre and corners, POINTS pairs of x and y.
        crs: Their coordinate reference system as WKT; "" if nothing says it.
        problem: Why it is not known, "" if it is.
    """

    points: tuple[tuple[float, float], ...]
    crs: str
    problem: str = ""


def place(transform: Transform, width: int, height: int, crs: str, problem: str = "") -> Place:
    """Return the place of an image of so many pixels whose transform leads from pixels to coordinates."""
    a, b, c, d, e, f = transform
    pixels = ((width / 2, height / 2), (0, 0), (0, height), (width, height), (width, 0))
    points = tuple((a * x + b * y + c, d * x + e * y + f) for x, y in pixels)
    return Place(points, crs, problem or ("" if crs else "it has coordinates, but no coordinate reference system"))


def of_raster(raster: rasters.Georeference) -> Place | None:
    """Return the place that GDAL finds in a file, None if it finds none."""
    if raster.transform is None:
        return None
    return place(raster.transform, raster.width, raster.height, raster.crs, raster.problem)


def of_tags(path: Path, tags: Mapping[int, Any]) -> Place | None:
    """Return the place that the tags of a TIFF say, None if they say none."""
    if MATRIX not in tags and SCALE not in tags:
        return None
    transform = _transform(tags)
    if transform is None:
        return None
    crs, problem = _crs(path, tags)
    return place(transform, tags[WIDTH], tags[HEIGHT], crs, problem)


def of_sidecars(path: Path, kind: str) -> Place | None:
    """Return the place that a world file beside an image says, and a .prj file; None if there is none.

    Args:
        path: The image.
        kind: Its format, as Pillow names it.
    """
    beside = _sidecars(path)
    worlds = [path.stem + ending for ending in _WORLD_FILES.get(kind, ())]
    aux = f"{path.name}.aux.xml"
    if not beside.intersection((*worlds, aux)):
        return None
    raster = rasters.georeference(path)
    if not raster.crs and not raster.problem and f"{path.stem}.prj" in beside:
        crs, problem = rasters.crs_of_text(path.with_suffix(".prj").read_text(encoding="utf-8", errors="replace"))
        raster = dataclasses.replace(raster, crs=crs, problem=problem)
    return of_raster(raster)


def _sidecars(path: Path) -> frozenset[str]:
    """Return the names of files beside an image that may say where it lies."""
    folder = path.parent
    return _sidecars_in(folder, folder.stat().st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _sidecars_in(folder: Path, _changed: int) -> frozenset[str]:
    endings = (".prj", ".aux.xml", *(ending for each in _WORLD_FILES.values() for ending in each))
    return frozenset(path.name for path in folder.iterdir() if path.name.endswith(endings))


def _transform(tags: Mapping[int, Any]) -> Transform | None:
    """Return the transform of a GeoTIFF, as GDAL derives it; None for ground control points alone."""
    scale, ties, matrix = (tuple(map(float, tags.get(tag, ()))) for tag in (SCALE, TIE_POINTS, MATRIX))
    if len(scale) >= 2 and len(ties) >= 6 and scale[0] and scale[1]:
        column, row, _, x, y = ties[:5]
        a, b, d, e = scale[0], 0.0, 0.0, -abs(scale[1])
        c, f = x - column * a, y - row * e
    elif len(matrix) == 16:
        a, b, _, c, d, e, _, f = matrix[:8]
    else:
        return None
    keys = tuple(tags.get(KEYS, ()))
    entries = {keys[start]: keys[start + 3] for start in range(4, len(keys) - 3, 4)}
    half = 0.5 if entries.get(RASTER_TYPE) == PIXEL_IS_POINT else 0.0
    return a, b, c - half * (a + b), d, e, f - half * (d + e)


_crs_of_keys: dict[tuple[object, ...], tuple[str, str]] = {}


def _crs(path: Path, tags: Mapping[int, Any]) -> tuple[str, str]:
    """Return the coordinate reference system as WKT, "" for none, and why it is not known; opens a file for each."""
    key = tuple(tags.get(tag) for tag in (KEYS, DOUBLES, TEXTS))
    if key not in _crs_of_keys:
        raster = rasters.georeference(path)
        _crs_of_keys[key] = raster.crs, raster.problem
    return _crs_of_keys[key]


def to_lonlat(points: NDArray[np.float64], crs: Sequence[str]) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Transform places to longitude and latitude.

    Args:
        points: `[n, POINTS, 2]`, x and y in the coordinate reference system of each image.
        crs: As WKT, of each image.

    Returns:
        `[n, POINTS, 2]` degrees east and north (WGS 84), NaN where it is not known; and why not, by row.
    """
    lonlat = np.full(points.shape, np.nan)
    problems: dict[int, str] = {}
    for text in dict.fromkeys(crs):
        rows = np.flatnonzero([each == text for each in crs])
        found, problem = rasters.to_lonlat(points[rows].reshape(-1, 2), text)
        found = found.reshape(len(rows), POINTS, 2)
        outside = ~np.isfinite(found).all(axis=(1, 2))
        found[outside] = np.nan
        lonlat[rows] = found
        for row in rows[outside].tolist():
            problems[row] = problem or "its coordinates lie outside of its coordinate reference system"
    return lonlat, problems
