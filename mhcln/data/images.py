"""One image file to RGB pixels, whatever a remote-sensing archive holds; what cannot be read has a reason.

What is decided here, once:

- The first bytes tell the format, not the file's name. Of several pages or frames, the first is read.
- JPEG files come back as they are, since features depend on the decoder (see `mhcln.backbone.decoding.decode`).
- EXIF orientation of JPEG, PNG and WebP files is ignored, as the published code ignores it; Pillow applies the
  orientation tag of TIFF files, in the published code as here.
- Transparency is dropped. Grey and palette images become RGB.
- 16-bit values lose their low byte (65535 becomes 255), as Pillow and TensorFlow do with 16-bit colour. Float values
  are taken as 0 to 1, or as 0 to 255. Any other range is refused, unless the user gives one.
- A TIFF that Pillow cannot read, or reads wrongly, is read through GDAL, as is every raster of which the user chooses
  the bands or the range.
"""

import dataclasses
import io
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from mhcln.data import georeference, headers, rasters, remarks
from mhcln.data.georeference import Place
from mhcln.data.headers import JPEG_START
from mhcln.data.reading import AS_THEY_ARE, Reading
from mhcln.data.stretch import DEEP, RangeError, stretched
from mhcln.storage.files import one_line

FORMATS = ("JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP")
MAX_PIXELS = 89_478_485  # Pillow's limit of decompression bombs: a quarter of a gibibyte as RGB
MAX_BYTES = 2**30
# A progressive JPEG goes over all pixels several times, usually ten; a small file could ask for thousands of times.
MAX_SCANNED = 20 * MAX_PIXELS
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
logging.getLogger("PIL").addHandler(logging.NullHandler())  # it prints on stderr what the reasons below say


class ImageError(Exception):
    """One image that cannot be read: its path and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class About:
    """What is known of an image beside its pixels.

    Attributes:
        remarks: What is odd about how it was read, see `mhcln.data.remarks`.
        place: Where it lies; None if that is not known.
    """

    remarks: tuple[str, ...] = ()
    place: Place | None = None

    def __bool__(self) -> bool:
        return bool(self.remarks or self.place)


Content = bytes | NDArray[np.uint8]  # an encoded JPEG, still to be decoded, or pixels [height, width, 3]


@dataclasses.dataclass(frozen=True)
class LoadedImage:
    """An image file that was read.

    Attributes:
        content: The JPEG or the pixels.
        about: What is known of it beside.
        values: Number of its values, three a pixel.
    """

    content: Content
    about: About
    values: int


def read_image(path: Path, tiff_as_jpeg: bool, reading: Reading = AS_THEY_ARE) -> Content:
    """Return the content of an image file; arguments, errors and what is returned as those of `load_image`."""
    return load_image(path, tiff_as_jpeg, reading).content


def load_image(path: Path, tiff_as_jpeg: bool, reading: Reading = AS_THEY_ARE) -> LoadedImage:
    """Read an image file.

    Args:
        path: The file.
        tiff_as_jpeg: Whether to encode a TIFF as JPEG, as the published code feeds them to its network.
        reading: How rasters are read.

    Returns:
        Its content, and what is odd about it or tells where it lies.

    Raises:
        ImageError: The file cannot be read.
    """
    content = _content(path)
    try:
        image = _identified(content)
        if image is not None and image.width * image.height > MAX_PIXELS:
            raise ImageError(path, _too_large(path, image.width, image.height))
        if image is not None and content.startswith(JPEG_START):
            # TensorFlow's decoder distinguishes a cut file from a damaged one only on stderr
            scans, has_end = headers.scans(content)
            if not has_end:
                raise ImageError(path, "truncated (a JPEG without its end)")
            if image.width * image.height * scans > MAX_SCANNED:
                raise ImageError(path, "damaged (a JPEG that goes over its pixels too many times)")
            return LoadedImage(content, _about(_of_picture(reading), _place(path, image)), _values(image))
        is_tiff = image is None or image.format == "TIFF"
        if image is None or _is_raster(image, content, reading):
            image, remark, place = _through_gdal(path, content, reading)
        else:
            place = _place(path, image)
            image, remark = _through_pillow(image, content, reading)
        pixels = _as_jpeg(image) if is_tiff and tiff_as_jpeg else np.array(image.convert("RGB"))
        return LoadedImage(pixels, _about(remark, place), _values(image))
    except UnidentifiedImageError:
        reason = f"not a readable image ({', '.join(FORMATS)}; 1, 3 or 4 channels), or damaged at its start"
        raise ImageError(path, reason) from None
    except RangeError as error:
        raise ImageError(path, str(error)) from None
    except Image.DecompressionBombError:  # Pillow's own limit, of twice as many pixels
        raise ImageError(path, f"more than {2 * MAX_PIXELS:,} pixels; {_cut_up(path)}") from None
    except BROKEN as error:
        raise ImageError(path, f"damaged ({one_line(error) or type(error).__name__})") from error


def _values(image: Image.Image) -> int:
    return 3 * image.width * image.height


def _about(remark: str, place: Place | None) -> About:
    remarked = (remark, remarks.unplaced(place.problem) if place and place.problem else "")
    return About(tuple(filter(None, remarked)), place if place and not place.problem else None)


def _identified(content: bytes) -> Image.Image | None:
    """Return an image whose pixels are not read yet; None for a TIFF that Pillow does not know."""
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except (UnidentifiedImageError, KeyError):  # KeyError: a compression that it does not know
        if content.startswith(headers.TIFF_STARTS):
            return None
        raise


def _is_raster(image: Image.Image, content: bytes, reading: Reading) -> bool:
    """Return whether GDAL is to read an image, since Pillow would read it wrongly or not as the user wants it."""
    deep = headers.bits(image, content) > 8
    if image.format != "TIFF":
        return deep and bool(reading)
    return headers.is_misread(image) or reading.chooses_bands or (deep and reading.stretch is not None)


def _of_picture(reading: Reading) -> str:
    return remarks.PICTURE if reading else ""


def _through_pillow(image: Image.Image, content: bytes, reading: Reading) -> tuple[Image.Image, str]:
    """Return an image of 8 bits, and what is odd about it."""
    deep = headers.bits(image, content) > 8
    image.load()
    if image.mode in (*DEEP_GREY, "F"):
        values = np.asarray(image)
        pixels, remark = stretched(values, np.ones(values.shape, np.bool_), None)
        return Image.fromarray(pixels), remark
    if deep:  # of which the low byte is gone
        return image, remarks.dark(int(np.asarray(image).max(initial=0)) << 8 | 0xFF, DEEP)
    if image.format == "TIFF":
        return image, remarks.EIGHT_BITS if reading.stretch else ""
    return image, _of_picture(reading)


def _through_gdal(path: Path, content: bytes, reading: Reading) -> tuple[Image.Image, str, Place | None]:
    """Return an image of 8 bits, what is odd about it, and where it lies."""
    if rasters.rasterio() is None:
        raise ImageError(path, f"{headers.described(content)}, which {rasters.MISSING}")
    try:
        raster = rasters.read(path, reading, MAX_PIXELS)
    except rasters.TooLargeError as error:
        raise ImageError(path, _too_large(path, error.width, error.height)) from None
    except rasters.RasterError as error:
        raise ImageError(path, str(error)) from None
    pixels, remark = stretched(raster.values, raster.valid, reading.stretch)
    place = georeference.of_raster(raster.georeference) or georeference.of_sidecars(path, "TIFF")
    return Image.fromarray(pixels), remark, place


def _place(path: Path, image: Image.Image) -> Place | None:
    """Return where an image lies that Pillow reads; what is wrong with that keeps no image from being read."""
    try:
        tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
        return georeference.of_tags(path, tags) or georeference.of_sidecars(path, image.format or "")
    except BROKEN:
        return None


def _too_large(path: Path, width: int, height: int) -> str:
    return f"{width}x{height} is more than {MAX_PIXELS:,} pixels; {_cut_up(path)}"


def _cut_up(path: Path) -> str:
    return f"cut it up, for example gdal_retile.py -ps 256 256 -targetDir chips {path.name}"


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ImageError(path, "not a file" if path.exists() else "missing")
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(path, f"larger than {MAX_BYTES:,} bytes; {_cut_up(path)}")
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(path, f"cannot be opened ({error.strerror})") from error
    if not content:
        raise ImageError(path, "empty file")
    return content


def _as_jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    (image if image.mode == "L" else image.convert("RGB")).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()
