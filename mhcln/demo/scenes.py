"""Small aerial-like scenes, drawn with Pillow, for the demo and the tests: no download, any number, seeded."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE = 256
# Scenes are drawn twice as fine as they are shown, on ground large enough to turn: 2 * 256 * sqrt(2) < 728.
GROUND = 728

Colour = tuple[int, ...]
Scene = Callable[[ImageDraw.ImageDraw, np.random.Generator], None]


def draw_scene(name: str, seed: int) -> Image.Image:
    """A 256x256 RGB scene of a class of `SCENES`, one for each seed: ground, things, turn, light, grain."""
    rng = np.random.default_rng([seed, *name.encode()])
    ground, scene = SCENES[name]
    canvas = _ground(_shade(ground, rng, 14), rng)
    scene(ImageDraw.Draw(canvas), rng)
    turned = canvas.rotate(rng.uniform(0, 360), Image.Resampling.BICUBIC)
    edge = (GROUND - 2 * SIDE) // 2
    image = turned.crop((edge, edge, edge + 2 * SIDE, edge + 2 * SIDE)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(image, np.float32) * rng.uniform(0.85, 1.12) + rng.normal(0, 5, (SIDE, SIDE, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw_folders(folder: Path, images: int) -> None:
    """Write `images` scenes of every class under `folder`, as class folders of TIFF files, if they are not there."""
    for name in SCENES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            path = folder / name / f"{name}{number:02}.tif"
            if not path.exists():
                draw_scene(name, number).save(path)


def _shade(colour: Colour, rng: np.random.Generator, spread: float) -> Colour:
    light, tint = rng.normal(0, spread), rng.normal(0, spread / 3, 3)
    return tuple(int(np.clip(c + light + t, 0, 255)) for c, t in zip(colour, tint, strict=True))


def _ground(colour: Colour, rng: np.random.Generator) -> Image.Image:
    patches = rng.normal(0, 11, (23, 23)).astype(np.float32)
    smooth = Image.fromarray(patches).resize((GROUND, GROUND), Image.Resampling.BICUBIC)
    pixels = np.asarray(colour, np.float32) + np.asarray(smooth)[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _box(draw: ImageDraw.ImageDraw, x: float, y: float, width: float, height: float, colour: Colour) -> None:
    draw.rectangle((x, y, x + width, y + height), fill=colour)


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: Colour) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _tree(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, rng: np.random.Generator) -> None:
    _disc(draw, x + radius / 3, y + radius / 3, radius, (28, 42, 26))
    _disc(draw, x, y, radius, _shade((58, 92, 48), rng, 12))
    _disc(draw, x - radius / 4, y - radius / 4, radius / 2, _shade((84, 118, 66), rng, 10))


def _house(draw: ImageDraw.ImageDraw, x: float, y: float, width: float, height: float, roof: Colour) -> None:
    _box(draw, x + 6, y + 6, width, height, (46, 48, 44))
    _box(draw, x, y, width, height, roof)
    _box(draw, x, y, width, height / 2, tuple(min(c + 24, 255) for c in roof))


def _beach(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    shore, waves = rng.uniform(260, 470), rng.uniform(0, 6, 3)
    xs = np.arange(-10, GROUND + 20, 10)
    line = shore + 22 * np.sin(xs / 90 + waves[0]) + 9 * np.sin(xs / 31 + waves[1])
    water = _shade((52, 112, 140), rng, 14)
    for depth, colour in ((0, (226, 232, 226)), (9, tuple(c + 30 for c in water)), (34, water)):
        edge = zip(xs.tolist(), (line + depth).tolist(), strict=True)
        draw.polygon([*edge, (GROUND, GROUND), (0, GROUND)], fill=colour)
    for _ in range(rng.integers(4, 20)):
        x, y, radius = rng.uniform(0, GROUND), rng.uniform(0, shore - 70), rng.uniform(3, 6)
        _disc(draw, x, y, radius, _shade((200, 90, 70), rng, 40))


def _farmland(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    columns = np.concatenate([[0], np.cumsum(rng.uniform(110, 260, 8))])
    crops = [(126, 142, 72), (168, 150, 92), (96, 122, 60), (140, 112, 78)]
    for left, right in itertools.pairwise(columns):
        top = -rng.uniform(0, 150)
        while top < GROUND:
            height = rng.uniform(130, 330)
            field = _shade(crops[rng.integers(4)], rng, 12)
            _box(draw, left, top, right - left - 6, height - 6, field)
            for x in np.arange(left + 6, right - 8, rng.uniform(9, 15)):
                draw.line((x, top, x, top + height - 6), fill=tuple(int(c * 0.86) for c in field), width=3)
            top += height


def _forest(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(480, 760)):
        x, y = rng.uniform(0, GROUND, 2)
        _tree(draw, x, y, rng.uniform(10, 26), rng)


def _harbor(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    spacing, boat = rng.uniform(140, 180), rng.uniform(44, 62)
    for x in np.arange(rng.uniform(0, 60), GROUND, spacing):
        _box(draw, x, 0, 12, GROUND, _shade((176, 170, 156), rng, 10))
        for y in np.arange(rng.uniform(0, 20), GROUND, rng.uniform(22, 28)):
            for left in (x - boat - 4, x + 16):
                if rng.random() < 0.85:
                    hull = _shade((226, 226, 222), rng, 14)
                    draw.ellipse((left, y, left + boat, y + 15), fill=hull)
                    _box(draw, left + boat / 3, y + 4, boat / 3, 7, _shade((110, 120, 140), rng, 30))


def _parking(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    row, full = rng.uniform(96, 116), rng.uniform(0.5, 0.95)
    paints = [(228, 228, 226), (40, 42, 46), (150, 154, 158), (150, 46, 40), (50, 74, 120)]
    for y in np.arange(rng.uniform(-60, 0), GROUND, row).tolist():
        for x in range(0, GROUND, 22):
            draw.line((x, y, x, y + 70), fill=(196, 196, 190), width=2)
            for top in (y + 2, y + 37):
                if rng.random() < full:
                    _box(draw, x + 4, top, 14, 31, _shade(paints[rng.integers(5)], rng, 10))
                    _box(draw, x + 6, top + 8, 10, 6, (30, 36, 42))


def _residential(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    block, roofs = rng.uniform(170, 210), [(150, 92, 72), (120, 112, 106), (166, 132, 100)]
    for start in np.arange(rng.uniform(-80, 0), GROUND, block):
        _box(draw, 0, start, GROUND, 30, _shade((132, 132, 130), rng, 6))
        for x in np.arange(rng.uniform(-40, 0), GROUND, rng.uniform(74, 92)):
            for y in (start + 42, start + block - 66):
                roof = _shade(roofs[rng.integers(3)], rng, 14)
                _house(draw, x, y, rng.uniform(44, 56), rng.uniform(40, 52), roof)
                _tree(draw, x + rng.uniform(58, 70), y + rng.uniform(0, 50), rng.uniform(7, 13), rng)
    _box(draw, rng.uniform(200, 500), 0, 30, GROUND, _shade((132, 132, 130), rng, 6))


def _runway(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    middle, width = GROUND / 2 + rng.uniform(-110, 110), rng.uniform(110, 150)
    _box(draw, 0, middle - width / 2, GROUND, width, _shade((112, 114, 116), rng, 10))
    for x in np.arange(rng.uniform(0, 60), GROUND, 78):
        _box(draw, x, middle - 3, 44, 6, (232, 232, 228))
    for side in (-1, 1):
        y = middle + side * width * 0.44
        draw.line((0, y, GROUND, y), fill=(228, 228, 224), width=4)
    way = rng.uniform(120, 600)
    _box(draw, way, middle, 56, GROUND, _shade((122, 124, 126), rng, 8))
    draw.line((way + 28, middle + width / 2, way + 28, GROUND), fill=(206, 176, 64), width=4)


def _tanks(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    radius = rng.uniform(46, 78)
    gap, start = 2 * radius + rng.uniform(22, 50), rng.uniform(0, 60)
    for x in np.arange(start, GROUND + radius, gap):
        for y in np.arange(start, GROUND + radius, gap):
            if rng.random() < 0.86:
                _disc(draw, x + 12, y + 12, radius, (74, 72, 66))
                _disc(draw, x, y, radius, _shade((222, 222, 216), rng, 10))
                _disc(draw, x, y, radius * 0.82, _shade((204, 206, 204), rng, 8))
                angle = rng.uniform(0, 2 * math.pi)
                end = x + radius * math.cos(angle), y + radius * math.sin(angle)
                draw.line((x, y, *end), fill=(140, 140, 138), width=5)


# Class names with the colour of their ground.
SCENES: dict[str, tuple[Colour, Scene]] = {
    "beach": ((214, 196, 156), _beach),
    "farmland": ((120, 108, 76), _farmland),
    "forest": ((44, 62, 36), _forest),
    "harbor": ((46, 74, 88), _harbor),
    "parkinglot": ((104, 104, 106), _parking),
    "residential": ((104, 118, 78), _residential),
    "runway": ((134, 138, 92), _runway),
    "storagetanks": ((160, 148, 124), _tanks),
}
