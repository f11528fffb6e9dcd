"""Warnings about images that were read, and one line for all images of a folder with the same warning.

A warning is a word, some with a detail: short enough to keep one for each image until all are read.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.image_info import ImageInfo

UNIT = "unit"  # floats of 0 to 1
BYTES = "bytes"  # floats of 0 to 255
SCALES = frozenset((UNIT, BYTES))
EIGHT_BITS = "8bits"  # not stretched by --range
PICTURE = "picture"  # no raster: neither --bands nor --range applies
_DARK = "dark"
_NO_GEOREFERENCE = "georeference"


def dark(highest: int, full: int) -> str:
    """Return the warning that the values stay below a quarter of their type's range, "" if they do not."""
    return f"{_DARK} {highest} {full}" if 4 * highest < full else ""


def no_georeference(reason: str) -> str:
    """Return the warning that the georeference of an image cannot be used."""
    return f"{_NO_GEOREFERENCE} {reason}"


def sentences(paths: Sequence[str], infos: Sequence[ImageInfo]) -> list[str]:
    """Return one line for each kind of warning among images."""
    found: dict[str, list[str]] = defaultdict(list)
    highest, full = 0, 1
    for path, info in zip(paths, infos, strict=True):
        for warning in info.warnings:
            kind, _, detail = warning.partition(" ")
            found[warning if kind == _NO_GEOREFERENCE else kind].append(path)
            if kind == _DARK:
                highest, full = max((highest, full), tuple(map(int, detail.split())))
    lines = {
        _DARK: f"more than 8 bits, but values of at most {highest:,} of {full:,}, which come out nearly black; "
        f"{layout.EXTRACT} --range=LOW,HIGH stretches them, for example --range=0,{highest}",
        UNIT: f"floats, taken as 0 to 1; {layout.EXTRACT} --range=LOW,HIGH takes them otherwise",
        BYTES: f"floats, taken as 0 to 255; {layout.EXTRACT} --range=LOW,HIGH takes them otherwise",
        EIGHT_BITS: "values of 8 bits, which a range leaves as they are",
        PICTURE: "pictures that are neither TIFF nor of 16 bits, which bands and a range leave as they are",
    }
    for warning in found:
        if warning.startswith(_NO_GEOREFERENCE):
            lines[warning] = f"no usable georeference: {warning.partition(' ')[2]}"
    return [
        f"{len(found[kind]):,} images (first {found[kind][0]}) have {text}"
        for kind, text in lines.items()
        if kind in found
    ]


def float_scale(infos: Iterable[ImageInfo]) -> str:
    """Return the scale of float images, "unit" or "bytes"; "" if there are none."""
    return next((warning for info in infos for warning in info.warnings if warning in SCALES), "")


def check_scales(first: Mapping[str, str]) -> None:
    """Raise UserError if float images are of two scales; `first` is a path of an image by its scale."""
    if UNIT in first and BYTES in first:
        raise UserError(
            f"float images are of two scales: {first[UNIT]} holds 0 to 1, {first[BYTES]} 0 to 255; "
            "say which it is for all with --range=0,1 or --range=0,255"
        )
