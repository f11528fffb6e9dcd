"""Rasters through GDAL: values of chosen bands. Loads rasterio when a file first needs it.

Everything that GDAL would print goes to the logging of rasterio, which is not shown: the error that is raised has the
reason.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.data.headers import JPEG_START, PNG_START, TIFF_STARTS
from mhcln.data.reading import PRESETS, ImageError, Reading
from mhcln.storage.files import one_line

# Drivers of GDAL by the first bytes of a file: no other format hides behind the name of an image.
DRIVERS = {**dict.fromkeys(TIFF_STARTS, "GTiff"), PNG_START: "PNG", JPEG_START: "JPEG"}
MISSING = "needs rasterio; pip install rasterio"
OFFSET_TAGS = ("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET")  # Sentinel-2 product metadata, level 2A and 1C
BASELINE, BASELINE_OFFSET = (4, 0), -1000.0  # since then values are stored with this offset, ESA's announcement of 2022


@functools.cache
def rasterio() -> Any:  # noqa: ANN401, it has no types
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
    return rasterio


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file with GDAL; an error of GDAL within the block becomes an ImageError."""
    library = rasterio()
    if library is None:
        raise ImageError(MISSING)
    with path.open("rb") as stream:
        start = stream.read(8)
    driver = next((name for begin, name in DRIVERS.items() if start.startswith(begin)), None)
    if driver is None:
        raise ImageError("is no TIFF, PNG or JPEG")
    try:
        # otherwise GDAL lists the folder at each file; it looks for .aux.xml, .msk and world files by name
        with library.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"), library.open(path.absolute(), driver=driver) as file:
            yield file
    except UnicodeEncodeError:
        raise ImageError("has a path that is not UTF-8, which GDAL cannot open; rename it") from None
    except (library.errors.RasterioError, library.errors.CRSError, MemoryError) as error:
        raise ImageError(f"damaged ({one_line(error.__cause__ or error)})") from None


def read(file: Any, reading: Reading) -> tuple[NDArray[Any], NDArray[np.bool_]]:  # noqa: ANN401
    """Read the bands of an opened file that a reading asks for.

    Returns:
        The values, `[h, w]` for one band, else `[h, w, 3]`, of the file's type; and a mask of the same shape, true for
        a valid value.
    """
    bands = _bands(file, reading)
    kinds = {np.dtype(file.dtypes[band - 1]) for band in bands}
    if any(kind.kind not in "uif" for kind in kinds):
        raise ImageError(f"holds values of type {', '.join(map(str, kinds))}, of which there are no pictures")
    values, valid = file.read(bands), file.read_masks(bands) != 0
    if reading.preset and (offset := _offset(file, bands[0])):
        values = values.astype(np.float64) + offset
    if len(bands) == 1:
        return values[0], valid[0]
    return np.moveaxis(values, 0, 2), np.moveaxis(valid, 0, 2)


def _bands(file: Any, reading: Reading) -> list[int]:  # noqa: ANN401
    """Return the numbers of the bands to read: three, or one for grey."""
    if reading.preset:
        return _described(file, PRESETS[reading.preset].bands)
    if reading.bands:
        if max(reading.bands) > file.count:
            have = "1 band" if file.count == 1 else f"{file.count} bands"
            raise ImageError(f"has {have}, --bands asks for band {max(reading.bands)}")
        return list(reading.bands)
    kinds = [kind.name for kind in file.colorinterp]
    colours = [[band for band, kind in enumerate(kinds, 1) if kind == name] for name in ("red", "green", "blue")]
    if all(len(bands) == 1 for bands in colours):
        return [bands[0] for bands in colours]
    bands = [band for band, kind in enumerate(kinds, 1) if kind != "alpha"]
    if len(bands) in (1, 3):
        return bands
    raise ImageError(
        f"has {len(bands)} bands of {file.dtypes[0]}; say which are red, green and blue, for example --bands=4,3,2"
    )


def _described(file: Any, wanted: tuple[str, ...]) -> list[int]:  # noqa: ANN401
    """Return the bands with these descriptions; "B4" and "B04, central wavelength 665 nm" describe B04."""
    words = [re.split(r"\W", description or "")[0].upper() for description in file.descriptions]
    names = [re.sub(r"^B(\dA?)$", r"B0\1", word) for word in words]
    if any(names.count(name) != 1 for name in wanted):
        have = ", ".join(description or "none" for description in file.descriptions)
        raise ImageError(
            f"has no bands described as {', '.join(wanted)}, but {have}; give --bands and --range instead of --preset"
        )
    return [names.index(name) + 1 for name in wanted]


def _offset(file: Any, band: int) -> float:  # noqa: ANN401
    """Return the offset to add to the values of a Sentinel-2 file, 0 if the file declares none."""
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
        raise ImageError(f"has the offset {text!r}, which is not a number") from None
