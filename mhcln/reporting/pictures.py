"""A query and its neighbours as one picture, and the choice of the queries that are drawn."""

import dataclasses
import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mhcln.console import Console, UserError
from mhcln.data.images import load_image
from mhcln.data.reading import AS_THEY_ARE, ImageError, Reading
from mhcln.storage import layout
from mhcln.storage.files import PART, replacing

# The grid, in pixels.
COLUMNS = 4  # published UCMD/eval.py: plt.subplots(5, 4), 5 rows at k = 20
TILE = 128  # side of an image
FRAME = 4
SIDE = TILE + 2 * FRAME
GAP = 12
CAPTION = 30  # below an image, with the gap to the next row
FONT, SMALLEST_FONT = 13, 9
MOST = 100  # images in a picture: 25 rows; the rest is in tables and files

PAPER, INK = "#ffffff", "#1a1a1a"
BLUE, RED = "#0b5fff", "#d7191c"  # frames of the query and of wrong neighbours

KEPT_THUMBNAILS = 2048  # of 48 KiB: the same neighbours are found again and again
MIN_SIDE = 256  # of a JPEG decoded for a picture: twice the side of a tile


@dataclasses.dataclass(frozen=True)
class SampledQuery:
    """A query to draw: its number among the test images, its row of the codes file, and the rows of its neighbours."""

    index: int
    row: int
    neighbours: list[int]


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """The image files and the classes behind a codes file: paths relative to the folder, labels `[n]`."""

    images_dir: Path
    paths: Sequence[str]
    labels: NDArray[np.integer[Any]]
    class_names: Sequence[str]
    reading: Reading = AS_THEY_ARE

    def thumbnail(self, row: int) -> Image.Image:
        """Return an image, scaled to a tile."""
        path = self.images_dir / self.paths[row]
        try:
            return thumbnail(read(path, self.reading))
        except ImageError as error:
            raise UserError(
                f"no pictures: {path}: {error}; repair the image, or draw none with --interval=0"
            ) from error

    def check_present(self, sampled: Sequence[SampledQuery]) -> None:
        """Raise UserError if an image of the pictures is missing."""
        needed = sorted({row for query in sampled for row in (query.row, *query.neighbours)})
        missing = [self.paths[row] for row in needed if not (self.images_dir / self.paths[row]).is_file()]
        if missing:
            raise UserError(
                f"no pictures: {len(missing)} images are not in {self.images_dir}, first {missing[0]}; give the folder "
                "of the class folders with --images_dir, or --interval=0 for no pictures"
            )


@dataclasses.dataclass(frozen=True)
class Tile:
    """One image of the grid, with the text below it and the colour of its frame, None for no frame."""

    image: Image.Image
    caption: str
    frame: str | None = None


def sample(queries: NDArray[np.int64], neighbours: NDArray[np.int64], interval: int, show: int) -> list[SampledQuery]:
    """Return every `interval`-th query: 9, 19, 29, ... for 10, as in the published code; none for 0.

    Args:
        queries: `[q]` rows of the codes file.
        neighbours: `[q, k]` rows of the codes file, nearest first.
        interval: Queries from one to the next that is drawn.
        show: Number of neighbours to show.
    """
    if not interval:
        return []
    indices = range(interval - 1, len(queries), interval)
    return [SampledQuery(index, int(queries[index]), neighbours[index, :show].tolist()) for index in indices]


def clear(run_dir: Path) -> int:
    """Remove the pictures of an earlier evaluation, so that they never mix with new ones; return how many."""
    folder = run_dir / layout.PICTURES
    old = [path for path in folder.glob("sample_*.png") if path.stem.removeprefix("sample_").isdigit()]
    for path in [*old, *folder.glob(PART + "*")]:
        path.unlink()
    return len(old)


def draw(run_dir: Path, sampled: Sequence[SampledQuery], source: ImageSource, console: Console) -> None:
    """Draw the pictures of queries into a folder of a run, once all their images are found."""
    source.check_present(sampled)
    folder = run_dir / layout.PICTURES
    folder.mkdir(exist_ok=True)
    image = functools.lru_cache(maxsize=KEPT_THUMBNAILS)(source.thumbnail)
    labels = source.labels

    def tile(row: int, frame: str | None) -> Tile:
        return Tile(image(row), source.class_names[labels[row]], frame)

    with console.bar(len(sampled), "pictures", "picture") as bar:
        for query in sampled:
            first = tile(query.row, BLUE)
            others = [tile(row, RED if labels[row] != labels[query.row] else None) for row in query.neighbours]
            with replacing(folder / layout.picture_name(query.index)) as part:
                draw_grid(first, others).save(part, format="PNG", compress_level=3)
            bar.update()


def read(path: Path, reading: Reading = AS_THEY_ARE) -> Image.Image:
    """Return an image as RGB, a large JPEG smaller than it is; raises ImageError if it cannot be read."""
    pixels = load_image(path, tiff_as_jpeg=False, reading=reading).content
    try:
        if not isinstance(pixels, bytes):
            return Image.fromarray(pixels)
        image = Image.open(io.BytesIO(pixels))
        image.draft("RGB", (MIN_SIDE, MIN_SIDE))  # a large JPEG is decoded at half, quarter or eighth size
        return image.convert("RGB")
    except Exception as error:  # Pillow raises errors of any type on damaged files
        raise ImageError(f"damaged ({error})") from error


def shown(k: int) -> int:
    """Return how many of k neighbours are shown: query and neighbours fill as many rows as k images need.

    So k = 20 shows 19, as in the published pictures of 5x4 images, and k = 7 shows all 7. No picture shows more than
    `MOST` images.
    """
    return min(k, -(-k // COLUMNS) * COLUMNS - 1, MOST - 1)


def size(tiles: int) -> tuple[int, int]:
    """Return width and height of a picture of so many tiles."""
    rows = -(-tiles // COLUMNS)
    return GAP + COLUMNS * (SIDE + GAP), GAP + rows * (SIDE + CAPTION)


def corner(number: int) -> tuple[int, int]:
    """Return left and top of the frame of a tile, 0 for the query, then row by row."""
    row, column = divmod(number, COLUMNS)
    return GAP + column * (SIDE + GAP), GAP + row * (SIDE + CAPTION)


def draw_grid(query: Tile, neighbours: Sequence[Tile]) -> Image.Image:
    """Return the picture of a query and its neighbours, nearest first: the query first, then row by row."""
    tiles = [query, *neighbours]
    picture = Image.new("RGB", size(len(tiles)), PAPER)
    pen = ImageDraw.Draw(picture)
    for number, tile in enumerate(tiles):
        left, top = corner(number)
        if tile.frame:
            pen.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), outline=tile.frame, width=FRAME)
        image = thumbnail(tile.image)
        picture.paste(image, (left + FRAME + (TILE - image.width) // 2, top + FRAME + (TILE - image.height) // 2))
        text, points = _fit(tile.caption)
        pen.text((left + SIDE // 2, top + SIDE + 10), text, fill=INK, font=_font(points), anchor="mm")
    return picture


def thumbnail(image: Image.Image) -> Image.Image:
    """Return an image that fits into a tile, its proportions kept."""
    return ImageOps.contain(image, (TILE, TILE), Image.Resampling.LANCZOS)


@functools.cache
def _font(points: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(points)


@functools.cache
def _fit(text: str) -> tuple[str, int]:
    """Return the text and the font size at which it fits below a tile: smaller if need be, then cut short."""
    text = " ".join(text.split())
    for points in range(FONT, SMALLEST_FONT - 1, -1):
        if _font(points).getlength(text) <= SIDE:
            return text, points
    while text and _font(points).getlength(text + "…") > SIDE:
        text = text[:-1]
    return text + "…", points
