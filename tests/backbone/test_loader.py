"""Loading images for the network: into which memory, how far ahead, what ends it, and on which device."""

import contextlib
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from factories import draw_images
from PIL import Image

from mhcln.backbone import loader
from mhcln.backbone.backbone import Backbone
from mhcln.backbone.decoding import FASTER_AS_FLOAT, decode, decoder
from mhcln.backbone.loader import AHEAD, LEAST, TOGETHER, Batch, group_size, load_batches
from mhcln.data.images import LoadedImage, load_image
from mhcln.quiet_tensorflow import tf
from mhcln.storage.image_info import ImageInfo

COUNT = 11
BATCHES = [range(first, min(first + 4, COUNT)) for first in range(0, COUNT, 4)]


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    return draw_images(tmp_path, COUNT)


def pixels_of(path: Path, backbone: Backbone) -> np.ndarray:
    return backbone.resize(decode(load_image(path, tiff_as_jpeg=True).content)).numpy()


def assert_holds(batch: Batch, paths: list[Path], backbone: Backbone, broken: int | None) -> None:
    """The batch holds the pixels of its files, and black and an error for the row `broken`."""
    for row, image, info in zip(batch.rows, batch.images, batch.infos, strict=True):
        assert bool(info.error) == (row == broken)
        wanted = np.zeros_like(image) if row == broken else pixels_of(paths[row], backbone)
        np.testing.assert_array_equal(image, wanted)


def test_batches_hold_their_images_in_order(paths, backbone):
    paths[5].write_bytes(b"hello")
    with contextlib.closing(load_batches(paths.__getitem__, BATCHES, backbone, held=1)) as loaded:
        for rows, batch in zip(BATCHES, loaded, strict=True):
            assert batch.rows == rows
            assert_holds(batch, paths, backbone, broken=5)
            batch.release()
    assert list(load_batches(paths.__getitem__, [], backbone, held=1)) == []


@pytest.mark.parametrize("held", [1, 2])
def test_memory_is_bounded_and_a_batch_stays_as_it_is_until_it_is_released(paths, backbone, held):
    asked = []

    def path_of(row):
        asked.append(row)
        return paths[row % COUNT]

    batches = [range(first, first + 3) for first in range(0, 60, 3)]
    mine, places = [], set()
    with contextlib.closing(load_batches(path_of, batches, backbone, held)) as loaded:
        for number, batch in enumerate(loaded):
            taken_up = min(3 * (max(number - held + 1, 0) + held + AHEAD), 60)
            assert len(asked) == taken_up
            places.add(batch.images.ctypes.data)
            mine.append((batch, batch.images.copy()))
            if len(mine) == held:
                oldest, before = mine.pop(0)
                np.testing.assert_array_equal(oldest.images, before)
                oldest.release()
    assert len(places) == held + AHEAD


def decoding() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_it_may_be_closed_at_any_moment_and_decodes_no_more(paths, backbone, monkeypatch, taken):
    read = []
    blank = LoadedImage(np.zeros((5, 5, 3), np.uint8), ImageInfo(), 75)
    monkeypatch.setattr(loader, "load_image", lambda path, *_: read.append(path) or blank)
    size = 2000
    batches = [range(size), range(size), *(range(row, row + 1) for row in range(3))]
    loaded = load_batches(lambda row: paths[row % COUNT], batches[::-1], backbone, held=1)
    for _ in range(taken):
        next(loaded).release()
    loaded.close()
    assert not decoding()
    assert len(read) < (size + 3 if taken < 4 else 2 * size + 3)
    with pytest.raises(StopIteration):
        next(loaded)


def test_a_fault_in_a_thread_surfaces_and_ends_the_threads(paths, backbone, monkeypatch):
    def fail(path, tiff_as_jpeg, reading):
        if path == paths[6]:
            raise ZeroDivisionError
        return load_image(path, tiff_as_jpeg, reading)

    monkeypatch.setattr(loader, "load_image", fail)
    loaded = load_batches(paths.__getitem__, BATCHES, backbone, held=1)
    next(loaded).release()
    with pytest.raises(ZeroDivisionError):
        next(loaded)
    assert not decoding()


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """How many files each call of the decoder of several got."""
    made = []

    def noting(scaling, count):
        run = decoder(scaling, count)
        return lambda contents: made.append(len(contents)) or run(contents)

    monkeypatch.setattr(loader, "decoder", noting)
    return made


def draw_jpegs(folder: Path, count: int) -> list[Path]:
    """Images of different sizes."""
    random = np.random.default_rng(0)
    paths = [folder / f"{number:03d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        small = Image.fromarray(random.integers(0, 256, (9, 7, 3), dtype=np.uint8))
        small.resize((30 + number, 90 - number)).save(path, quality=80)
    return paths


def loaded_once(paths: list[Path], backbone: Backbone, threads: int = 2):
    with contextlib.closing(load_batches(paths.__getitem__, [range(len(paths))], backbone, 1, threads)) as loaded:
        (batch,) = loaded
        return batch


def test_small_jpegs_are_decoded_together_to_the_bits_of_one_by_one(tmp_path, backbone, calls):
    paths = draw_jpegs(tmp_path, 2 * TOGETHER + 3)
    batch = loaded_once(paths, backbone)
    assert calls == [TOGETHER, TOGETHER]
    assert_holds(batch, paths, backbone, broken=None)


def without_tables(path: Path) -> None:
    """Hide the tables of a JPEG, without which it cannot be decoded, from all who look for them."""
    content = path.read_bytes()
    assert b"\xff\xdb" in content
    path.write_bytes(content.replace(b"\xff\xdb", b"\xff\xe5"))


def save_png(path: Path) -> None:
    Image.new("RGB", (20, 20), (9, 200, 30)).save(path, "PNG")


def save_large(path: Path) -> None:
    Image.new("RGB", (FASTER_AS_FLOAT // 3 // 600 + 1, 600), (200, 9, 30)).save(path, "JPEG")


def append_film(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(FASTER_AS_FLOAT))


@pytest.mark.parametrize("change", [Path.unlink, without_tables, save_png, save_large, append_film])
def test_a_group_with_another_image_is_decoded_one_by_one(tmp_path, backbone, calls, change):
    paths = draw_jpegs(tmp_path, 2 * TOGETHER)
    change(paths[3])
    batch = loaded_once(paths, backbone)
    assert calls == [TOGETHER] * (2 if change is without_tables else 1)
    assert_holds(batch, paths, backbone, broken=3 if change in (Path.unlink, without_tables) else None)


@pytest.mark.parametrize("count", [1, LEAST])
def test_a_damaged_jpeg_says_so_alone_and_in_a_group(tmp_path, backbone, count):
    paths = draw_jpegs(tmp_path, count)
    without_tables(paths[0])
    assert loaded_once(paths, backbone).infos[0].error == "damaged (TensorFlow cannot decode this JPEG)"


@pytest.mark.parametrize(
    ("batch_size", "threads", "wanted"),
    [(1, 1, 1), (LEAST - 1, 2, 1), (16, 2, 8), (32, 2, 8), (32, 16, 2), (16, 64, 1)],
)
def test_every_thread_has_images_of_a_batch_and_few_images_pay_no_first_call(batch_size, threads, wanted):
    assert group_size(batch_size, threads) == wanted


def asked_devices(call) -> dict[str, str]:
    """The device that each kind of operation asks for within a call, where a card would be the default."""
    context = sys.modules["tensorflow.python.eager.context"].context()  # not public, as the calls at each operation
    op_callbacks = sys.modules["tensorflow.python.framework.op_callbacks"]
    devices = {}

    def note(kind, _inputs, _attributes, outputs, op_name=None, graph=None):  # noqa: ARG001
        devices[kind if isinstance(kind, str) else kind.decode()] = outputs[0].device if graph else context.device_name

    op_callbacks.add_op_callback(note)
    try:
        with tf.device("GPU:0"):
            call()
    finally:
        op_callbacks.clear_op_callbacks()
    return devices


def test_pixels_never_leave_the_processor(backbone, monkeypatch):
    jpeg = tf.io.encode_jpeg(np.zeros((9, 9, 3), np.uint8)).numpy()
    one = asked_devices(lambda: backbone.resize(decode(jpeg)))
    several = asked_devices(lambda: decoder.__wrapped__(backbone.scaling, 3))  # not one that another test has made
    for devices in (one, several):
        assert "device:CPU" in devices["DecodeJpeg"]
        assert "device:CPU" in devices["ResizeBilinear"]
    convert = tf.convert_to_tensor  # is no operation
    monkeypatch.setattr(tf, "convert_to_tensor", lambda *args: convert(*args) + 0)
    assert "device:CPU" in asked_devices(lambda: decode(np.zeros((9, 9, 3), np.uint8)))["AddV2"]
