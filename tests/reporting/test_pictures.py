"""The pictures: the position of the query, the colours of the frames, the captions."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from mhcln.console import UserError
from mhcln.reporting import pictures
from mhcln.reporting.pictures import BLUE, GAP, RED, SIDE, TILE, ImageSource, SampledQuery, Tile, corner


def plain(colour: str) -> Image.Image:
    return Image.new("RGB", (30, 30), colour)


@pytest.mark.parametrize(
    ("k", "rows", "shown"),
    [(1, 1, 1), (3, 1, 3), (4, 1, 3), (7, 2, 7), (20, 5, 19), (21, 6, 21), (100, 25, 99), (2100, 25, 99)],
)
def test_the_grid_adapts_to_k(k, rows, shown):
    assert pictures.shown(k) == shown
    assert pictures.size(1 + shown)[1] == GAP + rows * (SIDE + pictures.CAPTION)


def test_the_query_comes_first_in_blue_and_wrong_neighbours_are_red():
    neighbours = [Tile(plain("lime"), "b", None), *[Tile(plain("yellow"), "b", RED)] * 4, Tile(plain("black"), "b")]
    picture = pictures.draw_grid(Tile(plain("white"), "a", BLUE), neighbours)
    assert picture.width == GAP + pictures.COLUMNS * (SIDE + GAP)
    frames = [picture.getpixel(corner(place)) for place in range(7)]
    assert frames == [ImageColor.getrgb(colour) for colour in (BLUE, "white", RED, RED, RED, RED, "white")]
    left, top = corner(6)
    assert picture.getpixel((left + SIDE // 2, top + SIDE // 2)) == (0, 0, 0)
    # Nothing stands after the last tile.
    left, top = corner(7)
    assert np.array(picture)[top : top + SIDE + pictures.CAPTION, left : left + SIDE].min() == 255


def test_the_caption_is_below_its_own_tile_however_long():
    captions = ["Short", "A class name that is far too long to fit below one image of the grid " * 3, ""]
    first, *others = (Tile(plain("white"), caption) for caption in captions)
    picture = np.array(pictures.draw_grid(first, others))
    below = [picture[top + SIDE :, left : left + SIDE] for left, top in map(corner, range(3))]
    assert [bool((tile < 128).any()) for tile in below] == [True, True, False]
    gap = corner(1)[0] - GAP
    assert picture[corner(0)[1] + SIDE :, gap : gap + GAP].min() == 255


def test_thumbnails_keep_proportions():
    assert pictures.thumbnail(Image.new("RGB", (600, 300))).size == (TILE, TILE // 2)
    assert pictures.thumbnail(Image.new("RGB", (20, 40))).size == (TILE // 2, TILE)


def test_every_last_of_an_interval_is_drawn():
    neighbours = np.arange(60).reshape(20, 3)
    sampled = pictures.sample(np.arange(100, 120), neighbours, 10, 2)
    assert sampled == [SampledQuery(9, 109, [27, 28]), SampledQuery(19, 119, [57, 58])]
    assert pictures.sample(np.arange(20), neighbours, 0, 2) == []
    assert len(pictures.sample(np.arange(20), neighbours, 1, 2)) == 20


def test_images_of_any_mode_are_drawn(tmp_path, console):
    random = np.random.default_rng(0)
    rgb = Image.fromarray(random.integers(0, 255, (20, 20, 3), dtype=np.uint8))
    deep = Image.fromarray(random.integers(0, 65535, (20, 20), dtype=np.uint16))
    images = {"colour.tif": rgb, "grey.png": rgb.convert("L"), "deep.tif": deep, "palette.gif": rgb.convert("P")}
    images |= {"alpha.png": rgb.convert("RGBA"), "print.jpg": rgb.convert("CMYK")}
    for name, image in images.items():
        image.save(tmp_path / name)
    source = ImageSource(tmp_path, list(images), np.array([0, 0, 0, 1, 1, 1]), ["Zero", "One"])
    pictures.draw(tmp_path, [SampledQuery(3, 0, [1, 2, 3, 4, 5])], source, console)
    picture = Image.open(tmp_path / "hamming_out/sample_3.png").convert("RGB")
    frames = [picture.getpixel(corner(place)) for place in range(6)]
    assert frames == [ImageColor.getrgb(colour) for colour in (BLUE, "white", "white", RED, RED, RED)]
    # 16 bits are scaled, not cut off at 255
    left, top = corner(2)
    assert 60 < np.array(picture)[top + 20 : top + 100, left + 20 : left + 100].mean() < 200


def test_missing_and_broken_images_are_named(tmp_path, console):
    (tmp_path / "a.png").write_bytes(b"no image")
    sampled = [SampledQuery(0, 0, [1])]

    def draw(images_dir, paths: list[str]) -> None:
        pictures.draw(tmp_path, sampled, ImageSource(images_dir, paths, np.array([0, 0]), ["x"]), console)

    with pytest.raises(UserError, match=r"1 images are not in .*, first b\.png; .*--images_dir"):
        draw(tmp_path, ["a.png", "b.png"])
    with pytest.raises(UserError, match=r"a\.png"):
        draw(tmp_path, ["a.png", "a.png"])
    assert not list((tmp_path / "hamming_out").glob("*"))


def test_old_pictures_go_and_other_files_stay(tmp_path):
    folder = tmp_path / "hamming_out"
    folder.mkdir()
    for name in ("sample_9.png", "sample_19.png", ".mhcln.part.sample_29.png", "sample_mine.png", "notes.txt"):
        (folder / name).touch()
    assert pictures.clear(tmp_path) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "sample_mine.png"]
