"""Where images lie, against PROJ through pyproj: within a centimetre, from tags of every kind and from files beside."""

import numpy as np
import pyproj
import pytest
import rasterio
import tifffile
from PIL import Image
from rasterio.transform import Affine, from_origin

from mhcln.data import georeference, rasters
from mhcln.data.images import load_image
from mhcln.data.reading import Reading

WIDTH, HEIGHT = 40, 30
PLACES = {
    "EPSG:32633": from_origin(412_345.5, 5_812_345.25, 10, 10),
    "EPSG:32733": from_origin(612_345.5, 7_512_345.25, 0.3, 0.3),
    "EPSG:4326": from_origin(13.25, 52.5, 0.0001, 0.0002),
    "EPSG:3857": from_origin(-8_238_310.2, 4_970_071.6, 1.2, 1.2),
}
EARTH = pyproj.Geod(ellps="WGS84")


def write(path, crs, transform, kind="uint8", driver="GTiff", **options) -> None:
    profile = {"width": WIDTH, "height": HEIGHT, "count": 3, "dtype": kind, "crs": crs, "transform": transform}
    with rasterio.open(path, "w", driver=driver, **profile, **options) as file:
        file.write(np.random.default_rng(0).integers(0, 255, (3, HEIGHT, WIDTH)).astype(kind))


def assert_there(place, crs, transform) -> None:
    """The place is that of the transform's corners, which pyproj computes on its own."""
    lonlat, problems = georeference.to_lonlat(np.array([place.points]), [place.crs])
    assert problems == {}
    pixels = [(WIDTH / 2, HEIGHT / 2), (0, 0), (0, HEIGHT), (WIDTH, HEIGHT), (WIDTH, 0)]
    to_wgs84 = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    for (lon, lat), pixel in zip(lonlat[0], pixels, strict=True):
        x, y = pixel
        a, b, c, d, e, f = tuple(transform)[:6]
        wanted = to_wgs84.transform(a * x + b * y + c, d * x + e * y + f)
        assert EARTH.inv(lon, lat, *wanted)[2] < 0.01


@pytest.mark.parametrize("crs", PLACES)
@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("point", [False, True])
def test_tags_agree_with_proj_within_a_centimetre(tmp_path, crs, kind, point):
    path = tmp_path / "a.tif"
    options = {"photometric": "rgb"} if kind == "uint8" else {}
    write(path, crs, PLACES[crs], kind, **options)
    if point:
        with rasterio.open(path, "r+") as file:
            file.update_tags(AREA_OR_POINT="Point")
    with rasterio.open(path) as file:
        assert file.transform.almost_equals(PLACES[crs], 1e-9)
    place = load_image(path, False).about.place  # uint8 through Pillow, uint16 through GDAL
    assert_there(place, crs, PLACES[crs])
    assert load_image(path, False, Reading((3, 2, 1))).about.place.points == pytest.approx(np.array(place.points))


def test_a_turned_image_has_its_own_corners(tmp_path):
    transform = Affine(8.66, -5, 412_345, 5, 8.66, 5_812_345)
    write(tmp_path / "a.tif", "EPSG:32633", transform, photometric="rgb")
    assert_there(load_image(tmp_path / "a.tif", False).about.place, "EPSG:32633", transform)


def test_one_file_is_opened_for_all_of_one_system(tmp_path, monkeypatch):
    for number in range(4):
        transform = from_origin(412_345 + number, 5_812_345, 10, 10)
        write(tmp_path / f"{number}.tif", "EPSG:32631", transform, photometric="rgb")
    opened, read = [], rasters.georeference
    monkeypatch.setattr(rasters, "georeference", lambda path: opened.append(path) or read(path))
    places = [load_image(tmp_path / f"{number}.tif", False).about.place for number in range(4)]
    assert len(opened) <= 1
    assert len({place.points for place in places}) == 4
    assert len({place.crs for place in places}) == 1


@pytest.mark.parametrize(
    ("name", "world"), [("a.jpg", "a.jgw"), ("a.png", "a.pgw"), ("a.png", "a.wld"), ("a.tif", "a.tfw")]
)
def test_a_world_file_and_a_prj_beside_an_image_say_where_it_lies(tmp_path, name, world):
    crs = "EPSG:32633"
    transform = PLACES[crs]
    Image.new("RGB", (WIDTH, HEIGHT), "green").save(tmp_path / name)
    lines = [10, 0, 0, -10, 412_345.5 + 5, 5_812_345.25 - 5]  # of the middle of the first pixel
    (tmp_path / world).write_text("\n".join(map(str, lines)))
    without = load_image(tmp_path / name, False).about
    assert without.place is None
    assert without.remarks == ("unplaced it has coordinates, but no coordinate reference system",)
    (tmp_path / "a.prj").write_text(pyproj.CRS(crs).to_wkt("WKT1_ESRI"))
    assert_there(load_image(tmp_path / name, False).about.place, crs, transform)


def test_images_that_lie_nowhere_have_no_place_and_no_remark(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    for name in ("a.tif", "a.jpg"):
        assert load_image(tmp_path / name, False).about == load_image(tmp_path / name, True).about
        assert not load_image(tmp_path / name, False).about


def test_a_system_that_proj_does_not_know_is_a_reason_and_prints_nothing(tmp_path, capfd):
    write(tmp_path / "a.tif", 'LOCAL_CS["mine",UNIT["metre",1]]', PLACES["EPSG:32633"], photometric="rgb")
    (tmp_path / "b.prj").write_text("no system")
    (tmp_path / "b.jgw").write_text("1\n0\n0\n-1\n5\n5")
    Image.new("RGB", (9, 9)).save(tmp_path / "b.jpg")
    capfd.readouterr()
    about = load_image(tmp_path / "a.tif", False).about
    if about.place:
        lonlat, problems = georeference.to_lonlat(np.array([about.place.points]), [about.place.crs])
        assert np.isnan(lonlat).all()
        assert "PROJ cannot transform" in problems[0]
        assert "\n" not in problems[0]
    (remark,) = load_image(tmp_path / "b.jpg", False).about.remarks
    assert "its .prj file is not a coordinate reference system" in remark
    assert capfd.readouterr().err == ""


def test_damaged_tags_keep_no_image_from_being_read(tmp_path):
    extra = [(33550, "d", 3, (float("nan"), 1.0, 0.0), True), (33922, "d", 2, (1.0, 2.0), True)]
    tifffile.imwrite(tmp_path / "a.tif", np.full((9, 9, 3), 7, np.uint8), photometric="rgb", extratags=extra)
    assert (load_image(tmp_path / "a.tif", False).content == 7).all()


def test_without_rasterio_pictures_are_read_and_what_is_missing_is_said(tmp_path, monkeypatch):
    write(tmp_path / "a.tif", "EPSG:32635", PLACES["EPSG:32633"], photometric="rgb")
    monkeypatch.setattr(rasters, "rasterio", lambda: None)
    monkeypatch.setattr(georeference, "_crs_of_keys", {})
    about = load_image(tmp_path / "a.tif", False).about
    assert about.place is None
    assert about.remarks == ("unplaced it needs rasterio; pip install rasterio",)
