"""Georeferences against PROJ through pyproj, within a centimetre: from tags of every kind and from files beside."""

import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyproj
import pytest
import rasterio
import tifffile
from PIL import Image
from rasterio.transform import Affine, from_origin

from mhcln.data import rasters
from mhcln.data.images import load_image
from mhcln.data.reading import Reading
from mhcln.storage.image_info import ImageInfo

WIDTH, HEIGHT = 40, 30
PLACES = {
    "EPSG:32633": from_origin(412_345.5, 5_812_345.25, 10, 10),
    "EPSG:32733": Affine(8.66, -5, 612_345, 5, 8.66, 7_512_345),
    "EPSG:4326": from_origin(13.25, 52.5, 0.0001, 0.0002),
    "EPSG:3857": from_origin(-8_238_310.2, 4_970_071.6, 1.2, 1.2),
}
UTM = "EPSG:32633"
EARTH = pyproj.Geod(ellps="WGS84")


def write(path, crs=UTM, transform=PLACES[UTM], kind="uint8", driver="GTiff") -> None:
    profile = {"width": WIDTH, "height": HEIGHT, "count": 3, "dtype": kind, "crs": crs, "transform": transform}
    options = {"photometric": "rgb"} if kind == "uint8" else {}
    with rasterio.open(path, "w", driver=driver, **profile, **options) as file:
        file.write(np.random.default_rng(0).integers(0, np.iinfo(kind).max, (3, HEIGHT, WIDTH), kind))


def info_of(path, reading=Reading()) -> ImageInfo:  # noqa: B008, a value
    return load_image(path, False, reading).info


def unusable(path) -> str:
    info = info_of(path)
    assert info.lonlat is None
    ((kind, reason),) = (warning.split(" ", 1) for warning in info.warnings)
    assert kind == "georeference"
    assert "\n" not in reason
    return reason


def assert_there(info, crs, transform) -> None:
    """The georeference is that of the transform's centre and corners, which pyproj computes on its own."""
    assert info.warnings == ()
    pixels = [(WIDTH / 2, HEIGHT / 2), (0, 0), (0, HEIGHT), (WIDTH, HEIGHT), (WIDTH, 0)]
    to_wgs84 = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    for (lon, lat), pixel in zip(info.lonlat, pixels, strict=True):
        assert EARTH.inv(lon, lat, *to_wgs84.transform(*transform * pixel))[2] < 0.01


@pytest.mark.parametrize("crs", PLACES)
@pytest.mark.parametrize("kind", ["uint8", "uint16"])  # through Pillow and through GDAL
@pytest.mark.parametrize("meaning", ["Area", "Point"])
def test_tags_agree_with_proj_within_a_centimetre(tmp_path, crs, kind, meaning):
    path = tmp_path / "a.tif"
    write(path, crs, PLACES[crs], kind)
    with rasterio.open(path, "r+") as file:
        file.update_tags(AREA_OR_POINT=meaning)
    assert_there(info_of(path), crs, PLACES[crs])
    assert info_of(path, Reading((3, 2, 1))).lonlat == info_of(path).lonlat


def test_threads_find_the_georeferences_of_files_of_many_systems(tmp_path):
    zones = range(1, 21)
    for zone in zones:
        write(tmp_path / f"{zone}.tif", f"EPSG:{32600 + zone}")
    with ThreadPoolExecutor(8) as pool:
        infos = list(pool.map(info_of, [tmp_path / f"{zone}.tif" for zone in zones] * 5))
    for zone, info in zip([*zones] * 5, infos, strict=True):
        assert_there(info, f"EPSG:{32600 + zone}", PLACES[UTM])


@pytest.mark.parametrize(
    ("name", "world"), [("a.jpg", "a.jgw"), ("a.png", "a.pgw"), ("a.png", "a.wld"), ("a.tif", "a.tfw")]
)
def test_a_world_file_and_a_prj_beside_an_image_say_where_it_lies(tmp_path, name, world):
    path = tmp_path / name
    Image.new("RGB", (WIDTH, HEIGHT), "green").save(path)
    lines = [10, 0, 0, -10, 412_345.5 + 5, 5_812_345.25 - 5]  # of the middle of the first pixel
    (tmp_path / world).write_text("\n".join(map(str, lines)))
    assert unusable(path) == "coordinates, but no coordinate reference system"
    (tmp_path / "a.prj").write_text("no system")
    assert unusable(path).startswith("its .prj file is not a coordinate reference system")
    (tmp_path / "a.prj").write_text(pyproj.CRS(UTM).to_wkt("WKT1_ESRI"))
    assert_there(info_of(path), UTM, PLACES[UTM])


def test_images_of_the_same_tags_may_be_of_different_systems(tmp_path):
    for crs in ("EPSG:32633", "EPSG:32733", "EPSG:3857"):
        path = tmp_path / f"{crs[5:]}.tif"
        write(path, None)
        path.with_suffix(".prj").write_text(pyproj.CRS(crs).to_wkt("WKT1_ESRI"))
        assert_there(info_of(path), crs, PLACES[UTM])


def test_an_aux_xml_beside_an_image_is_read(tmp_path):
    write(tmp_path / "a.png", driver="PNG")
    assert (tmp_path / "a.png.aux.xml").exists()
    assert_there(info_of(tmp_path / "a.png"), UTM, PLACES[UTM])


def test_images_without_a_georeference_are_not_opened_by_gdal_and_have_no_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(rasters, "opened", None)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    (tmp_path / "b.jgw").touch()
    for name in ("a.tif", "a.jpg"):
        path = tmp_path / name
        assert info_of(path) == ImageInfo(checksum=zlib.crc32(path.read_bytes()))


def test_what_proj_cannot_transform_has_a_reason_and_prints_nothing(tmp_path, capfd):
    write(tmp_path / "a.tif", 'LOCAL_CS["mine",UNIT["metre",1]]')
    write(tmp_path / "b.tif", transform=from_origin(1e12, 1e12, 10, 10))
    write(tmp_path / "c.tif", transform=from_origin(float("inf"), 0, 10, 10))
    capfd.readouterr()
    for name in ("a.tif", "b.tif"):
        assert unusable(tmp_path / name).startswith("PROJ cannot transform its coordinates (")
    assert unusable(tmp_path / "c.tif") == "its coordinates are not finite"
    assert capfd.readouterr().err == ""


def test_damaged_tags_keep_no_image_from_being_read(tmp_path):
    extra = [(33550, "d", 3, (float("nan"), 1.0, 0.0), True), (33922, "d", 2, (1.0, 2.0), True)]
    tifffile.imwrite(tmp_path / "a.tif", np.full((9, 9, 3), 7, np.uint8), photometric="rgb", extratags=extra)
    image = load_image(tmp_path / "a.tif", False)
    assert (image.content == 7).all()
    assert image.info.lonlat is None


def test_without_rasterio_pictures_are_read_and_what_is_missing_is_said(tmp_path, monkeypatch):
    write(tmp_path / "a.tif")
    monkeypatch.setattr(rasters, "rasterio", lambda: None)
    assert unusable(tmp_path / "a.tif") == "needs rasterio; pip install rasterio"
