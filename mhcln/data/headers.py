"""Facts from the header of an image file: bits of a sample, errors of Pillow, scans of a JPEG."""

import re

from PIL import Image, TiffImagePlugin

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # little and big endian, TIFF and BigTIFF
JPEG_START = b"\xff\xd8\xff"
MAX_SEGMENTS = 10_000  # of a JPEG
# ITU T.81, table B.1: the markers that a length and a segment follow, and the end of the image
MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
SCAN, END = 0xDA, 0xD9
PNG_START, PNG_DEPTH = b"\x89PNG\r\n\x1a\n", 24  # offset of the bits of a sample
# Tags of TIFF, and values of them
BITS, COMPRESSION, SAMPLES, PLANES = 258, 259, 277, 284
UNCOMPRESSED, SEPARATE = 1, 2


def bits(image: Image.Image, content: bytes) -> int:
    """Return the bits of a sample of a TIFF or PNG file, of which Pillow's colour images keep 8; 8 for others."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(max(image.tag_v2.get(BITS, (1,))))
    return content[PNG_DEPTH] if content.startswith(PNG_START) else 8


def is_misread(image: Image.Image) -> bool:
    """Return whether Pillow takes the first of several planes of a TIFF for all, or deep planes for pixels."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.tag_v2.get(PLANES, 1) != SEPARATE:
        return False
    deep = bool(max(image.tag_v2.get(BITS, (1,))) > 8)
    too_few = len(image.getbands()) < min(image.tag_v2.get(SAMPLES, 1), 3)
    return too_few or (deep and image.tag_v2.get(COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED)


def scans(jpeg: bytes) -> tuple[int, bool]:
    """Return how many times a JPEG goes over its pixels, and whether it has its end, whatever follows it.

    Phones append films and notes of many megabytes; the end of an embedded preview is in a segment, and so not it.
    """
    count, offset = 0, len(JPEG_START) - 1
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(jpeg, offset)
        if found is None or found[0][1] == END:
            return count, found is not None
        count += found[0][1] == SCAN
        offset = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2], "big")
    raise ValueError("a JPEG of too many segments")
