"""What is odd about how an image was read, and the one line for all images of a folder that says so.

A remark is a word, in some with a detail behind it: short enough to be kept for each image until all are read.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from mhcln.console import UserError
from mhcln.storage import layout

UNIT = "unit"  # floats of 0 to 1
BYTES = "bytes"  # floats of 0 to 255
SCALES = frozenset((UNIT, BYTES))
EIGHT_BITS = "8bits"  # not stretched by --range
PICTURE = "picture"  # no raster: neither --bands nor --range applies
_DARK = "dark"
_UNPLACED = "unplaced"


def dark(highest: int, full: int) -> str:
    """Return the remark that the values stay below a quarter of their type's range, "" if they do not."""
    return f"{_DARK} {highest} {full}" if 4 * highest < full else ""


def unplaced(reason: str) -> str:
    """Return the remark that where an image lies is not known although its file should say it."""
    return f"{_UNPLACED} {reason}"


def sentences(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the lines about the remarks of all images, which are the values of `found` by path."""
    paths: dict[str, list[str]] = defaultdict(list)
    highest, full = 0, 1
    for path, remarks in found.items():
        for remark in remarks:
            kind, _, detail = remark.partition(" ")
            paths[remark if kind == _UNPLACED else kind].append(path)
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
    lines |= {remark: f"no place on the map: {remark.partition(' ')[2]}" for remark in paths if _UNPLACED in remark}
    return [
        f"{len(paths[kind]):,} images (first {paths[kind][0]}) have {text}"
        for kind, text in lines.items()
        if paths[kind]
    ]


def check_scales(first: Mapping[str, str]) -> None:
    """Raise UserError if float images are of two scales; `first` is a path of an image by its scale."""
    if UNIT in first and BYTES in first:
        raise UserError(
            f"float images are of two scales: {first[UNIT]} holds 0 to 1, {first[BYTES]} 0 to 255; "
            "say which it is for all with --range=0,1 or --range=0,255"
        )
