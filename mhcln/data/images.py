"""One image file to RGB pixels, whatever a remote-sensing archive holds; what cannot be read has a reason.

What is decided here, once:

- The first bytes tell the format, not the file's name. Of several pages or frames, the first is read.
- JPEG files come back as they are, since features depend on the decoder (see `mhcln.backbone.loader.decode`).
- EXIF orientation of JPEG, PNG and WebP files is ignored, as the published code ignores it; Pillow applies the
  orientation tag of TIFF files, in the published code as here.
- Transparency is dropped. Grey and palette images become RGB.
- 16-bit values lose their low byte (65535 becomes 255), as Pillow and TensorFlow do with 16-bit colour. Float values
  are taken as 0 to 1, or as 0 to 255 if one is above 1. Any other range is refused: a stretch of each image by
  its own extremes would make two images of one scene differ.
"""

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mhcln.storage.files import one_line

FORMATS = ("JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP")
MAX_PIXELS = 89_478_485  # Pillow's limit of decompression bombs: a quarter of a gibibyte as RGB
MAX_BYTES = 2**30
JPEG_START = b"\xff\xd8\xff"
# A progressive JPEG goes over all pixels several times, usually ten; a small file could ask for thousands of times.
MAX_SCANNED = 20 * MAX_PIXELS
MAX_SEGMENTS = 10_000
# ITU T.81, table B.1: the markers that a length and a segment follow, and the end of the image
MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
SCAN, END = 0xDA, 0xD9
JPEG_QUALITY = 100  # published UCMD/extract_features.py:95-100, with Pillow's default chroma subsampling 4:2:0
DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I")
BROKEN = (  # what Pillow raises on damaged files, by its own fuzzing
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class ImageError(Exception):
    """One image that cannot be read: its path and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def read_image(path: Path, tiff_as_jpeg: bool) -> bytes | NDArray[np.uint8]:
    """Read an image file.

    Args:
        path: The file.
        tiff_as_jpeg: Whether to encode a TIFF as JPEG, as the published code feeds them to its network.

    Returns:
        An encoded JPEG, still to be decoded, or pixels [height, width, 3] uint8.

    Raises:
        ImageError: The file cannot be read.
    """
    content = _content(path)
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(path, f"{image.width}x{image.height} is more than {MAX_PIXELS:,} pixels; cut it up")
        if content.startswith(JPEG_START):
            # TensorFlow's decoder distinguishes a cut file from a damaged one only on stderr
            scans, has_end = _scans(content)
            if not has_end:
                raise ImageError(path, "truncated (a JPEG without its end)")
            if image.width * image.height * scans > MAX_SCANNED:
                raise ImageError(path, "damaged (a JPEG that goes over its pixels too many times)")
            return content
        is_tiff = image.format == "TIFF"
        image.load()
        image = _eight_bit(path, image)
        if is_tiff and tiff_as_jpeg:
            return _as_jpeg(image)
        return np.array(image.convert("RGB"))
    except UnidentifiedImageError:
        reason = f"not a readable image ({', '.join(FORMATS)}; 1, 3 or 4 channels), or damaged at its start"
        raise ImageError(path, reason) from None
    except BROKEN as error:
        raise ImageError(path, f"damaged ({one_line(error) or type(error).__name__})") from error


def _scans(jpeg: bytes) -> tuple[int, bool]:
    """Return how many times a JPEG goes over its pixels, and whether it has its end, whatever follows it.

    Phones append films and notes of many megabytes; the end of an embedded preview is in a segment, and so not it.
    """
    scans, place = 0, len(JPEG_START) - 1
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(jpeg, place)
        if found is None or found[0][1] == END:
            return scans, found is not None
        scans += found[0][1] == SCAN
        place = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2], "big")
    raise ValueError("a JPEG of too many segments")


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ImageError(path, "not a file" if path.exists() else "missing")
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(path, f"larger than {MAX_BYTES:,} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(path, f"cannot be opened ({error.strerror})") from error
    if not content:
        raise ImageError(path, "empty file")
    return content


def _eight_bit(path: Path, image: Image.Image) -> Image.Image:
    if image.mode not in (*DEEP_GREY, "F"):
        return image
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F" and low >= 0 and high <= 255:  # false if a value is not a number
        return Image.fromarray(np.round(values * (255 if high <= 1 else 1)).astype(np.uint8))
    if image.mode in DEEP_GREY and low >= 0 and high <= 65535:
        return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))
    wanted = "0 to 1 or 0 to 255" if image.mode == "F" else "0 to 65535"
    raise ImageError(path, f"has values from {low} to {high}; scale them to {wanted}")


def _as_jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    (image if image.mode == "L" else image.convert("RGB")).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()
