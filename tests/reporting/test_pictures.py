"""The pictures: where the query stands, whose frame has which colour, what fits below."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from mhcln.console import UserError
from mhcln.reporting import pictures
from mhcln.reporting.pictures import (
    BLUE,
    CAPTION,
    COLUMNS,
    GAP,
    RED,
    SIDE,
    TILE,
    ImageSource,
    SampledQuery,
    Tile,
    corner,
)


def plain(colour: str) -> Image.Image:
    return Image.new("RGB", (30, 30), colour)


@pytest.mark.parametrize(
    ("k", "rows", "shown"),
    [(1, 1, 1), (3, 1, 3), (4, 1, 3), (7, 2, 7), (20, 5, 19), (21, 6, 21), (100, 25, 99), (2100, 25, 99)],
)
def test_the_grid_adapts_to_k(k, rows, shown):
    assert pictures.shown(k) == shown
    assert pictures.size(1 + shown)[1] == GAP + rows * (SIDE + CAPTION)


def test_the_query_comes_first_in_blue_and_wrong_neighbours_are_red():
    neighbours = [Tile(plain("lime"), "b", None), *[Tile(plain("yellow"), "b", RED)] * 4, Tile(plain("black"), "b")]
    picture = pictures.draw_grid(Tile(plain("white"), "a", BLUE), neighbours)
    assert picture.width == GAP + COLUMNS * (SIDE + GAP)
    frames = [picture.getpixel(corner(place)) for place in range(7)]
    assert frames == [ImageColor.getrgb(colour) for colour in (BLUE, "white", RED, RED, RED, RED, "white")]
    left, top = corner(6)
    assert picture.getpixel((left + SIDE // 2, top + SIDE // 2)) == (0, 0, 0)
    # Nothing stands after the last tile.
    left, top = corner(7)
    assert np.array(picture)[top : top + SIDE + CAPTION, left : left + SIDE].min() == 255


def test_the_caption_stands_below_its_own_tile_however_long():
    captions = ["Short", "A class name that is far too long to fit below one image of the grid " * 3, ""]
    picture = np.array(
        pictures.draw_grid(Tile(plain("white"), captions[0]), [Tile(plain("white"), c) for c in captions[1:]])
    )
    inked = [
        (picture[corner(place)[1] + SIDE :, corner(place)[0] : corner(place)[0] + SIDE] < 128).any()
        for place in range(3)
    ]
    assert inked == [True, True, False]
    gap = corner(1)[0] - GAP
    assert picture[corner(0)[1] + SIDE :, gap : gap + GAP].min() == 255


def test_thumbnails_keep_proportions():
    assert pictures.thumbnail(Image.new("RGB", (600, 300))).size == (TILE, TILE // 2)
    assert pictures.thumbnail(Image.new("RGB", (20, 40))).size == (TILE // 2, TILE)


def test_every_last_of_an_interval_is_drawn():
    neighbours = np.arange(60).reshape(20, 3)
    sampled = pictures.sample(np.arange(100, 120), neighbours, 10, 2)
    assert [(query.index, query.row, query.neighbours) for query in sampled] == [
        (9, 109, [27, 28]),
        (19, 119, [57, 58]),
    ]
    assert pictures.sample(np.arange(20), neighbours, 0, 2) == []
    assert len(pictures.sample(np.arange(20), neighbours, 1, 2)) == 20


def saved(folder, modes: dict[str, np.ndarray | Image.Image]) -> list[str]:
    for name, image in modes.items():
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(folder / name)
    return list(modes)


def test_images_of_any_mode_are_drawn(tmp_path, console):
    random = np.random.default_rng(0)
    rgb = random.integers(0, 255, (20, 20, 3), dtype=np.uint8)
    paths = saved(
        tmp_path,
        {
            "colour.tif": rgb,
            "grey.png": rgb[:, :, 0],
            "deep.tif": random.integers(0, 65535, (20, 20), dtype=np.uint16),
            "palette.gif": Image.fromarray(rgb).convert("P"),
            "alpha.png": Image.fromarray(rgb).convert("RGBA"),
            "print.jpg": Image.fromarray(rgb).convert("CMYK"),
        },
    )
    source = ImageSource(tmp_path, paths, np.array([0, 0, 0, 1, 1, 1]), ["Zero", "One"])
    run = tmp_path / "K8"
    run.mkdir()
    pictures.draw(run, [SampledQuery(3, 0, [1, 2, 3, 4, 5])], source, console)
    picture = Image.open(run / "hamming_out/sample_3.png").convert("RGB")
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
    with pytest.raises(UserError, match=r"not at .*nowhere"):
        draw(tmp_path / "nowhere", ["a.png", "b.png"])
    with pytest.raises(UserError, match=r"a\.png"):
        draw(tmp_path, ["a.png", "a.png"])
    assert not list((tmp_path / "hamming_out").glob("*"))


def test_old_pictures_go_and_other_files_stay(tmp_path):
    folder = tmp_path / "hamming_out"
    folder.mkdir()
    for name in ("sample_9.png", "sample_19.png", ".part.sample_29.png", "sample_mine.png", "notes.txt"):
        (folder / name).touch()
    assert pictures.clear(tmp_path) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "sample_mine.png"]
