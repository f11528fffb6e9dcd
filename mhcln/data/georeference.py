"""The georeference of an image: longitude and latitude of its centre and corners, from tags or files beside it."""

import functools
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

from mhcln.data import image_warnings, rasters
from mhcln.data.reading import ImageError
from mhcln.storage.files import one_line
from mhcln.storage.image_info import ImageInfo, Lonlat

TRANSFORM_TAGS = (33550, 34264)  # of GeoTIFF (OGC 19-008r4, 7.1): without one of them it has no transform
# Endings of the files beside an image in which GDAL looks for a transform
SIDECARS = (".jgw", ".jpgw", ".jpegw", ".pgw", ".pngw", ".tfw", ".tifw", ".tiffw", ".wld", ".aux.xml")


def of_picture(path: Path, tags: Container[int]) -> ImageInfo:
    """Return the georeference of an image that Pillow reads, or a warning that it cannot be used.

    GDAL opens the file only if a tag or a file beside it may hold a transform.

    Args:
        path: The image.
        tags: Its tags, if it is a TIFF.
    """
    try:
        if not any(tag in tags for tag in TRANSFORM_TAGS) and path.stem not in _stems_of_sidecars(path.parent):
            return ImageInfo()
        with rasters.opened(path) as file:
            return of_raster(path, file)
    except (ImageError, OSError) as error:
        return _unusable(error)


def of_raster(path: Path, file: Any) -> ImageInfo:  # noqa: ANN401, a file of rasterio, which has no types
    """Return the georeference of an image that GDAL has opened, or a warning that it cannot be used."""
    if file.transform.is_identity:
        return ImageInfo()
    try:
        return ImageInfo(lonlat=_lonlat(path, file))
    except ImageError as error:
        return _unusable(error)


def _unusable(error: Exception) -> ImageInfo:
    return ImageInfo(warnings=(image_warnings.no_georeference(str(error)),))


def _stems_of_sidecars(folder: Path) -> frozenset[str]:
    """Return the names, without endings, of the images that have a file beside them; one listing for each folder."""
    return _listed(folder, folder.stat().st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _listed(folder: Path, _changed: int) -> frozenset[str]:
    names = (path.name for path in folder.iterdir() if path.name.lower().endswith(SIDECARS))
    return frozenset(Path(name.removesuffix(".aux.xml")).stem for name in names)


def _lonlat(path: Path, file: Any) -> Lonlat:  # noqa: ANN401
    crs = file.crs or _crs_of_prj(path)
    width, height = file.width, file.height
    pixels = ((width / 2, height / 2), (0, 0), (0, height), (width, height), (width, 0))
    columns, rows = zip(*(file.transform * pixel for pixel in pixels), strict=True)
    try:
        longitudes, latitudes = rasters.rasterio().warp.transform(crs, "EPSG:4326", columns, rows)
    except Exception as error:  # rasterio raises GDAL's errors, which have no public base class
        raise ImageError(f"PROJ cannot transform its coordinates ({one_line(error)})") from None
    if not np.isfinite([*longitudes, *latitudes]).all():
        raise ImageError("its coordinates are not finite")
    return tuple(zip(longitudes, latitudes, strict=True))


def _crs_of_prj(path: Path) -> Any:  # noqa: ANN401
    """Return the coordinate reference system of a .prj file beside an image, which GDAL does not read."""
    library, prj = rasters.rasterio(), path.with_suffix(".prj")
    if not prj.is_file():
        raise ImageError("coordinates, but no coordinate reference system")
    try:
        return library.crs.CRS.from_wkt(prj.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, library.errors.RasterioError) as error:
        raise ImageError(f"its .prj file is not a coordinate reference system ({one_line(error)})") from None
