"""One image file to RGB pixels; an unreadable file gives a reason.

The rules for all images:

- The first bytes decide the format, not the file's name. Of several pages or frames, the first is read.
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
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mhcln.data import georeference, headers, image_warnings, rasters
from mhcln.data.headers import JPEG_START
from mhcln.data.reading import AS_THEY_ARE, ImageError, Reading
from mhcln.data.stretch import DEEP, stretched
from mhcln.storage.files import one_line
from mhcln.storage.image_info import ImageInfo

FORMATS = ("JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP")
MAX_PIXELS = 89_478_485  # Pillow's limit of decompression bombs: a quarter of a gibibyte as RGB
MAX_BYTES = 2**30
# A progressive JPEG goes over all pixels several times, usually ten; a small file could ask for thousands of times.
MAX_SCANNED = 20 * MAX_PIXELS
JPEG_QUALITY = 100  # published UCMD/extract_features.py:95-100, with Pillow's default chroma subsampling 4:2:0
DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # it prints on stderr what the reasons below say


Content = bytes | NDArray[np.uint8]  # an encoded JPEG, still to be decoded, or pixels [height, width, 3]


@dataclasses.dataclass(frozen=True)
class LoadedImage:
    """An image file that was read.

    Attributes:
        content: The JPEG or the pixels.
        info: Other facts about it.
        values: Number of its values, three a pixel.
    """

    content: Content
    info: ImageInfo
    values: int


def load_image(path: Path, tiff_as_jpeg: bool, reading: Reading = AS_THEY_ARE) -> LoadedImage:
    """Read an image file.

    Args:
        path: The file.
        tiff_as_jpeg: Whether to encode a TIFF as JPEG, as the published code feeds them to its network.
        reading: How rasters are read.

    Returns:
        Its content, its warnings and its georeference.

    Raises:
        ImageError: The file cannot be read.
    """
    content = _content(path)
    try:
        image = _identified(content)
        if image is not None:
            _check_size(path, image.width, image.height)
        if image is not None and content.startswith(JPEG_START):
            _check_scans(image, content)
            return LoadedImage(
                content, _with(georeference.of_picture(path, ()), _of_picture(reading), content), _values(image)
            )
        is_tiff = image is None or image.format == "TIFF"
        if image is None or _is_raster(image, content, reading):
            image, warning, info = _through_gdal(path, reading)
        else:
            info = georeference.of_picture(path, getattr(image, "tag_v2", ()))
            image, warning = _through_pillow(image, content, reading)
        pixels = _as_jpeg(image) if is_tiff and tiff_as_jpeg else np.array(image.convert("RGB"))
        return LoadedImage(pixels, _with(info, warning, content), _values(image))
    except ImageError:
        raise
    except UnidentifiedImageError:
        reason = f"not a readable image ({', '.join(FORMATS)}; 1, 3 or 4 channels), or damaged at its start"
        raise ImageError(reason) from None
    except Image.DecompressionBombError:  # Pillow's own limit, of twice as many pixels
        raise ImageError(f"more than {2 * MAX_PIXELS:,} pixels; {_cut_up(path)}") from None
    except Exception as error:  # Pillow raises errors of any type on damaged files
        raise ImageError(f"damaged ({one_line(error) or type(error).__name__})") from error


def _values(image: Image.Image) -> int:
    return 3 * image.width * image.height


def _with(info: ImageInfo, warning: str, content: bytes) -> ImageInfo:
    warnings = (warning, *info.warnings) if warning else info.warnings
    return ImageInfo(warnings=warnings, lonlat=info.lonlat, checksum=zlib.crc32(content))


def _identified(content: bytes) -> Image.Image | None:
    """Return an image whose pixels are not read yet; None for a TIFF that Pillow does not know."""
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except (UnidentifiedImageError, KeyError):  # KeyError: a compression that it does not know
        if content.startswith(headers.TIFF_STARTS):
            return None
        raise


def _is_raster(image: Image.Image, content: bytes, reading: Reading) -> bool:
    """Return whether GDAL must read an image, since Pillow would read it wrongly or not as the user asks."""
    deep = headers.bits(image, content) > 8
    if image.format != "TIFF":
        return deep and bool(reading)
    return headers.is_misread(image) or reading.chooses_bands or (deep and reading.stretch is not None)


def _of_picture(reading: Reading) -> str:
    return image_warnings.PICTURE if reading else ""


def _through_pillow(image: Image.Image, content: bytes, reading: Reading) -> tuple[Image.Image, str]:
    """Return an image of 8 bits, and a warning about its values."""
    deep = headers.bits(image, content) > 8
    image.load()
    if image.mode in (*DEEP_GREY, "F"):
        values = np.asarray(image)
        pixels, warning = stretched(values, np.ones(values.shape, np.bool_), None)
        return Image.fromarray(pixels), warning
    if deep:  # of which the low byte is gone
        return image, image_warnings.dark(int(np.asarray(image).max(initial=0)) << 8 | 0xFF, DEEP)
    if image.format == "TIFF":
        return image, image_warnings.EIGHT_BITS if reading.stretch else ""
    return image, _of_picture(reading)


def _through_gdal(path: Path, reading: Reading) -> tuple[Image.Image, str, ImageInfo]:
    """Return an image of 8 bits, a warning about its values, and its georeference."""
    with rasters.opened(path) as file:
        _check_size(path, file.width, file.height)
        values, valid = rasters.read(file, reading)
        info = georeference.of_raster(path, file)
    pixels, warning = stretched(values, valid, reading.stretch)
    return Image.fromarray(pixels), warning, info


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width}x{height} is more than {MAX_PIXELS:,} pixels; {_cut_up(path)}")


def _check_scans(image: Image.Image, content: bytes) -> None:
    """Raise ImageError if a JPEG has no end, or goes over its pixels too often."""
    scans, has_end = headers.scans(content)
    if not has_end:  # TensorFlow's decoder distinguishes a cut file from a damaged one only on stderr
        raise ImageError("truncated (a JPEG without its end)")
    if image.width * image.height * scans > MAX_SCANNED:
        raise ImageError("damaged (a JPEG that goes over its pixels too many times)")


def _cut_up(path: Path) -> str:
    return f"cut it up, for example gdal_retile.py -ps 256 256 -targetDir chips {path.name}"


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ImageError("not a file" if path.exists() else "missing")
        if path.stat().st_size > MAX_BYTES:
            raise ImageError(f"larger than {MAX_BYTES:,} bytes; {_cut_up(path)}")
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be opened ({error.strerror})") from error
    if not content:
        raise ImageError("empty file")
    return content


def _as_jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    (image if image.mode == "L" else image.convert("RGB")).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()
