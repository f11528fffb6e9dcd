"""Rasters of many kinds, written by tifffile and by rasterio: read as they were written, or refused with a reason."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from conftest import REPO_ROOT
from PIL import Image

from mhcln.data import image_warnings, rasters
from mhcln.data.images import load_image
from mhcln.data.reading import ImageError, Reading
from mhcln.storage.image_info import ImageInfo

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


def pixels(path: Path, reading: Reading = Reading()) -> np.ndarray:  # noqa: B008, a value
    return load_image(path, False, reading).content


def refusal(path: Path, reading: Reading = Reading()) -> str:  # noqa: B008
    """Why an image cannot be read, in one line."""
    with pytest.raises(ImageError) as caught:
        load_image(path, False, reading)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "raster.tif"


SEPARATE = {"planarconfig": "separate"}
TILED = {"tile": (16, 16)}
THIRTEEN = Reading(bands=(1, 2, 3))
VARIANTS = [
    # writer, type, bands, its options, how it is read
    (by_tifffile, "uint8", 1, {}, Reading()),
    (by_tifffile, "uint8", 3, {"photometric": "rgb", "compression": "lzw", **TILED}, Reading()),
    (by_tifffile, "uint8", 3, {"photometric": "rgb", **SEPARATE}, Reading()),
    (by_tifffile, "uint8", 4, {"photometric": "rgb", "compression": "zstd"}, Reading()),
    (by_tifffile, "uint8", 12, {"compression": "zlib", **SEPARATE, **TILED}, THIRTEEN),
    (by_tifffile, "uint16", 1, {"bigtiff": True}, Reading()),
    (by_tifffile, "uint16", 1, {"compression": "zlib", "predictor": True}, Reading(value_range=(0, 65535))),
    (by_tifffile, "uint16", 3, {"photometric": "rgb"}, Reading()),
    (by_tifffile, "uint16", 3, {"photometric": "rgb", **SEPARATE}, Reading()),
    (by_tifffile, "uint16", 3, {"photometric": "rgb", **SEPARATE, **TILED, "compression": "lzw"}, Reading()),
    (by_tifffile, "uint16", 3, {"byteorder": ">", **SEPARATE}, Reading()),
    (by_tifffile, "uint16", 4, {"photometric": "rgb", "bigtiff": True, **SEPARATE}, Reading()),
    (by_tifffile, "uint16", 13, {"compression": "zstd"}, THIRTEEN),
    (by_tifffile, "int16", 3, {"photometric": "rgb"}, Reading()),
    (by_tifffile, "float32", 1, {"compression": "zlib", "predictor": True}, Reading()),
    (by_tifffile, "float32", 3, {**SEPARATE, "bigtiff": True}, Reading(value_range=(0, 1))),
    (by_rasterio, "uint8", 3, {"compress": "jpeg", "jpeg_quality": 95, "photometric": "ycbcr"}, Reading()),
    (by_rasterio, "uint8", 4, {"photometric": "rgb", "alpha": "yes"}, Reading()),
    (by_rasterio, "uint16", 3, {"compress": "zstd", "tiled": True, "blockxsize": 32, "blockysize": 32}, Reading()),
    (by_rasterio, "int16", 3, {"compress": "deflate", "predictor": 2}, Reading()),
    (by_rasterio, "float32", 3, {"compress": "lzw", "interleave": "band"}, Reading()),
    (by_rasterio, "float32", 13, {"compress": "lerc"}, Reading((1, 2, 3), (0, 1))),
]


@pytest.mark.parametrize(
    ("write", "kind", "bands", "options", "reading"),
    VARIANTS,
    ids=[f"{w.__name__}-{k}-{b}-{'-'.join(map(str, o.values()))}" for w, k, b, o, _ in VARIANTS],
)
def test_a_raster_is_read_as_it_was_written(path, capfd, write, kind, bands, options, reading):
    array = values(kind, bands)
    array[..., 3:4] = HIGHEST[kind]  # opaque, where the fourth band is alpha
    write(path, array, **options)
    capfd.readouterr()
    found = pixels(path, reading).astype(float)
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
def test_bands_that_are_not_there_or_not_said_are_named(path, capfd, kind, bands, options, reading, wanted):
    by_tifffile(path, values(kind, bands), **options)
    capfd.readouterr()
    assert wanted in refusal(path, reading)
    assert capfd.readouterr().err == ""


def test_bands_are_chosen_as_gdal_counts_them(path):
    array = values("uint8", 5)
    by_tifffile(path, array)
    assert np.array_equal(pixels(path, Reading((5, 1, 2))), array[:, :, [4, 0, 1]])
    grey = pixels(path, Reading((4,)))
    assert np.array_equal(grey, np.repeat(array[:, :, 3:4], 3, axis=2))


def test_a_range_brings_back_the_picture_of_eight_bits(tmp_path):
    picture = values("uint8", 3)
    tifffile.imwrite(tmp_path / "deep.tif", picture.astype(np.uint16) * 12, photometric="rgb")
    tifffile.imwrite(tmp_path / "picture.tif", picture, photometric="rgb")
    reading = Reading(value_range=(0, 3060))
    assert np.array_equal(pixels(tmp_path / "deep.tif", reading), picture)
    deep, plain = (load_image(tmp_path / name, True, reading) for name in ("deep.tif", "picture.tif"))
    assert deep.content == plain.content
    assert (deep.info.warnings, plain.info.warnings) == ((), (image_warnings.EIGHT_BITS,))


def test_a_range_clips_and_holds_for_deep_png_too(path):
    Image.fromarray(np.array([[0, 1000, 2000, 3000, 60000]], np.uint16)).save(path, "PNG")
    assert pixels(path, Reading(value_range=(1000, 3000)))[0, :, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pictures_are_left_as_they_are_with_a_warning(path, kind):
    Image.fromarray(values("uint8", 3)).save(path, kind)
    plain, found = (load_image(path, False, each) for each in (Reading(), Reading((4, 3, 2), (0, 3000))))
    assert np.array_equal(found.content, plain.content)
    assert (plain.info.warnings, found.info.warnings) == ((), (image_warnings.PICTURE,))


@pytest.mark.parametrize("options", [{"photometric": "rgb"}, {"compression": "zstd"}])  # through Pillow, through GDAL
def test_deep_images_in_a_corner_of_their_range_have_a_warning(path, options):
    array = values("uint16", 3)
    by_tifffile(path, array, **options)
    assert load_image(path, False).info.warnings == ()
    by_tifffile(path, array // 20, **options)
    (warning,) = load_image(path, False).info.warnings
    assert re.fullmatch(r"dark 3\d\d\d 65535", warning)


@pytest.mark.parametrize("masked", [{"nodata": -9999}, {"mask": True}])
def test_nodata_and_masked_pixels_become_black(path, masked):
    array = values("int16", 3)
    array[:20] = -9999
    mask = np.full(array.shape[:2], 255, np.uint8)
    mask[:20] = 0
    by_rasterio(path, array, **({"mask": mask} if "mask" in masked else masked))
    for reading in (Reading(), Reading(value_range=(-20000, 32767))):
        found = pixels(path, reading)
        assert not found[:20].any()
        assert found[20:].any()


def test_nan_is_nodata_only_where_the_file_says_so(tmp_path):
    array = values("float32", 3)
    array[3, 4] = np.nan
    by_rasterio(tmp_path / "said.tif", array, nodata=np.nan)
    by_rasterio(tmp_path / "unsaid.tif", array)
    assert not pixels(tmp_path / "said.tif")[3, 4].any()
    for reading in (Reading(), Reading(value_range=(0, 1))):
        assert "nan" in refusal(tmp_path / "unsaid.tif", reading)


BANDS = ("B02", "B03", "B04, central wavelength 665 nm", "B08")


@pytest.mark.parametrize(
    ("names", "tags", "offset", "zero"),
    [
        (BANDS, {}, 0, 0),
        (("B2", "B3", "B4", "B8A"), {}, 0, 0),  # of Earth Engine
        (BANDS, {"PROCESSING_BASELINE": "02.09"}, 0, 0),
        (BANDS, {"PROCESSING_BASELINE": "05.10"}, 0, 1000),
        (BANDS, {"PROCESSING_BASELINE": "05.10", "BOA_ADD_OFFSET": "0"}, 0, 0),
        (BANDS, {"BOA_ADD_OFFSET": "-1000"}, 0, 1000),
        (BANDS, {}, -0.1, 1000),
    ],
)
def test_the_preset_of_sentinel_2_takes_its_bands_and_its_offset(path, names, tags, offset, zero):
    array = np.stack([np.full((4, 5), zero + level, np.uint16) for level in (1000, 2000, 4000, 9)], axis=2)
    array[0, 0] = 0
    by_rasterio(path, array, names, tags, nodata=0)
    if offset:
        with rasterio.open(path, "r+") as file:
            file.offsets, file.scales = [offset] * 4, [0.0001] * 4
    found = pixels(path, Reading(preset="sentinel2"))
    assert found[1, 1].tolist() == [255, 128, 64]
    assert found[0, 0].tolist() == [0, 0, 0]


def test_float_images_slightly_above_1_are_not_guessed(path):
    for highest, wanted in ((1.0, (image_warnings.UNIT,)), (255.0, (image_warnings.BYTES,))):
        tifffile.imwrite(path, (SCENE[:, :, 0] * highest).astype(np.float32))
        assert load_image(path, False).info.warnings == wanted
    tifffile.imwrite(path, (SCENE[:, :, 0] * 1.06).astype(np.float32))
    assert "say it with --range=0,1 or --range=0,255" in refusal(path)
    assert pixels(path, Reading(value_range=(0, 1))).mean() > 100


@pytest.mark.filterwarnings(r"ignore::Warning:PIL\..*")
def test_damaged_rasters_have_a_reason_and_print_nothing(path, capfd):
    by_rasterio(path, values("uint16", 5), compress="deflate")
    content = path.read_bytes()
    capfd.readouterr()
    path.write_bytes(content[: len(content) // 2])
    for reading in (Reading(bands=(5, 4, 3)), Reading((5,), (0, 9))):
        assert "damaged" in refusal(path, reading)
    assert capfd.readouterr().err == ""


def test_a_scene_is_refused_before_it_is_decoded(tmp_path):
    options = {"count": 4, "dtype": "uint16", "compress": "deflate", "sparse_ok": True, "tiled": True}
    with rasterio.open(tmp_path / "scene.tif", "w", driver="GTiff", width=30_000, height=30_000, **options):
        pass
    for reading in (Reading(), Reading((3, 2, 1), (0, 3000))):
        reason = refusal(tmp_path / "scene.tif", reading)
        assert reason.startswith("30000x30000 is more than")
        assert reason.endswith("example gdal_retile.py -ps 256 256 -targetDir chips scene.tif")


def test_without_rasterio_a_raster_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(rasters, "rasterio", lambda: None)
    by_tifffile(tmp_path / "a.tif", values("uint16", 13))
    by_tifffile(tmp_path / "b.tif", values("float32", 3), bigtiff=True)
    tifffile.imwrite(tmp_path / "c.tif", values("uint8", 3), photometric="rgb")
    for name in ("a.tif", "b.tif"):
        assert refusal(tmp_path / name) == "needs rasterio; pip install rasterio"
    assert np.array_equal(pixels(tmp_path / "c.tif"), values("uint8", 3))


def test_no_other_format_hides_behind_the_name_of_a_tiff(tmp_path):
    by_tifffile(tmp_path / "a.tif", values("uint16", 5))
    vrt = f'<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand><SourceFilename>{tmp_path}/a.tif'
    (tmp_path / "b.tif").write_text(vrt)
    assert "not a readable image" in refusal(tmp_path / "b.tif", Reading((1,)))


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


def test_warnings_of_one_kind_are_one_line_for_all_images():
    found = {
        "a.tif": ("unit",),
        "b.tif": ("unit", image_warnings.no_georeference("no system")),
        "c.tif": ("dark 10 65535",),
        "d.tif": ("dark 2149 65535",),
    }
    infos = [ImageInfo(warnings=warnings) for warnings in found.values()]
    dark, unit, georeference = image_warnings.sentences([*found], infos)
    assert "at most 2,149 of 65,535" in dark
    assert "--range=0,2149" in dark
    assert unit.startswith("2 images (first a.tif) have floats, taken as 0 to 1")
    assert georeference == "1 images (first b.tif) have no usable georeference: no system"
    assert image_warnings.float_scale(infos) == "unit"
