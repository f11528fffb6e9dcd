"""Values of any type to 8 bits: by a range that is the same for all images, or by the type of the values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mhcln.data import image_warnings
from mhcln.data.reading import ImageError

# A float image whose highest value lies between these may be reflectance with a bright cloud, or a dark picture.
UNIT_HIGH, BYTE_LOW = 1, 16
DEEP = 65535


def stretched(
    values: NDArray[Any], valid: NDArray[np.bool_], value_range: tuple[float, float] | None
) -> tuple[NDArray[np.uint8], str]:
    """Scale values to 0 to 255; invalid values become 0.

    A stretch by the extremes of each image would make two images of one scene differ.

    Args:
        values: `[h, w]` or `[h, w, 3]` of any integer or float type; uint8 stays as it is.
        valid: Of the same shape, false for a value that the file declares missing.
        value_range: Values that become 0 and 255, others clipped; None for the range of the type: integers lose the
            low one of 16 bits, floats are 0 to 1 or 0 to 255.

    Returns:
        The scaled values, and a warning of `mhcln.data.image_warnings`, "" if there is none.

    Raises:
        ImageError: The values are outside the range of their type, or not numbers.
    """
    if values.dtype == np.uint8:
        return np.where(valid, values, 0).astype(np.uint8), image_warnings.EIGHT_BITS if value_range else ""
    there = values[valid]
    if not there.size:
        return np.zeros(values.shape, np.uint8), ""
    low, high = there.min(), there.max()
    if value_range:
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ImageError(
                f"has pixels that are not finite ({low} to {high}) and that its nodata value does not name"
            )
        return _scaled(np.where(valid, values, value_range[0]), *value_range), ""
    filled = np.where(valid, values, values.dtype.type(0))
    if values.dtype.kind == "f":
        return _by_float_scale(filled, float(low), float(high))
    if low < 0 or high > DEEP:
        raise ImageError(f"has values from {low} to {high}; scale them to 0 to {DEEP}, or give --range=LOW,HIGH")
    full = 32767 if values.dtype == np.int16 else DEEP
    return (filled.astype(np.uint32) >> 8).astype(np.uint8), image_warnings.dark(int(high), full)


def _by_float_scale(values: NDArray[Any], low: float, high: float) -> tuple[NDArray[np.uint8], str]:
    if not (low >= 0 and high <= 255):  # true if a value is not a number
        raise ImageError(f"has values from {low} to {high}; scale them to 0 to 1 or 0 to 255, or give --range=LOW,HIGH")
    if UNIT_HIGH < high < BYTE_LOW:
        raise ImageError(
            f"has float values up to {high:.6g}, which may be of 0 to 1 or of 0 to 255; "
            "say it with --range=0,1 or --range=0,255"
        )
    if high > UNIT_HIGH:
        return np.round(values).astype(np.uint8), image_warnings.BYTES
    return np.round(values * 255).astype(np.uint8), image_warnings.UNIT


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    share = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(np.clip(share, 0, 255)).astype(np.uint8)
