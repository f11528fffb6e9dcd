"""A query and its neighbours as one picture, drawn with Pillow."""

import dataclasses
import functools

from PIL import Image, ImageDraw, ImageFont, ImageOps

from mhcln import grid
from mhcln.grid import FRAME, SIDE, TILE

FONT, SMALLEST_FONT = 13, 9
PAPER, INK = "#ffffff", "#1a1a1a"
BLUE, RED = "#0b5fff", "#d7191c"  # query, wrong neighbour


@dataclasses.dataclass(frozen=True)
class Tile:
    """One image of the grid: RGB pixels, the class name below it, and the colour of its frame (None for no frame)."""

    image: Image.Image
    caption: str
    frame: str | None = None


def draw(query: Tile, neighbours: list[Tile]) -> Image.Image:
    """The picture of a query and the neighbours to show, nearest first: the query first, then row by row."""
    tiles = [query, *neighbours]
    picture = Image.new("RGB", grid.size(len(tiles)), PAPER)
    pen = ImageDraw.Draw(picture)
    for place, tile in enumerate(tiles):
        _put(picture, pen, tile, *grid.corner(place))
    return picture


def thumbnail(image: Image.Image) -> Image.Image:
    """An image made to fit into a tile, its proportions kept."""
    return ImageOps.contain(image, (TILE, TILE), Image.Resampling.LANCZOS)


def _put(picture: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, left: int, top: int) -> None:
    if tile.frame:
        pen.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), outline=tile.frame, width=FRAME)
    image = thumbnail(tile.image)
    corner = (left + FRAME + (TILE - image.width) // 2, top + FRAME + (TILE - image.height) // 2)
    picture.paste(image, corner)
    text, size = _fitted(tile.caption)
    pen.text((left + SIDE // 2, top + SIDE + 10), text, fill=INK, font=_font(size), anchor="mm")


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


@functools.cache
def _fitted(text: str) -> tuple[str, int]:
    """The text and the font size at which it fits below a tile: smaller if need be, then cut short."""
    text = " ".join(text.split())
    for size in range(FONT, SMALLEST_FONT - 1, -1):
        if _font(size).getlength(text) <= SIDE:
            return text, size
    while text and _font(size).getlength(text + "…") > SIDE:
        text = text[:-1]
    return text + "…", size
