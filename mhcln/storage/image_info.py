"""The facts about one image beside its pixels and its features, from its reader to the table of images."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

POINTS = 5  # the centre, then the corners: upper left, lower left, lower right, upper right
Lonlat = tuple[tuple[float, float], ...]
_UNKNOWN: Lonlat = ((np.nan, np.nan),) * POINTS


@dataclasses.dataclass(frozen=True, slots=True)
class ImageInfo:
    """The facts about an image.

    Attributes:
        error: Why it cannot be read; "" if it can.
        warnings: Everything unusual about it, see `mhcln.data.image_warnings`.
        lonlat: Degrees east and north (WGS 84) of its centre and corners, POINTS pairs; None if they are not known.
        checksum: CRC-32 of its file.
    """

    error: str = ""
    warnings: tuple[str, ...] = ()
    lonlat: Lonlat | None = None
    checksum: int = 0


def lonlat_of(infos: Sequence[ImageInfo]) -> NDArray[np.float64]:
    """Return the georeferences of images, `[n, 5, 2]`, NaN for an unknown one; `[0, 5, 2]` if none is known."""
    known = any(info.lonlat for info in infos)
    return np.array([info.lonlat or _UNKNOWN for info in infos if known], np.float64).reshape(-1, POINTS, 2)
