"""The images that were found for a query as GeoJSON (RFC 7946), as QGIS and geojson.io open it."""

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mhcln.reporting.neighbours import Neighbours
from mhcln.storage.archive import Archive

DIGITS = 8  # of a degree: a millimetre

Ring = list[tuple[float, float]]


def collection(found: Neighbours, archive: Archive) -> str:
    """Return a feature for each image that was found: the polygon of its corners, rank, distance, class and path.

    An image of which nobody knows where it lies has no geometry; if that is so for all, "" is returned.
    """
    places = [archive.lonlat_of(row) for row in found.rows.tolist()]
    if all(place is None for place in places):
        return ""
    features = [
        {
            "type": "Feature",
            "geometry": None if place is None else geometry(place[1:]),
            "properties": {
                "rank": rank,
                "distance": distance,
                "class": archive.class_of(row) or None,
                "path": archive.path_of(row),
            },
        }
        for rank, (row, distance, place) in enumerate(
            zip(found.rows.tolist(), found.distances.tolist(), places, strict=True), 1
        )
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False, indent=1) + "\n"


def geometry(corners: NDArray[np.float64]) -> dict[str, object]:
    """Return corners `[4, 2]` in degrees as a polygon; as two, cut where the 180th meridian passes through them."""
    ring = _counter_clockwise([(lon, lat) for lon, lat in corners.tolist()])
    longitudes = [lon for lon, _ in ring]
    if max(longitudes) - min(longitudes) <= 180:
        return {"type": "Polygon", "coordinates": [_closed(ring)]}
    ring = _counter_clockwise([(lon % 360, lat) for lon, lat in ring])
    west, east = _cut(ring, 1), [(lon - 360, lat) for lon, lat in _cut(ring, -1)]
    return {"type": "MultiPolygon", "coordinates": [[_closed(west)], [_closed(east)]]}


def _counter_clockwise(ring: Ring) -> Ring:
    doubled = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, ring[1:] + ring[:1], strict=True))
    return ring if doubled > 0 else ring[::-1]


def _cut(ring: Ring, side: int) -> Ring:
    """Return the part of a ring that lies west of 180 degrees (`side` 1) or east of it (-1)."""
    part: Ring = []
    for start, end in zip(ring, ring[1:] + ring[:1], strict=True):
        if side * (180 - start[0]) >= 0:
            part.append(start)
        if (180 - start[0]) * (180 - end[0]) < 0:
            share = (180 - start[0]) / (end[0] - start[0])
            part.append((180.0, start[1] + share * (end[1] - start[1])))
    return part


def _closed(ring: Sequence[tuple[float, float]]) -> list[list[float]]:
    return [[round(lon, DIGITS), round(lat, DIGITS)] for lon, lat in (*ring, ring[0])]
