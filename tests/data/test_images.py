"""What image files come in, and what becomes of each: pixels, JPEG to be decoded, or a named reason."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mhcln.data import images
from mhcln.data.images import ImageError, read_image

RNG = np.random.default_rng(2)
COLOUR = Image.fromarray(RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8))
PLAIN = np.asarray(COLOUR)
GREY = np.asarray(COLOUR.convert("L"))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(tmp_path: Path, content: bytes, name: str = "image.bin") -> np.ndarray:
    (tmp_path / name).write_bytes(content)
    found = read_image(tmp_path / name, tiff_as_jpeg=False)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.uint8
    return found


def reason(tmp_path: Path, content: bytes, tiff_as_jpeg: bool = False) -> str:
    (tmp_path / "bad.tif").write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "bad.tif", tiff_as_jpeg)
    assert caught.value.path == tmp_path / "bad.tif"
    assert str(caught.value) == f"{tmp_path / 'bad.tif'}: {caught.value.reason}"
    return caught.value.reason


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
    assert np.array_equal(pixels(tmp_path, content), PLAIN)


def test_grey_palette_and_bitmap_become_rgb(tmp_path):
    grey = np.repeat(GREY[:, :, None], 3, axis=2)
    assert np.array_equal(pixels(tmp_path, encoded(COLOUR.convert("L"), "TIFF")), grey)
    assert np.array_equal(pixels(tmp_path, encoded(COLOUR.convert("LA"), "PNG")), grey)
    palette = COLOUR.quantize(256)
    for kind in ("TIFF", "PNG", "GIF"):
        assert np.array_equal(pixels(tmp_path, encoded(palette, kind)), np.asarray(palette.convert("RGB")))
    bitmap = COLOUR.convert("1")
    assert np.array_equal(pixels(tmp_path, encoded(bitmap, "TIFF")), np.asarray(bitmap.convert("RGB")))


def test_deep_values_are_scaled_to_eight_bits(tmp_path):
    grey = np.repeat(GREY[:, :, None], 3, axis=2)
    deep = GREY.astype(np.uint16) * 256 + 37
    assert np.array_equal(pixels(tmp_path, encoded(Image.fromarray(deep), "TIFF")), grey)
    assert np.array_equal(pixels(tmp_path, encoded(Image.fromarray(deep), "PNG")), grey)
    assert np.array_equal(pixels(tmp_path, encoded(Image.fromarray(deep.astype(np.int32)), "TIFF")), grey)
    values = GREY.astype(np.float32)
    assert np.array_equal(pixels(tmp_path, encoded(Image.fromarray(values), "TIFF")), grey)
    assert np.array_equal(pixels(tmp_path, encoded(Image.fromarray(values / 255), "TIFF")), grey)


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


@pytest.mark.parametrize(
    "content",
    [
        encoded(COLOUR, "JPEG"),
        encoded(COLOUR, "JPEG", progressive=True),
        encoded(COLOUR.convert("CMYK"), "JPEG"),
        encoded(COLOUR.convert("L"), "JPEG"),
        encoded(COLOUR, "JPEG") + b"a camera's trailing notes",
    ],
)
def test_jpegs_come_back_as_they_are_whatever_their_name(tmp_path, content):
    (tmp_path / "image.tif").write_bytes(content)
    assert read_image(tmp_path / "image.tif", tiff_as_jpeg=True) == content


def test_a_film_behind_a_jpeg_is_left_alone_and_a_cut_jpeg_is_not_whole_by_its_preview(tmp_path):
    preview = encoded(COLOUR, "JPEG")
    exif = b"\xff\xe1" + (2 + len(preview)).to_bytes(2, "big") + preview  # ends as a JPEG does
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        whole = encoded(COLOUR, "JPEG", **options)
        with_preview = whole[:2] + exif + whole[2:]
        for film in (b"ftypmp42" + bytes(2 * 2**20), b"\xff" * 5000, b"SEFH" + bytes(5000) + b"SEFT"):
            (tmp_path / "image.jpg").write_bytes(with_preview + film)
            assert read_image(tmp_path / "image.jpg", tiff_as_jpeg=True) == with_preview + film
        assert "truncated" in reason(tmp_path, with_preview[:-2])
        assert "truncated" in reason(tmp_path, with_preview[:-9] + bytes(9))


def test_tiffs_take_the_published_jpeg_step(tmp_path):
    for image in (COLOUR, COLOUR.convert("L")):
        image.save(tmp_path / "image.tif")
        published = encoded(image, "JPEG", quality=100)
        assert read_image(tmp_path / "image.tif", tiff_as_jpeg=True) == published
    COLOUR.convert("RGBA").save(tmp_path / "image.tif")
    assert read_image(tmp_path / "image.tif", tiff_as_jpeg=True) == encoded(COLOUR, "JPEG", quality=100)
    (tmp_path / "image.tif").write_bytes(encoded(COLOUR, "PNG"))
    assert isinstance(read_image(tmp_path / "image.tif", tiff_as_jpeg=True), np.ndarray)


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert pixels(tmp_path, content)[0, 0].tolist() == [255, 0, 0]


def test_one_pixel_is_an_image(tmp_path):
    assert pixels(tmp_path, encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "GIF", "BMP", "WEBP", "JPEG"])
def test_truncated_files_are_named(tmp_path, kind):
    noise = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = encoded(noise, kind)
    for share in (0.05, 0.5, 0.9):
        assert reason(tmp_path, content[: int(len(content) * share)])


def test_what_is_not_an_image_is_named(tmp_path):
    assert reason(tmp_path, b"") == "empty file"
    assert "not a readable image" in reason(tmp_path, b"hello world")
    assert "not a readable image" in reason(tmp_path, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for name, wanted in (("folder", "not a file"), ("gone.png", "missing"), ("pipe", "not a file")):
        if name == "folder":
            (tmp_path / name).mkdir()
        if name == "pipe":
            os.mkfifo(tmp_path / name)
        with pytest.raises(ImageError, match=wanted):
            read_image(tmp_path / name, tiff_as_jpeg=False)


def test_links_are_followed_and_dangling_ones_named(tmp_path):
    COLOUR.save(tmp_path / "image.png")
    (tmp_path / "link.png").symlink_to("image.png")
    assert np.array_equal(read_image(tmp_path / "link.png", tiff_as_jpeg=False), PLAIN)
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    with pytest.raises(ImageError, match="missing"):
        read_image(tmp_path / "dangling.png", tiff_as_jpeg=False)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "BMP", "GIF"])
def test_decompression_bombs_are_refused_before_they_are_decoded(tmp_path, kind, monkeypatch):
    content = encoded(Image.new("L", (400, 300)), kind)
    monkeypatch.setattr(images, "MAX_PIXELS", 400 * 300 - 1)
    monkeypatch.setattr(Image.Image, "load", None)
    assert "400x300 is more than" in reason(tmp_path, content)


def test_a_real_bomb_is_refused(tmp_path):
    assert "pixels" in reason(tmp_path, encoded(Image.new("1", (30_000, 30_000)), "PNG"))


def many_scans(image: Image.Image, count: int, between: bytes = b"") -> bytes:
    """A progressive JPEG that repeats its last scan."""
    whole = encoded(image, "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + (between + scan) * count + whole[-2:]


def test_a_jpeg_that_goes_over_its_pixels_too_many_times_is_refused(tmp_path):
    image = Image.new("L", (900, 900))
    assert "too many times" in reason(tmp_path, many_scans(image, 2300))
    assert "too many times" in reason(tmp_path, many_scans(image, 2300, between=b"\xff\xfe\0\x04\xff\xd9"))
    assert "too many segments" in reason(tmp_path, many_scans(Image.new("L", (9, 9)), 10_000))


def test_scans_that_are_none_do_not_count(tmp_path):
    image = Image.new("L", (900, 900))
    usual = encoded(image, "JPEG", progressive=True)
    comments = usual[:2] + (b"\xff\xfe\xea\x62" + b"\xff\xda" * 30_000) + usual[2:]
    for content in (many_scans(image, 20), comments, usual + b"\xff\xda\0\2" * 30_000 + b"\xff\xd9"):
        (tmp_path / "image.jpg").write_bytes(content)
        assert read_image(tmp_path / "image.jpg", tiff_as_jpeg=True) == content


def test_files_too_large_to_be_one_image_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    assert "larger than 10 bytes" in reason(tmp_path, encoded(COLOUR, "PNG"))


# damaged sizes and metadata make Pillow warn before it gives pixels or an error; the scripts silence it (mhcln.cli.run)
@pytest.mark.filterwarnings(r"ignore::Warning:PIL\..*")
@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(["TIFF", "PNG", "GIF", "BMP", "WEBP"]),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=12),
    cut=st.integers(0, 200),
)
def test_damaged_files_give_pixels_or_a_reason(tmp_path_factory, kind, flips, cut):
    content = bytearray(encoded(COLOUR, kind))
    content = content[: max(len(content) - cut, 1)]
    for place, change in flips:
        content[place % len(content)] ^= change
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    path.write_bytes(content)
    try:
        found = read_image(path, tiff_as_jpeg=True)
    except ImageError:
        return
    assert isinstance(found, bytes) or found.ndim == 3
