"""Sheets of thumbnails: drawn once, drawn anew for changed files, grey for what is not there."""

import os

import numpy as np
from factories import draw_images
from PIL import Image

from mhcln.data.reading import Reading
from mhcln.reporting.pictures import TILE
from mhcln.reporting.sheets import write_sheets


def near(pixel, colour):
    return max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) < 12


def test_sheets_are_drawn_once_and_those_of_changed_files_anew(tmp_path, console):
    files = draw_images(tmp_path, 130)
    out = tmp_path / "out"
    out.mkdir()
    names, problems = write_sheets(out, files, console)
    assert (len(set(names)), problems) == (2, [])
    drawn = {name: (out / name).stat().st_mtime_ns for name in names}
    assert write_sheets(out, files, console)[0] == names
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == drawn
    os.utime(files[120], (1, 1))
    changed, _ = write_sheets(out, files, console)
    assert changed[0] == names[0] != changed[1] != names[1]
    assert sorted(path.name for path in out.iterdir()) == sorted(changed)
    (out / names[0]).unlink()  # as if stopped before it
    again, _ = write_sheets(out, files, console)
    assert again == changed
    assert (out / names[0]).is_file()


def test_an_image_is_where_its_row_says_and_grey_if_it_is_gone(tmp_path, console):
    files = [tmp_path / f"{row}.png" for row in range(23)]
    for row, file in enumerate(files):
        Image.new("RGB", (40, 40), (10 * row, 0, 200)).save(file)
    files[12].unlink()
    files[13].write_text("no image")
    (name,), problems = write_sheets(tmp_path, files, console)
    assert [problem.partition(": ")[0] for problem in problems] == [str(files[12]), str(files[13])]
    with Image.open(tmp_path / name) as sheet:
        for row in range(23):
            pixel = sheet.getpixel((row % 10 * TILE + TILE // 2, row // 10 * TILE + TILE // 2))
            assert near(pixel, (0x6A, 0x6C, 0x71) if row in (12, 13) else (10 * row, 0, 200)), row


def test_rasters_are_read_as_the_backbone_read_them(tmp_path, console):
    file = tmp_path / "reflectance.tif"
    Image.fromarray(np.full((20, 20), 1500, np.uint16)).save(file)
    dark, _ = write_sheets(tmp_path, [file], console)
    bright, _ = write_sheets(tmp_path, [file], console, Reading(bands=(1,), value_range=(0, 3000)))
    assert bright != dark
    with Image.open(tmp_path / bright[0]) as sheet:
        assert near(sheet.getpixel((TILE // 2, TILE // 2)), (128, 128, 128))
