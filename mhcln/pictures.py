"""Pictures of what was retrieved: which queries are drawn, from which files, and where to."""

import dataclasses
import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mhcln.cli import Console
from mhcln.errors import UserError
from mhcln.files import PART, replacing

if TYPE_CHECKING:
    from PIL import Image

FOLDER = "hamming_out"
KEPT_THUMBNAILS = 2048  # of 48 KiB: the same neighbours turn up again and again
MIN_SIDE = 256  # of a JPEG decoded for a picture: twice the side of a tile


@dataclasses.dataclass(frozen=True)
class Shown:
    """A query to draw: `index` in the test set, its row and those of its neighbours in the codes file."""

    index: int
    row: int
    neighbours: list[int]


def name(index: int) -> str:
    """File name of the picture of test image `index`, as in the published code."""
    return f"sample_{index}.png"


def sample(queries: NDArray[np.int64], neighbours: NDArray[np.int64], interval: int, show: int) -> list[Shown]:
    """Every `interval`-th query with its first `show` neighbours; 0 draws none.

    As in the published code the last of each `interval` is drawn: 9, 19, 29, ... for 10.
    """
    if not interval:
        return []
    drawn = range(interval - 1, len(queries), interval)
    return [Shown(index, int(queries[index]), neighbours[index, :show].tolist()) for index in drawn]


def clear(run_dir: Path) -> int:
    """Remove the pictures of an earlier evaluation, so that they never mix with new ones; answers how many."""
    folder = run_dir / FOLDER
    old = [path for path in folder.glob("sample_*.png") if path.stem.removeprefix("sample_").isdigit()]
    for path in [*old, *folder.glob(PART + "*")]:
        path.unlink()
    return len(old)


def draw(
    run_dir: Path,
    images_dir: Path,
    shown: list[Shown],
    paths: list[str],
    labels: NDArray[np.integer],
    captions: list[str],
    console: Console,
) -> None:
    """Draw the pictures into `run_dir`/hamming_out from the images under `images_dir`.

    `paths` and `labels` are those of the codes file, `captions` names the classes. Raises UserError where images are
    missing, before anything is drawn, or cannot be read.
    """
    from mhcln import figures  # Pillow is only needed where there is something to draw
    from mhcln.images import ImageError

    _check_present(images_dir, shown, paths)
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)

    @functools.lru_cache(maxsize=KEPT_THUMBNAILS)
    def image(row: int) -> "Image.Image":
        try:
            return figures.thumbnail(read(images_dir / paths[row]))
        except ImageError as error:
            raise UserError(f"no pictures: {error}; mend the image, or draw none with --interval=0") from error

    with console.bar(len(shown), "pictures", "picture") as bar:
        for one in shown:
            tiles = [figures.Tile(image(one.row), captions[labels[one.row]], figures.BLUE)]
            for row in one.neighbours:
                wrong = labels[row] != labels[one.row]
                tiles.append(figures.Tile(image(row), captions[labels[row]], figures.RED if wrong else None))
            picture = figures.draw(tiles[0], tiles[1:])
            with replacing(folder / name(one.index)) as part:
                picture.save(part, format="PNG", compress_level=3)
            bar.update()


def _check_present(images_dir: Path, shown: list[Shown], paths: list[str]) -> None:
    advice = "give the folder of the class folders with --images_dir, or --interval=0 for no pictures"
    if not images_dir.is_dir():
        raise UserError(f"no pictures: the images are not at {images_dir}; {advice}")
    needed = sorted({row for one in shown for row in (one.row, *one.neighbours)})
    missing = [paths[row] for row in needed if not (images_dir / paths[row]).is_file()]
    if missing:
        raise UserError(f"no pictures: {len(missing)} images are not in {images_dir}, first {missing[0]}; {advice}")


def read(path: Path) -> "Image.Image":
    """An image as RGB, a large JPEG smaller than it is; raises ImageError where it cannot be read."""
    from PIL import Image

    from mhcln import images

    pixels = images.read_image(path, tiff_as_jpeg=False)
    try:
        if not isinstance(pixels, bytes):
            return Image.fromarray(pixels)
        image = Image.open(io.BytesIO(pixels))
        image.draft("RGB", (MIN_SIDE, MIN_SIDE))  # a large JPEG is decoded at half, quarter or eighth size
        return image.convert("RGB")
    except images.BROKEN as error:
        raise images.ImageError(path, f"damaged ({error})") from error
