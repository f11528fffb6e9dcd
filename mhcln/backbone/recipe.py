"""Everything that features depend on: the file of the weights, the layers, and how images pass through them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from mhcln.console import UserError
from mhcln.data.reading import AS_THEY_ARE, SUFFIX, Reading

PAPER = "inception-2015-12-05"  # the paper's graph
KERAS = "keras-inception-v3"
RANDOM = "random-inception-v3"

POOL_3 = ("pool_3",)  # the paper's layer: the mean of the last block over space
# "tf32" is float32 whose convolutions read 10 of 23 bits, which NVIDIA cards since Ampere do faster
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
TIFF_STEPS = ("jpeg", "pixels")
VIEWS = (1, 8)
MOST_VIEWS = 8  # quarter turns of an image and of its mirror image

_TIFF_TEXTS = {"jpeg": "jpeg100", "pixels": "pixels"}  # as the extractor string has them
_TIFF_OF_TEXT = {text: tiff for tiff, text in _TIFF_TEXTS.items()}
_TEXT = re.compile(
    rf"(?P<family>(?P<pretrained>{PAPER}|{KERAS})|{RANDOM}) (?P<layers>\w+(?:\+\w+)*)"
    r"; (?(pretrained)sha256=(?P<sha256>[0-9a-f]{64})|seed=(?P<seed>0|[1-9][0-9]{0,99}))"
    rf"; tiff=(?P<tiff>{'|'.join(_TIFF_OF_TEXT)})"
    rf"; precision=(?P<precision>{'|'.join(PRECISIONS)})"
    rf"; views=(?P<views>{'|'.join(map(str, VIEWS))})(?:(?<=views=1); turn=(?P<turn>[1-7]))?"
    rf"(?P<reading>{SUFFIX.pattern})",
    re.ASCII,
)


@dataclasses.dataclass(frozen=True)
class BackboneOptions:
    """What a user may choose about the backbone.

    Attributes:
        model_dir: Folder with one backbone file, or that file; None for Keras's ImageNet weights.
        random_seed: Seed of random weights; None for pretrained ones.
        tiff: How TIFFs are read, one of TIFF_STEPS; None for "jpeg" with the paper's graph, else "pixels".
        precision: What the convolutions compute in, one of PRECISIONS.
        views: Number of flips and quarter turns to average over, one of VIEWS.
        layers: Layers whose means over space are the features, one after another.
        reading: How rasters are read.
        turn: Which view of an image is taken, 0 to 7, if no mean of several: 0 is the image as it is.
    """

    model_dir: Path | None = None
    random_seed: int | None = None
    tiff: str | None = None
    precision: str = "float32"
    views: int = 1
    layers: tuple[str, ...] = POOL_3
    reading: Reading = AS_THEY_ARE
    turn: int = 0


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What features depend on; two features may be compared if their recipes are equal.

    `str(recipe)` is the `extractor` that `features.npz` records, and `Recipe.parse` reads it back.

    Attributes:
        family: PAPER, KERAS or RANDOM.
        layers: Layers whose means over space are the features, one after another.
        tiff: How TIFFs are read, one of TIFF_STEPS.
        precision: What the convolutions compute in, one of PRECISIONS.
        views: Number of flips and quarter turns to average over, one of VIEWS.
        sha256: Hex SHA-256 of the file of the weights; "" for random ones.
        seed: Seed of random weights; None for those of a file.
        reading: How rasters are read.
        turn: Which view of an image is taken, 0 to 7, if no mean of several.
    """

    family: str
    layers: tuple[str, ...]
    tiff: str
    precision: str
    views: int
    sha256: str = ""
    seed: int | None = None
    reading: Reading = AS_THEY_ARE
    turn: int = 0

    def __str__(self) -> str:
        weights = f"sha256={self.sha256}" if self.seed is None else f"seed={self.seed}"
        steps = f"tiff={_TIFF_TEXTS[self.tiff]}; precision={self.precision}; views={self.views}"
        steps += f"; turn={self.turn}" if self.turn else ""
        return f"{self.family} {'+'.join(self.layers)}; {weights}; {steps}{self.reading}"

    @property
    def options(self) -> BackboneOptions:
        """What opens a backbone of this recipe; where the weights of a file are, it does not say."""
        return BackboneOptions(
            None, self.seed, self.tiff, self.precision, self.views, self.layers, self.reading, self.turn
        )

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Return the recipe whose `str` is `text`; raises UserError if there is none."""
        found = _TEXT.fullmatch(text)
        recipe = cls._of(found) if found else None
        if recipe is None or str(recipe) != text:  # a number may be written in several ways
            raise UserError(
                f"features.npz was made by {text!r}, which this version cannot reopen; search with features.npz files "
                "that it made, or extract the features again"
            )
        return recipe

    @classmethod
    def _of(cls, found: re.Match[str]) -> Recipe:
        return cls(
            family=found["family"],
            layers=tuple(found["layers"].split("+")),
            tiff=_TIFF_OF_TEXT[found["tiff"]],
            precision=found["precision"],
            views=int(found["views"]),
            sha256=found["sha256"] or "",
            seed=None if found["seed"] is None else int(found["seed"]),
            reading=Reading.of_extractor(found["reading"]),
            turn=int(found["turn"] or 0),
        )
