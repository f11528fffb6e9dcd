"""How image files are read: the bands and the range of values of rasters; the error of an unreadable image."""

from __future__ import annotations

import dataclasses
import math
import re

from mhcln.console import UserError


class ImageError(Exception):
    """An image that cannot be read. Its text says why; the caller knows the path."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """The usual bands and range of a product.

    Attributes:
        bands: Descriptions of its red, green and blue band.
        value_range: Values that become 0 and 255, after the offset of the file is subtracted.
    """

    bands: tuple[str, str, str]
    value_range: tuple[float, float]


# 4,000 is a reflectance of 0.4 at the quantification value of 10,000 (Sentinel-2 Products Specification Document).
PRESETS = {"sentinel2": Preset(("B04", "B03", "B02"), (0, 4000))}

_NUMBER = r"-?\d{1,30}(?:\.\d{1,30})?(?:e[+-]?\d{1,3})?"
SUFFIX = re.compile(
    rf"(?:; preset=(?P<preset>{'|'.join(PRESETS)}))?"
    r"(?:; bands=(?P<bands>[1-9]\d{0,4}(?:,[1-9]\d{0,4},[1-9]\d{0,4})?))?"
    rf"(?:; range=(?P<low>{_NUMBER}),(?P<high>{_NUMBER}))?\Z",
    re.ASCII,
)


@dataclasses.dataclass(frozen=True)
class Reading:
    """How rasters are read: TIFF files, and PNG files of 16 bits. Other images are pictures already.

    Its `str` is the end of an extractor string; that of the default is "".

    Attributes:
        bands: Numbers of the red, green and blue band, or of one band for grey, from 1 as GDAL counts; () for the
            bands that the file calls red, green and blue, or its only one or only three.
        value_range: Values that become 0 and 255, others clipped, in images of more than 8 bits; None to scale by
            the type of the values.
        preset: Name of a product, one of PRESETS, instead of both; "" for none.
    """

    bands: tuple[int, ...] = ()
    value_range: tuple[float, float] | None = None
    preset: str = ""

    def __post_init__(self) -> None:
        if len(self.bands) not in (0, 1, 3):
            raise UserError(f"--bands names {len(self.bands)} bands; give three, red first, or one for grey")
        if self.preset and (self.bands or self.value_range):
            raise UserError("--preset chooses the bands and the range; leave --bands and --range out")
        if self.value_range and not -math.inf < self.value_range[0] < self.value_range[1] < math.inf:
            raise UserError(f"--range={_numbers(self.value_range)} does not go up; give LOW,HIGH")

    @property
    def chooses_bands(self) -> bool:
        """Whether the file does not decide which bands are read."""
        return bool(self.bands or self.preset)

    @property
    def stretch(self) -> tuple[float, float] | None:
        """The range of values, given or of the preset."""
        return PRESETS[self.preset].value_range if self.preset else self.value_range

    def __bool__(self) -> bool:
        return self != AS_THEY_ARE

    def __str__(self) -> str:
        parts = {
            "preset": self.preset,
            "bands": ",".join(map(str, self.bands)),
            "range": _numbers(self.value_range) if self.value_range else "",
        }
        return "".join(f"; {name}={text}" for name, text in parts.items() if text)

    @classmethod
    def of_extractor(cls, extractor: str) -> Reading:
        """Return the reading at the end of an extractor string; the default if there is none."""
        found = SUFFIX.search(extractor)
        groups = found.groupdict() if found else {}
        low, high = groups.get("low"), groups.get("high")
        return cls(
            bands=tuple(map(int, (groups.get("bands") or "").split(","))) if groups.get("bands") else (),
            value_range=(float(low), float(high)) if low and high else None,
            preset=groups.get("preset") or "",
        )


AS_THEY_ARE = Reading()


def _numbers(values: tuple[float, float]) -> str:
    return ",".join(repr(float(value)).removesuffix(".0") for value in values)
