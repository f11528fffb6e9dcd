"""The neighbours of a query image: names of its files, its picture, and GeoJSON as RFC 7946 wants it."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import RecordingConsole
from factories import archive_part
from PIL import Image

from mhcln.demo.scenes import draw_scene
from mhcln.reporting.neighbours import Neighbours, distinct_names, draw, table, to_geojson, to_json
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


NORTH_UP = [(13.0, 52.1), (13.0, 52.0), (13.2, 52.0), (13.2, 52.1)]


def mapped(*corners: list[tuple[float, float]] | None) -> tuple[Neighbours, Archive]:
    """Images with corners in degrees, or without a georeference, all found in their order."""
    lonlat = np.full((len(corners), 5, 2), np.nan)
    for row, ring in enumerate(corners):
        if ring is not None:
            lonlat[row] = [np.mean(ring, axis=0), *ring]
    paths = [f"port/{number} é.tif" for number in range(len(corners))]
    codes, labels = np.zeros((len(paths), 1), np.uint8), np.array([0, -1, 0][: len(paths)], np.int32)
    part = archive_part(codes, paths, "somewhere", labels=labels, class_names=["port"], lonlat=lonlat)
    return Neighbours(Path("q.tif"), np.arange(len(paths)), np.arange(len(paths)) * 3), Archive([part], 8)


@pytest.mark.parametrize("corners", [NORTH_UP, NORTH_UP[::-1]])
def test_a_polygon_is_closed_and_counter_clockwise(corners):
    (feature,) = json.loads(to_geojson(*mapped(corners)))["features"]
    (ring,) = feature["geometry"]["coordinates"]
    assert feature["geometry"]["type"] == "Polygon"
    assert (ring[0], len(ring)) == (ring[-1], 5)
    assert sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(ring)) / 2 == pytest.approx(0.02)
    assert {tuple(point) for point in ring} == set(corners)


def test_an_image_across_the_180th_meridian_is_a_point():
    found, archive = mapped([(179.9, 1.0), (179.9, 0.0), (-179.7, 0.0), (-179.7, 1.0)])
    archive.parts[0].lonlat[0, 0] = (-179.9, 0.5)
    (feature,) = json.loads(to_geojson(found, archive))["features"]
    assert feature["geometry"] == {"type": "Point", "coordinates": [-179.9, 0.5]}


def test_neighbours_carry_rank_distance_class_and_path():
    found, archive = mapped(NORTH_UP, None, NORTH_UP)
    content = json.loads(to_geojson(found, archive))
    assert content["type"] == "FeatureCollection"
    properties = [feature["properties"] for feature in content["features"]]
    assert properties[1] == {"rank": 2, "distance": 3, "class": None, "path": "port/1 é.tif"}
    assert properties[2] == {"rank": 3, "distance": 6, "class": "port", "path": "port/2 é.tif"}
    assert [feature["geometry"] is None for feature in content["features"]] == [False, True, False]
    entries = to_json(found, archive, "K8")["found"]
    assert entries[0]["centre"] == pytest.approx([13.1, 52.05])
    assert entries[0]["corners"] == [list(corner) for corner in NORTH_UP]
    assert "centre" not in entries[1]


def test_an_archive_without_georeferences_has_no_map():
    assert to_geojson(*mapped(None, None)) == ""
