"""Rasters through GDAL: values of chosen bands, and where they lie. Loads rasterio when a file first needs it.

Everything that GDAL would print goes to the logging of rasterio, which nobody listens to: what is wrong with a file is
in the reason that is raised.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.data.headers import JPEG_START, PNG_START, TIFF_STARTS
from mhcln.data.reading import PRESETS, Reading
from mhcln.storage.files import one_line

# Drivers of GDAL by the first bytes of a file: no other format hides behind the name of an image.
DRIVERS = {**dict.fromkeys(TIFF_STARTS, "GTiff"), PNG_START: "PNG", JPEG_START: "JPEG"}
MISSING = "needs rasterio; pip install rasterio"
OFFSET_TAGS = ("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET")  # Sentinel-2 product metadata, level 2A and 1C
BASELINE, BASELINE_OFFSET = (4, 0), -1000.0  # since then values are stored with this offset, ESA's announcement of 2022


class RasterError(Exception):
    """A raster that cannot be read; its text says why."""


class TooLargeError(RasterError):
    """A raster of more pixels than are read."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"is of {width}x{height} pixels")
        self.width = width
        self.height = height


@dataclasses.dataclass(frozen=True)
class Georeference:
    """Where a file says it lies.

    Attributes:
        width: Pixels of a row.
        height: Pixels of a column.
        transform: a, b, c, d, e, f of x = a * column + b * row + c, y = d * column + e * row + f; None for none.
        crs: Coordinate reference system as WKT; "" for none.
        problem: Why it is not known.
    """

    width: int = 0
    height: int = 0
    transform: tuple[float, float, float, float, float, float] | None = None
    crs: str = ""
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Raster:
    """Values of a raster.

    Attributes:
        values: `[h, w]` for one band, else `[h, w, 3]`, of the file's type.
        valid: Of the same shape, false where there is no value or a mask covers it.
        georeference: Where it lies.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_]
    georeference: Georeference


@functools.cache
def rasterio() -> ModuleType | None:
    """Return rasterio with the modules that are used here, None if it is not installed."""
    try:
        import rasterio
        import rasterio.crs
        import rasterio.errors
        import rasterio.warp
    except ImportError:
        return None
    logging.getLogger("rasterio").addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    return rasterio  # type: ignore[no-any-return]  # it has no types


def read(path: Path, reading: Reading, most_pixels: int) -> Raster:
    """Read the bands of a raster that a reading asks for.

    Raises:
        TooLargeError: It has more than `most_pixels` pixels.
        RasterError: It is damaged, or lacks the bands, or rasterio is not installed.
    """
    with _opened(path) as file:
        if file.width * file.height > most_pixels:
            raise TooLargeError(file.width, file.height)
        bands = _bands(file, reading)
        kinds = {np.dtype(file.dtypes[band - 1]) for band in bands}
        if any(kind.kind not in "uif" for kind in kinds):
            raise RasterError(f"holds values of type {', '.join(map(str, kinds))}, of which there are no pictures")
        values, valid = file.read(bands), file.read_masks(bands) != 0
        if reading.preset and (offset := _offset(file, bands[0])):
            values = values.astype(np.float64) + offset
        georeference = _georeference(file)
    if len(bands) == 1:
        return Raster(values[0], valid[0], georeference)
    return Raster(np.moveaxis(values, 0, 2), np.moveaxis(valid, 0, 2), georeference)


def georeference(path: Path) -> Georeference:
    """Return where a file says it lies."""
    try:
        with _opened(path) as file:
            return _georeference(file)
    except RasterError as error:
        return Georeference(problem=f"it {error}" if rasterio() is None else str(error))


def crs_of_text(text: str) -> tuple[str, str]:
    """Return a coordinate reference system (WKT of any kind, as in a .prj file) as WKT; and why it is not known."""
    library = rasterio()
    if library is None:
        return "", f"it {MISSING}"
    try:
        with library.Env():
            return library.crs.CRS.from_user_input(text).to_wkt(), ""
    except (library.errors.RasterioError, ValueError) as error:
        return "", f"its .prj file is not a coordinate reference system ({one_line(error)})"


def to_lonlat(points: NDArray[np.float64], crs: str) -> tuple[NDArray[np.float64], str]:
    """Transform points `[n, 2]` to longitude and latitude on WGS 84; NaN where that fails, and why it does."""
    nowhere, library = np.full(points.shape, np.nan), rasterio()
    if library is None:
        return nowhere, f"it {MISSING}"
    try:
        with library.Env():
            source = library.crs.CRS.from_wkt(crs)
            lon, lat = library.warp.transform(source, "EPSG:4326", *points.T.tolist())
    except Exception as error:  # rasterio raises GDAL's errors, which have no public base class
        return nowhere, f"PROJ cannot transform its coordinate reference system ({one_line(error)})"
    return np.stack([lon, lat], axis=1), ""


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    library = rasterio()
    if library is None:
        raise RasterError(MISSING)
    with path.open("rb") as stream:
        start = stream.read(8)
    driver = next((name for begin, name in DRIVERS.items() if start.startswith(begin)), None)
    if driver is None:
        raise RasterError("is no TIFF, PNG or JPEG")
    try:
        # otherwise GDAL lists the folder at each file; it looks for .aux.xml, .msk and world files by name
        with library.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"), library.open(path.absolute(), driver=driver) as file:
            yield file
    except UnicodeEncodeError:
        raise RasterError("has a path that is not UTF-8, which GDAL cannot open; rename it") from None
    except (library.errors.RasterioError, MemoryError) as error:
        raise RasterError(f"damaged ({one_line(error.__cause__ or error)})") from None


def _georeference(file: Any) -> Georeference:  # noqa: ANN401, a file of rasterio, which has no types
    transform = None if file.transform.is_identity else tuple(file.transform)[:6]
    return Georeference(file.width, file.height, transform, file.crs.to_wkt() if file.crs else "")


def _bands(file: Any, reading: Reading) -> list[int]:  # noqa: ANN401
    """Return the numbers of the bands to read: three, or one for grey."""
    if reading.preset:
        return _described(file, PRESETS[reading.preset].bands)
    if reading.bands:
        if max(reading.bands) > file.count:
            have = "1 band" if file.count == 1 else f"{file.count} bands"
            raise RasterError(f"has {have}, --bands asks for band {max(reading.bands)}")
        return list(reading.bands)
    kinds = [kind.name for kind in file.colorinterp]
    colours = [[band for band, kind in enumerate(kinds, 1) if kind == name] for name in ("red", "green", "blue")]
    if all(len(bands) == 1 for bands in colours):
        return [bands[0] for bands in colours]
    bands = [band for band, kind in enumerate(kinds, 1) if kind != "alpha"]
    if len(bands) in (1, 3):
        return bands
    raise RasterError(
        f"has {len(bands)} bands of {file.dtypes[0]}; say which are red, green and blue, for example --bands=4,3,2"
    )


def _described(file: Any, wanted: tuple[str, ...]) -> list[int]:  # noqa: ANN401
    """Return the bands with these descriptions; "B4" and "B04, central wavelength 665 nm" describe B04."""
    words = [re.split(r"\W", description or "")[0].upper() for description in file.descriptions]
    names = [re.sub(r"^B(\dA?)$", r"B0\1", word) for word in words]
    if any(names.count(name) != 1 for name in wanted):
        have = ", ".join(description or "none" for description in file.descriptions)
        raise RasterError(
            f"has no bands described as {', '.join(wanted)}, but {have}; give --bands and --range instead of --preset"
        )
    return [names.index(name) + 1 for name in wanted]


def _offset(file: Any, band: int) -> float:  # noqa: ANN401
    """Return what is to be added to the values of a Sentinel-2 file, as far as the file says it; 0 if it does not."""
    tags: Mapping[str, str] = {**file.tags(), **file.tags(band)}
    for name in OFFSET_TAGS:
        if name in tags:
            return _number(tags[name])
    scale, offset = file.scales[band - 1], file.offsets[band - 1]
    if offset:
        return float(offset / scale)
    baseline = tuple(int(part) for part in re.findall(r"\d+", tags.get("PROCESSING_BASELINE", "0.0"))[:2])
    return BASELINE_OFFSET if baseline >= BASELINE else 0.0


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RasterError(f"has the offset {text!r}, which is not a number") from None
