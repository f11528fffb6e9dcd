"""What was found for a query image: names of its files, and its picture."""

from pathlib import Path

import numpy as np
from conftest import RecordingConsole
from factories import archive_part
from PIL import Image

from mhcln.demo.scenes import draw_scene
from mhcln.reporting.neighbours import Neighbours, distinct_names, draw, table, to_json
from mhcln.storage.archive import Archive


def test_queries_of_one_name_get_files_of_their_own():
    names = ["a/x.png", "b/x.png", "x_2.png", "c/x.png", "x_2.jpg"]
    assert distinct_names([*map(Path, names)]) == ["x", "x_2", "x_2_2", "x_3", "x_2_3"]
    long = distinct_names([Path(f"{'ü' * 120}{number}.png") for number in range(2)])
    assert long[0] == "ü" * 100  # of 2 bytes: file systems take names of 255
    assert long[1] == long[0] + "_2"


def test_images_that_are_gone_are_grey_in_the_picture(tmp_path):
    draw_scene("beach", 3).save(tmp_path / "here.png")
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    codes = np.zeros((3, 1), np.uint8)
    paths = ["here.png", "gone.png", "cut.jpg"]
    archive = Archive([archive_part(codes, paths, str(tmp_path))], 8)
    for query, grey in (("here.png", 2), ("none.png", 3)):
        console = RecordingConsole()
        found = Neighbours(tmp_path / query, np.arange(3), np.zeros(3, int))
        draw(found, archive, tmp_path / "picture.png", console)
        first = tmp_path / ("gone.png" if grey == 2 else "none.png")
        assert console.warned == [f"{grey} images in the picture of {found.query} are grey: {first}: missing"]
        with Image.open(tmp_path / "picture.png") as drawn:
            assert drawn.size[0] > 200


def test_ties_at_the_last_rank_are_said():
    archive = Archive([archive_part(np.zeros((3, 1), np.uint8), ["a", "b", "c"])], 8)
    found = Neighbours(Path("q.png"), np.array([2, 0]), np.array([1, 3]), tied=1_204)
    assert table(found, archive)[-1] == "  1,204 images at distance 3, 1 shown"
    assert to_json(found, archive, "K8")["ties"] == {"distance": 3, "images": 1204, "shown": 1}
    whole = Neighbours(Path("q.png"), np.array([2, 0]), np.array([3, 3]), tied=2)
    assert table(whole, archive)[-1].endswith("  a")
    assert to_json(whole, archive, "K8")["ties"] is None
