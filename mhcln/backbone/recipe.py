"""Everything that features depend on: the file of the weights, the layers, and the inference."""

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
ALL_ROTATIONS = 8  # by 0, 90, 180 and 270 degrees, of an image and of its mirror image
ROTATIONS = (1, ALL_ROTATIONS)

_TIFF_TEXTS = {"jpeg": "jpeg100", "pixels": "pixels"}  # as the extractor string has them
_TIFF_OF_TEXT = {text: tiff for tiff, text in _TIFF_TEXTS.items()}
_TEXT = re.compile(
    rf"(?P<family>(?P<pretrained>{PAPER}|{KERAS})|{RANDOM}) (?P<layers>\w+(?:\+\w+)*)"
    r"; (?(pretrained)sha256=(?P<sha256>[0-9a-f]{64})|seed=(?P<seed>0|[1-9][0-9]{0,99}))"
    rf"; tiff=(?P<tiff>{'|'.join(_TIFF_OF_TEXT)})"
    rf"; precision=(?P<precision>{'|'.join(PRECISIONS)})"
    rf"; views=(?P<rotations>{'|'.join(map(str, ROTATIONS))})(?:(?<=views=1); turn=(?P<rotation>[1-7]))?"
    rf"(?P<reading>{SUFFIX.pattern})",
    re.ASCII,
)


@dataclasses.dataclass(frozen=True)
class Inference:
    """The inference: how images pass through a network.

    Attributes:
        layers: Layers whose means over space are the features, one after another.
        tiff: How TIFFs are read, one of TIFF_STEPS; "" for "jpeg" with the paper's graph, else "pixels".
        precision: The precision of the convolutions, one of PRECISIONS.
        rotations: Number of rotations whose features are averaged, one of ROTATIONS.
        rotation: The rotation of an image, 0 to 7, if none are averaged; 0 is the image itself.
        reading: How rasters are read.
    """

    layers: tuple[str, ...] = POOL_3
    tiff: str = ""
    precision: str = "float32"
    rotations: int = 1
    rotation: int = 0
    reading: Reading = AS_THEY_ARE


@dataclasses.dataclass(frozen=True)
class BackboneOptions:
    """The backbone that a user chooses.

    Attributes:
        model_dir: Folder with one backbone file, or that file; None for Keras's ImageNet weights.
        random_seed: Seed of random weights; None for pretrained ones.
        inference: The inference.
    """

    model_dir: Path | None = None
    random_seed: int | None = None
    inference: Inference = Inference()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that features depend on; two features may be compared if their recipes are equal.

    `str(recipe)` is the `extractor` that `features.npz` records, and `Recipe.parse` reads it back.

    Attributes:
        family: PAPER, KERAS or RANDOM.
        inference: How images pass through the network; its `tiff` is never "".
        sha256: Hex SHA-256 of the file of the weights; "" for random ones.
        seed: Seed of random weights; None for weights of a file.
    """

    family: str
    inference: Inference
    sha256: str = ""
    seed: int | None = None

    def __str__(self) -> str:
        inference = self.inference
        weights = f"sha256={self.sha256}" if self.seed is None else f"seed={self.seed}"
        steps = f"tiff={_TIFF_TEXTS[inference.tiff]}; precision={inference.precision}; views={inference.rotations}"
        steps += f"; turn={inference.rotation}" if inference.rotation else ""
        return f"{self.family} {'+'.join(inference.layers)}; {weights}; {steps}{inference.reading}"

    @property
    def options(self) -> BackboneOptions:
        """The options of a backbone of this recipe, without the path of its file."""
        return BackboneOptions(None, self.seed, self.inference)

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Return the recipe whose `str` is `text`."""
        if found := _TEXT.fullmatch(text):
            inference = Inference(
                layers=tuple(found["layers"].split("+")),
                tiff=_TIFF_OF_TEXT[found["tiff"]],
                precision=found["precision"],
                rotations=int(found["rotations"]),
                rotation=int(found["rotation"] or 0),
                reading=Reading.of_extractor(found["reading"]),
            )
            seed = None if found["seed"] is None else int(found["seed"])
            recipe = cls(found["family"], inference, found["sha256"] or "", seed)
            if str(recipe) == text:  # a number may be written in several ways
                return recipe
        raise UserError(
            f"features.npz was made by {text!r}, which this version cannot reopen; search with features.npz files "
            "that it made, or extract the features again"
        )
