"""A query and its neighbours as one picture, drawn with Pillow."""

import dataclasses

from PIL import Image, ImageDraw, ImageFont, ImageOps

COLUMNS = 5  # of the published pictures, which have 4 rows at k = 20
TILE = 128  # side of an image, in pixels
FRAME = 4
GAP = 12
CAPTION = 24
FONT = 13
SMALLEST_FONT = 9
PAPER, INK = "#ffffff", "#1a1a1a"
BLUE, RED = "#0b5fff", "#d7191c"  # query, wrong neighbour: apart in lightness too, for eyes that see no red


@dataclasses.dataclass(frozen=True)
class Tile:
    """One image of the grid: RGB pixels, the class name below it, and the colour of its frame (None for no frame)."""

    image: Image.Image
    caption: str
    frame: str | None = None


def grid(k: int) -> tuple[int, int]:
    """Rows of the grid, and how many of the k neighbours it shows: 5 columns, as many rows as k images need.

    The query takes the first place. As in the published pictures, whose 5x4 grid shows 19 of 20, the k-th neighbour
    is not shown where k fills the rows: k = 20 gives 4 rows and 19 neighbours, k = 7 gives 2 rows and all 7.
    """
    rows = -(-k // COLUMNS)
    return rows, min(k, rows * COLUMNS - 1)


def draw(query: Tile, neighbours: list[Tile]) -> Image.Image:
    """The picture of a query and the neighbours to show, nearest first: the query first, then row by row."""
    tiles = [query, *neighbours]
    rows = -(-len(tiles) // COLUMNS)
    width = GAP + COLUMNS * (TILE + 2 * FRAME + GAP)
    height = GAP + rows * (TILE + 2 * FRAME + CAPTION + GAP // 2)
    picture = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(picture)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, COLUMNS)
        left = GAP + column * (TILE + 2 * FRAME + GAP)
        top = GAP + row * (TILE + 2 * FRAME + CAPTION + GAP // 2)
        _put(picture, pen, tile, left, top)
    return picture


def thumbnail(image: Image.Image) -> Image.Image:
    """An image made to fit into a tile, its proportions kept."""
    return ImageOps.contain(image, (TILE, TILE), Image.Resampling.LANCZOS)


def _put(picture: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, left: int, top: int) -> None:
    side = TILE + 2 * FRAME
    if tile.frame:
        pen.rectangle((left, top, left + side - 1, top + side - 1), outline=tile.frame, width=FRAME)
    image = thumbnail(tile.image)
    corner = (left + FRAME + (TILE - image.width) // 2, top + FRAME + (TILE - image.height) // 2)
    picture.paste(image, corner)
    text, font = _fitted(pen, tile.caption, side)
    pen.text((left + side // 2, top + side + CAPTION // 2 - 2), text, fill=INK, font=font, anchor="mm")


def _fitted(pen: ImageDraw.ImageDraw, text: str, width: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text and the font in which it is at most `width` wide: smaller if need be, then cut short."""
    for size in range(FONT, SMALLEST_FONT - 1, -1):
        font = ImageFont.load_default(size)
        if pen.textlength(text, font) <= width:
            return text, font
    while text and pen.textlength(text + "…", font) > width:
        text = text[:-1]
    return text + "…", font
