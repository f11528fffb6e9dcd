"""Rasters of many kinds, written by tifffile and by rasterio: read as they were written, or refused with a reason."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from conftest import REPO_ROOT
from PIL import Image

from mhcln.data import images, rasters, remarks
from mhcln.data.images import ImageError, load_image, read_image
from mhcln.data.reading import Reading

SMALL = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
SCENE = np.asarray(Image.fromarray(SMALL).resize((80, 96), Image.Resampling.BICUBIC)) / 255
HIGHEST = {"uint8": 255, "uint16": 65535, "int16": 32767, "float32": 1}


def values(kind: str, bands: int) -> np.ndarray:
    """`[h, w, bands]`, the first three of which are a scene and the others darker copies."""
    copies = [SCENE[:, :, band % 3] * (1 - 0.02 * band) for band in range(bands)]
    scaled = np.stack(copies, axis=2) * HIGHEST[kind]
    return (scaled if kind == "float32" else np.round(scaled)).astype(kind)


def by_tifffile(path: Path, array: np.ndarray, photometric: str = "minisblack", **options) -> None:
    if array.shape[2] == 1:
        tifffile.imwrite(path, array[:, :, 0], photometric=photometric, **options)
        return
    options = {"planarconfig": "contig", **options}
    planes = options["planarconfig"] == "separate"
    tifffile.imwrite(path, np.moveaxis(array, 2, 0) if planes else array, photometric=photometric, **options)


def by_rasterio(path: Path, array: np.ndarray, descriptions=(), tags=None, mask=None, **options) -> None:
    height, width, count = array.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": array.dtype.name}
    with rasterio.open(path, "w", **{**profile, **options}) as file:
        file.write(np.moveaxis(array, 2, 0))
        file.update_tags(**(tags or {}))
        for band, description in enumerate(descriptions, 1):
            file.set_band_description(band, description)
        if mask is not None:
            file.write_mask(mask)


SEPARATE = {"planarconfig": "separate"}
TILED = {"tile": (16, 16)}
THIRTEEN = Reading(bands=(1, 2, 3))
VARIANTS = [
    # writer, type, bands, its options, how it is read
    (by_tifffile, "uint8", 1, {}, None),
    (by_tifffile, "uint8", 3, {}, None),
    (by_tifffile, "uint8", 3, {"photometric": "rgb", "compression": "lzw", **TILED}, None),
    (by_tifffile, "uint8", 3, {"photometric": "rgb", **SEPARATE}, None),
    (by_tifffile, "uint8", 3, {**SEPARATE, "compression": "zlib"}, None),
    (by_tifffile, "uint8", 4, {"photometric": "rgb", "compression": "zstd"}, None),
    (by_tifffile, "uint8", 12, {"compression": "zlib", **SEPARATE, **TILED}, THIRTEEN),
    (by_tifffile, "uint8", 13, {**SEPARATE}, THIRTEEN),
    (by_tifffile, "uint16", 1, {"bigtiff": True}, None),
    (by_tifffile, "uint16", 1, {"compression": "zlib", "predictor": True}, Reading(value_range=(0, 65535))),
    (by_tifffile, "uint16", 3, {"photometric": "rgb"}, None),
    (by_tifffile, "uint16", 3, {"photometric": "rgb", **SEPARATE}, None),
    (by_tifffile, "uint16", 3, {"photometric": "rgb", **SEPARATE, **TILED}, None),
    (by_tifffile, "uint16", 3, {"photometric": "rgb", **SEPARATE, "compression": "lzw"}, None),
    (by_tifffile, "uint16", 3, {**SEPARATE, "compression": "lzw"}, None),
    (by_tifffile, "uint16", 3, {"byteorder": ">", **SEPARATE}, None),
    (by_tifffile, "uint16", 4, {"photometric": "rgb", "bigtiff": True, **SEPARATE}, None),
    (by_tifffile, "uint16", 13, {"compression": "zstd"}, THIRTEEN),
    (by_tifffile, "int16", 1, {}, None),
    (by_tifffile, "int16", 3, {"photometric": "rgb"}, None),
    (by_tifffile, "int16", 12, {"compression": "lzw", **TILED}, THIRTEEN),
    (by_tifffile, "float32", 1, {"compression": "zlib", "predictor": True}, None),
    (by_tifffile, "float32", 3, {"photometric": "rgb"}, None),
    (by_tifffile, "float32", 3, {**SEPARATE, "bigtiff": True}, Reading(value_range=(0, 1))),
    (by_tifffile, "float32", 13, {"compression": "zstd"}, Reading((1, 2, 3), (0, 1))),
    (by_rasterio, "uint8", 3, {"compress": "jpeg", "jpeg_quality": 95, "photometric": "ycbcr", "tiled": True}, None),
    (by_rasterio, "uint8", 4, {"photometric": "rgb", "alpha": "yes"}, None),
    (by_rasterio, "uint16", 3, {}, None),
    (by_rasterio, "uint16", 3, {"interleave": "band", "photometric": "rgb"}, None),
    (by_rasterio, "uint16", 3, {"compress": "zstd", "tiled": True, "blockxsize": 32, "blockysize": 32}, None),
    (by_rasterio, "uint16", 12, {"interleave": "band", "bigtiff": "yes"}, THIRTEEN),
    (by_rasterio, "int16", 3, {"compress": "deflate", "predictor": 2}, None),
    (by_rasterio, "float32", 3, {"compress": "lzw", "interleave": "band"}, None),
    (by_rasterio, "float32", 13, {"compress": "lerc"}, Reading((1, 2, 3), (0, 1))),
]


@pytest.mark.parametrize(
    ("write", "kind", "bands", "options", "reading"),
    VARIANTS,
    ids=[f"{w.__name__}-{k}-{b}-{'-'.join(map(str, o.values()))}" for w, k, b, o, _ in VARIANTS],
)
def test_a_raster_is_read_as_it_was_written(tmp_path, capfd, write, kind, bands, options, reading):
    array = values(kind, bands)
    array[..., 3:4] = HIGHEST[kind]  # opaque, where the fourth band is alpha
    write(tmp_path / "raster.tif", array, **options)
    capfd.readouterr()
    found = read_image(tmp_path / "raster.tif", False, reading or Reading()).astype(float)
    wanted = array[:, :, :3] if bands >= 3 else np.repeat(array[:, :, :1], 3, axis=2)
    assert found.shape == (96, 80, 3)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99
    assert found.max() == pytest.approx(127 if kind == "int16" else 255, abs=3)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("kind", "bands", "options", "reading", "wanted"),
    [
        ("uint16", 13, {}, Reading(), "has 13 bands of uint16; say which are red, green and blue"),
        ("uint8", 4, {}, Reading(), "has 4 bands of uint8; say which"),
        ("uint16", 2, {}, Reading(), "has 2 bands of uint16; say which"),
        ("uint16", 2, SEPARATE, Reading(), "has 2 bands of uint16; say which"),
        ("uint16", 3, {}, Reading(bands=(4, 3, 2)), "has 3 bands, --bands asks for band 4"),
        ("uint8", 1, {}, Reading(bands=(3, 2, 1)), "has 1 band, --bands asks for band 3"),
        ("uint16", 13, {}, Reading(preset="sentinel2"), "has no bands described as B04, B03, B02, but none, none"),
    ],
)
def test_bands_that_are_not_there_or_not_said_are_named(tmp_path, capfd, kind, bands, options, reading, wanted):
    by_tifffile(tmp_path / "raster.tif", values(kind, bands), **options)
    capfd.readouterr()
    with pytest.raises(ImageError, match=r"raster\.tif") as caught:
        read_image(tmp_path / "raster.tif", False, reading)
    assert wanted in caught.value.reason
    assert "\n" not in caught.value.reason
    assert capfd.readouterr().err == ""


def test_bands_are_chosen_as_gdal_counts_them(tmp_path):
    array = values("uint8", 5)
    by_tifffile(tmp_path / "raster.tif", array)
    assert np.array_equal(read_image(tmp_path / "raster.tif", False, Reading((5, 1, 2))), array[:, :, [4, 0, 1]])
    grey = read_image(tmp_path / "raster.tif", False, Reading((4,)))
    assert np.array_equal(grey, np.repeat(array[:, :, 3:4], 3, axis=2))


def test_a_range_brings_back_the_picture_of_eight_bits(tmp_path):
    picture = values("uint8", 3)
    tifffile.imwrite(tmp_path / "deep.tif", picture.astype(np.uint16) * 12, photometric="rgb")
    tifffile.imwrite(tmp_path / "picture.tif", picture, photometric="rgb")
    reading = Reading(value_range=(0, 3060))
    assert np.array_equal(read_image(tmp_path / "deep.tif", False, reading), picture)
    assert read_image(tmp_path / "deep.tif", True, reading) == read_image(tmp_path / "picture.tif", True)
    assert load_image(tmp_path / "picture.tif", False, reading).about.remarks == (remarks.EIGHT_BITS,)


def test_a_range_clips_and_holds_for_deep_png_too(tmp_path):
    deep = np.array([[0, 1000, 2000, 3000, 60000]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    found = read_image(tmp_path / "deep.png", False, Reading(value_range=(1000, 3000)))
    assert found[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_pictures_are_left_as_they_are_and_remarked(tmp_path):
    Image.fromarray(values("uint8", 3)).save(tmp_path / "a.jpg")
    Image.fromarray(values("uint8", 3)).save(tmp_path / "a.png")
    for name in ("a.jpg", "a.png"):
        plain, found = (load_image(tmp_path / name, False, each) for each in (Reading(), Reading((4, 3, 2), (0, 3000))))
        assert np.array_equal(found.content, plain.content)
        assert (plain.about.remarks, found.about.remarks) == ((), (remarks.PICTURE,))


def test_deep_images_in_a_corner_of_their_range_are_remarked(tmp_path):
    array = values("uint16", 3)
    for name, scaled in (("dark", array // 20), ("bright", array)):
        tifffile.imwrite(tmp_path / f"{name}.tif", scaled, photometric="rgb")  # by Pillow
        by_rasterio(tmp_path / f"{name}_gdal.tif", scaled)
    for name in ("dark", "dark_gdal"):
        (remark,) = load_image(tmp_path / f"{name}.tif", False).about.remarks
        (line,) = remarks.sentences({"dark.tif": [remark], "other.tif": [remark]})
        assert line.startswith("2 images (first dark.tif) have more than 8 bits, but values of at most 3,")
        assert "extract_features.py --range=LOW,HIGH" in line
    for name in ("bright", "bright_gdal"):
        assert load_image(tmp_path / f"{name}.tif", False).about.remarks == ()


@pytest.mark.parametrize("masked", [{"nodata": -9999}, {"mask": True}])
def test_nodata_and_masked_pixels_become_black(tmp_path, masked):
    array = values("int16", 3)
    array[:20] = -9999
    mask = np.full(array.shape[:2], 255, np.uint8)
    mask[:20] = 0
    by_rasterio(tmp_path / "raster.tif", array, **({"mask": mask} if "mask" in masked else masked))
    for reading in (Reading(), Reading(value_range=(-20000, 32767))):
        found = read_image(tmp_path / "raster.tif", False, reading)
        assert not found[:20].any()
        assert found[20:].any()


def test_nan_is_nodata_only_where_the_file_says_so(tmp_path):
    array = values("float32", 3)
    array[3, 4] = np.nan
    by_rasterio(tmp_path / "said.tif", array, nodata=np.nan)
    by_rasterio(tmp_path / "unsaid.tif", array)
    assert not read_image(tmp_path / "said.tif", False)[3, 4].any()
    for reading in (Reading(), Reading(value_range=(0, 1))):
        with pytest.raises(ImageError, match="nan"):
            read_image(tmp_path / "unsaid.tif", False, reading)


@pytest.mark.parametrize(
    ("tags", "offsets", "zero"),
    [
        ({}, None, 0),
        ({"PROCESSING_BASELINE": "02.09"}, None, 0),
        ({"PROCESSING_BASELINE": "05.10"}, None, 1000),
        ({"PROCESSING_BASELINE": "05.10", "BOA_ADD_OFFSET": "0"}, None, 0),
        ({"BOA_ADD_OFFSET": "-1000"}, None, 1000),
        ({}, (-0.1, 0.0001), 1000),
    ],
)
def test_the_preset_of_sentinel_2_takes_its_bands_and_its_offset(tmp_path, tags, offsets, zero):
    names = ["B02", "B03", "B04, central wavelength 665 nm", "B08"]
    array = np.stack([np.full((4, 5), zero + level, np.uint16) for level in (1000, 2000, 4000, 9)], axis=2)
    array[0, 0] = 0
    by_rasterio(tmp_path / "raster.tif", array, names, tags, nodata=0)
    if offsets:
        with rasterio.open(tmp_path / "raster.tif", "r+") as file:
            file.offsets, file.scales = [offsets[0]] * 4, [offsets[1]] * 4
    found = read_image(tmp_path / "raster.tif", False, Reading(preset="sentinel2"))
    assert found[1, 1].tolist() == [255, 128, 64]
    assert found[0, 0].tolist() == [0, 0, 0]


def test_the_names_of_earth_engine_are_those_of_the_preset(tmp_path):
    array = np.stack([np.full((4, 5), level, np.uint16) for level in (4000, 2000, 1000, 1)], axis=2)
    by_rasterio(tmp_path / "raster.tif", array, ["B4", "B3", "B2", "B8A"])
    assert read_image(tmp_path / "raster.tif", False, Reading(preset="sentinel2"))[1, 1].tolist() == [255, 128, 64]


def test_float_images_slightly_above_1_are_not_guessed(tmp_path):
    for highest, wanted in ((1.0, (remarks.UNIT,)), (255.0, (remarks.BYTES,))):
        tifffile.imwrite(tmp_path / "float.tif", (SCENE[:, :, 0] * highest).astype(np.float32))
        assert load_image(tmp_path / "float.tif", False).about.remarks == wanted
    tifffile.imwrite(tmp_path / "float.tif", (SCENE[:, :, 0] * 1.06).astype(np.float32))
    with pytest.raises(ImageError, match=r"say it with --range=0,1 or --range=0,255"):
        read_image(tmp_path / "float.tif", False)
    assert read_image(tmp_path / "float.tif", False, Reading(value_range=(0, 1))).mean() > 100


@pytest.mark.filterwarnings(r"ignore::Warning:PIL\..*")
def test_damaged_rasters_have_a_reason_and_print_nothing(tmp_path, capfd):
    by_rasterio(
        tmp_path / "raster.tif", values("uint16", 5), compress="deflate", tiled=True, blockxsize=16, blockysize=16
    )
    content = (tmp_path / "raster.tif").read_bytes()
    capfd.readouterr()
    (tmp_path / "raster.tif").write_bytes(content[: len(content) // 2])
    for reading in (Reading(bands=(5, 4, 3)), Reading((5,), (0, 9))):
        with pytest.raises(ImageError, match="damaged"):
            read_image(tmp_path / "raster.tif", False, reading)
    assert capfd.readouterr().err == ""


def test_a_scene_is_refused_before_it_is_decoded(tmp_path):
    options = {"count": 4, "dtype": "uint16", "compress": "deflate", "sparse_ok": True, "tiled": True}
    with rasterio.open(tmp_path / "scene.tif", "w", driver="GTiff", width=30_000, height=30_000, **options):
        pass
    for reading in (Reading(), Reading((3, 2, 1), (0, 3000))):
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / "scene.tif", False, reading)
        assert "more than" in caught.value.reason
        assert caught.value.reason.endswith("example gdal_retile.py -ps 256 256 -targetDir chips scene.tif")


def test_without_rasterio_a_raster_is_named_with_its_bands_and_type(tmp_path, monkeypatch):
    monkeypatch.setattr(rasters, "rasterio", lambda: None)
    by_tifffile(tmp_path / "a.tif", values("uint16", 13))
    by_tifffile(tmp_path / "b.tif", values("float32", 3), bigtiff=True)
    tifffile.imwrite(tmp_path / "c.tif", values("uint8", 3), photometric="rgb")
    for name, wanted in (("a.tif", "13 bands of uint16"), ("b.tif", "3 bands of float32")):
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / name, False)
        assert caught.value.reason == f"{wanted}, which needs rasterio; pip install rasterio"
    assert np.array_equal(read_image(tmp_path / "c.tif", False), values("uint8", 3))


def test_no_other_format_hides_behind_the_name_of_a_tiff(tmp_path):
    by_tifffile(tmp_path / "a.tif", values("uint16", 5))
    vrt = f'<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand><SourceFilename>{tmp_path}/a.tif'
    (tmp_path / "b.tif").write_text(vrt)
    with pytest.raises(ImageError, match="not a readable image"):
        read_image(tmp_path / "b.tif", False, Reading((1,)))


def test_rasterio_is_loaded_by_no_picture(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", values("uint8", 3), photometric="rgb")
    tifffile.imwrite(tmp_path / "b.tif", values("uint16", 3), photometric="rgb")
    Image.fromarray(values("uint8", 3)).save(tmp_path / "c.jpg")
    code = (
        "import sys; from pathlib import Path; from mhcln.data.images import load_image\n"
        "for path in Path(sys.argv[1]).iterdir(): load_image(path, True)\n"
        "assert 'rasterio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=REPO_ROOT)


def test_remarks_are_one_line_for_all_images():
    found = {"a.tif": ["unit"], "b.tif": ["unit", "unplaced it has no system"], "c.tif": ["dark 10 65535"]}
    lines = remarks.sentences(found | {"d.tif": ["dark 2149 65535"]})
    assert len(lines) == 3
    assert "at most 2,149 of 65,535" in lines[0]
    assert "--range=0,2149" in lines[0]
    assert lines[1].startswith("2 images (first a.tif) have floats, taken as 0 to 1")
    assert lines[2] == "1 images (first b.tif) have no place on the map: it has no system"


def test_a_reading_is_a_value():
    assert dataclasses.replace(Reading(), bands=(1,)) == Reading((1,))
    assert Reading() == images.AS_THEY_ARE
    assert not Reading()
