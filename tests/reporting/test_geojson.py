"""GeoJSON of what was found: polygons as RFC 7946 wants them, and the properties that a map shows."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from factories import archive_part

from mhcln.reporting.geojson import collection, geometry
from mhcln.reporting.neighbours import Neighbours, to_json
from mhcln.storage.archive import Archive

NORTH_UP = [(13.0, 52.1), (13.0, 52.0), (13.2, 52.0), (13.2, 52.1)]


def area(ring) -> float:
    """Signed area: positive where the ring runs counter-clockwise."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(ring)) / 2


def archive_of(lonlat: np.ndarray) -> Archive:
    paths = [f"port/{number} é.tif" for number in range(len(lonlat))]
    codes, labels = np.zeros((len(paths), 1), np.uint8), np.array([0, -1, 0][: len(paths)], np.int32)
    part = archive_part(codes, paths, "somewhere", labels=labels, class_names=["port"], lonlat=lonlat)
    return Archive([part], 8)


@pytest.mark.parametrize("corners", [NORTH_UP, NORTH_UP[::-1]])
def test_a_polygon_is_closed_and_counter_clockwise(corners):
    found = geometry(np.array(corners))
    (ring,) = found["coordinates"]
    assert found["type"] == "Polygon"
    assert ring[0] == ring[-1]
    assert len(ring) == 5
    assert area(ring) == pytest.approx(0.02)
    assert {tuple(point) for point in ring} == set(corners)


def test_a_polygon_across_the_180th_meridian_is_cut_there():
    found = geometry(np.array([(179.9, 1.0), (179.9, 0.0), (-179.7, 0.0), (-179.7, 1.0)]))
    west, east = (rings[0] for rings in found["coordinates"])
    assert found["type"] == "MultiPolygon"
    assert area(west) == pytest.approx(0.1)
    assert area(east) == pytest.approx(0.3)
    assert {lon for lon, _ in west} == {179.9, 180}
    assert {lon for lon, _ in east} == {-180, -179.7}


def test_hits_carry_rank_distance_class_and_path():
    lonlat = np.full((3, 5, 2), np.nan)
    lonlat[[0, 1], 1:], lonlat[[0, 1], 0] = NORTH_UP, (13.1, 52.05)
    found = Neighbours(Path("q.tif"), np.array([1, 2, 0]), np.array([0, 3, 5]))
    content = json.loads(collection(found, archive_of(lonlat)))
    assert content["type"] == "FeatureCollection"
    properties = [feature["properties"] for feature in content["features"]]
    assert properties[0] == {"rank": 1, "distance": 0, "class": None, "path": "port/1 é.tif"}
    assert properties[2] == {"rank": 3, "distance": 5, "class": "port", "path": "port/0 é.tif"}
    assert [feature["geometry"] is None for feature in content["features"]] == [False, True, False]
    entries = to_json(found, archive_of(lonlat), "K8")["found"]
    assert entries[0]["centre"] == [13.1, 52.05]
    assert entries[0]["corners"] == [list(corner) for corner in NORTH_UP]
    assert "centre" not in entries[1]


def test_an_archive_that_lies_nowhere_has_no_map():
    found = Neighbours(Path("q.tif"), np.arange(2), np.zeros(2, int))
    for lonlat in (np.full((2, 5, 2), np.nan), np.empty((0, 5, 2))):
        archive = archive_of(np.empty((2, 5, 2)))
        archive = Archive([dataclasses.replace(archive.parts[0], lonlat=lonlat)], 8)
        assert collection(found, archive) == ""
