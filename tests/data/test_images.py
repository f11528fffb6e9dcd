"""What image files come in, and what becomes of each: pixels, JPEG to be decoded, or a named reason."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mhcln.data import images
from mhcln.data.images import load_image
from mhcln.data.reading import ImageError

RNG = np.random.default_rng(2)
COLOUR = Image.fromarray(RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8))
GREY = np.asarray(COLOUR.convert("L"))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def read(tmp_path: Path, content: bytes, tiff_as_jpeg: bool = False) -> bytes | np.ndarray:
    (tmp_path / "image.tif").write_bytes(content)  # whatever it is: the name does not count
    return load_image(tmp_path / "image.tif", tiff_as_jpeg).content


def reason(tmp_path: Path, content: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        encoded(COLOUR, "TIFF"),
        encoded(COLOUR, "TIFF", compression="tiff_lzw"),
        encoded(COLOUR, "TIFF", compression="tiff_adobe_deflate"),
        encoded(COLOUR, "PNG"),
        encoded(COLOUR, "BMP"),
        encoded(COLOUR, "WEBP", lossless=True),
        encoded(COLOUR.convert("RGBA"), "PNG"),
        encoded(COLOUR.convert("RGBA"), "TIFF"),
        encoded(COLOUR, "TIFF", save_all=True, append_images=[Image.new("RGB", (3, 3))]),
        encoded(COLOUR, "PNG", exif=b"Exif\0\0" + b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"),
    ],
    ids=["tiff", "lzw", "deflate", "png", "bmp", "webp", "rgba-png", "rgba-tiff", "pages", "exif-rotated-png"],
)
def test_colour_comes_out_as_it_is(tmp_path, content):
    assert np.array_equal(read(tmp_path, content), np.asarray(COLOUR))


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "GIF"])
def test_grey_palette_and_bitmap_become_rgb(tmp_path, kind):
    for image in (COLOUR.convert("L"), COLOUR.quantize(256), COLOUR.convert("1")):
        assert np.array_equal(read(tmp_path, encoded(image, kind)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (GREY.astype(np.uint16) * 256 + 37, "TIFF"),
        (GREY.astype(np.uint16) * 256 + 37, "PNG"),
        (GREY.astype(np.int32) * 256 + 37, "TIFF"),
        (GREY.astype(np.float32), "TIFF"),
        (GREY.astype(np.float32) / 255, "TIFF"),
    ],
)
def test_deep_values_are_scaled_to_eight_bits(tmp_path, values, kind):
    found = read(tmp_path, encoded(Image.fromarray(values), kind))
    assert np.array_equal(found, np.repeat(GREY[:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.full((4, 4), -1, np.float32), "values from -1.0 to -1.0; scale them to 0 to 1 or 0 to 255"),
        (np.full((4, 4), 900, np.float32), "values from 900.0 to 900.0"),
        (np.array([[1, np.nan]], np.float32), "values from nan to nan"),
        (np.full((4, 4), np.inf, np.float32), "values from inf to inf"),
        (np.full((4, 4), 70000, np.int32), "values from 70000 to 70000; scale them to 0 to 65535"),
    ],
)
def test_deep_values_of_no_known_range_are_refused(tmp_path, values, wanted):
    assert wanted in reason(tmp_path, encoded(Image.fromarray(values), "TIFF"))


def many_scans(image: Image.Image, count: int, between: bytes = b"") -> bytes:
    """A progressive JPEG that repeats its last scan."""
    whole = encoded(image, "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + (between + scan) * count + whole[-2:]


LARGE = Image.new("L", (900, 900))
PROGRESSIVE = encoded(LARGE, "JPEG", progressive=True)


@pytest.mark.parametrize(
    "content",
    [
        encoded(COLOUR, "JPEG"),
        encoded(COLOUR.convert("CMYK"), "JPEG", progressive=True),
        encoded(COLOUR.convert("L"), "JPEG") + b"a camera's trailing notes",
        many_scans(LARGE, 20),
        PROGRESSIVE[:2] + (b"\xff\xfe\xea\x62" + b"\xff\xda" * 30_000) + PROGRESSIVE[2:],  # in a comment
        PROGRESSIVE + b"\xff\xda\0\2" * 30_000 + b"\xff\xd9",  # after its end
    ],
    ids=["colour", "cmyk", "notes", "many-scans", "comment", "after-end"],
)
def test_jpegs_come_back_as_they_are_whatever_their_name(tmp_path, content):
    assert read(tmp_path, content, tiff_as_jpeg=True) == content


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_film_behind_a_jpeg_is_left_alone_and_a_cut_jpeg_is_not_whole_by_its_preview(tmp_path, options):
    preview = encoded(COLOUR, "JPEG")
    exif = b"\xff\xe1" + (2 + len(preview)).to_bytes(2, "big") + preview  # ends as a JPEG does
    whole = encoded(COLOUR, "JPEG", **options)
    with_preview = whole[:2] + exif + whole[2:]
    for film in (b"ftypmp42" + bytes(2 * 2**20), b"\xff" * 5000, b"SEFH" + bytes(5000) + b"SEFT"):
        assert read(tmp_path, with_preview + film) == with_preview + film
    assert "truncated" in reason(tmp_path, with_preview[:-2])
    assert "truncated" in reason(tmp_path, with_preview[:-9] + bytes(9))


def test_tiffs_take_the_published_jpeg_step(tmp_path):
    for image, step in ((COLOUR, COLOUR), (COLOUR.convert("L"), COLOUR.convert("L")), (COLOUR.convert("RGBA"), COLOUR)):
        assert read(tmp_path, encoded(image, "TIFF"), tiff_as_jpeg=True) == encoded(step, "JPEG", quality=100)
    assert isinstance(read(tmp_path, encoded(COLOUR, "PNG"), tiff_as_jpeg=True), np.ndarray)


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert read(tmp_path, content)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "GIF", "BMP", "WEBP", "JPEG"])
def test_truncated_files_are_named(tmp_path, kind):
    content = encoded(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    for share in (0.05, 0.5, 0.9):
        assert reason(tmp_path, content[: int(len(content) * share)])


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "empty file"),
        (b"hello world", "not a readable image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable image"),
        (many_scans(LARGE, 2300), "too many times"),
        (many_scans(LARGE, 2300, between=b"\xff\xfe\0\x04\xff\xd9"), "too many times"),
        (many_scans(Image.new("L", (9, 9)), 10_000), "too many segments"),
    ],
    ids=["empty", "text", "eps", "scans", "scans-behind-ends", "segments"],
)
def test_what_is_not_an_image_is_named(tmp_path, content, wanted):
    assert wanted in reason(tmp_path, content)


def test_what_is_no_file_is_named_and_links_are_followed(tmp_path):
    COLOUR.save(tmp_path / "image.png")
    (tmp_path / "link").symlink_to("image.png")
    assert np.array_equal(load_image(tmp_path / "link", False).content, np.asarray(COLOUR))
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe")
    for name, wanted in (
        ("folder", "not a file"),
        ("pipe", "not a file"),
        ("gone", "missing"),
        ("dangling", "missing"),
    ):
        with pytest.raises(ImageError, match=wanted):
            load_image(tmp_path / name, tiff_as_jpeg=False)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "BMP", "GIF"])
def test_decompression_bombs_are_refused_before_they_are_decoded(tmp_path, kind, monkeypatch):
    content = encoded(Image.new("L", (400, 300)), kind)
    monkeypatch.setattr(images, "MAX_PIXELS", 400 * 300 - 1)
    monkeypatch.setattr(Image.Image, "load", None)
    assert "400x300 is more than" in reason(tmp_path, content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow refuses twice as many before we do
    assert reason(tmp_path, content).endswith("-targetDir chips image.tif")


def test_files_too_large_to_be_one_image_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    assert "larger than 10 bytes" in reason(tmp_path, encoded(COLOUR, "PNG"))
