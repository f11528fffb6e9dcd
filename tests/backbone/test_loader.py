"""Loading images for the network: into which memory, how far ahead, what ends it, and on which device."""

import contextlib
import sys
import threading
from pathlib import Path

import graphs
import numpy as np
import pytest
from factories import draw_images
from PIL import Image

from mhcln.backbone import loader
from mhcln.backbone.backbone import Backbone
from mhcln.backbone.decoding import FASTER_AS_FLOAT, decode, decoder
from mhcln.backbone.loader import AHEAD, LEAST, TOGETHER, group_size, load_batches
from mhcln.data.images import About, LoadedImage, load_image, read_image
from mhcln.quiet_tensorflow import tf

COUNT = 11
BATCHES = [range(first, min(first + 4, COUNT)) for first in range(0, COUNT, 4)]


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    return draw_images(tmp_path, COUNT)


def pixels_of(path: Path, backbone: Backbone) -> np.ndarray:
    return backbone.resize(decode(path, read_image(path, tiff_as_jpeg=True))).numpy()


def test_batches_hold_their_images_in_order(paths, backbone):
    paths[5].write_bytes(b"hello")
    with contextlib.closing(load_batches(paths.__getitem__, BATCHES, backbone, held=1)) as loaded:
        for rows, batch in zip(BATCHES, loaded, strict=True):
            assert batch.rows == rows
            for row, image in zip(rows, batch.images, strict=True):
                if row == 5:
                    assert not image.any()
                else:
                    np.testing.assert_array_equal(image, pixels_of(paths[row], backbone))
            assert list(batch.problems) == [5] * (5 in rows)
            batch.release()
    with contextlib.closing(load_batches(paths.__getitem__, [], backbone, held=1)) as loaded:
        assert list(loaded) == []


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


def test_a_batch_that_is_never_released_is_an_error_and_no_endless_wait(paths, backbone):
    batches = [range(row, row + 1) for row in range(COUNT)]
    loaded = load_batches(paths.__getitem__, batches, backbone, held=1)
    for _ in range(1 + AHEAD):
        next(loaded)
    with pytest.raises(RuntimeError, match="no batch was released"):
        next(loaded)


def test_memory_is_for_no_more_images_than_there_are(paths, backbone, monkeypatch):
    shapes = []
    monkeypatch.setattr(loader, "aligned_array", lambda shape: shapes.append(shape) or np.empty(shape, np.float32))
    (_,) = load_batches(paths.__getitem__, [range(2)], backbone, held=2)
    assert shapes == [[2, graphs.SIDE, graphs.SIDE, 3]]


def decoding() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_it_may_be_closed_at_any_moment_and_decodes_no_more(paths, backbone, monkeypatch, taken):
    read = []
    blank = LoadedImage(np.zeros((5, 5, 3), np.uint8), About(), 75)
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
    assert not batch.problems
    np.testing.assert_array_equal(batch.images, [pixels_of(path, backbone) for path in paths])


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
    is_bad = change in (Path.unlink, without_tables)
    assert list(batch.problems) == [3] * is_bad
    assert batch.images[3].any() != is_bad
    for number, path in enumerate(paths):
        if number != 3 or not is_bad:
            np.testing.assert_array_equal(batch.images[number], pixels_of(path, backbone))


def test_a_damaged_jpeg_says_so_alone_and_in_a_group(tmp_path, backbone):
    paths = draw_jpegs(tmp_path, LEAST)
    without_tables(paths[0])
    wanted = "damaged (TensorFlow cannot decode this JPEG)"
    assert loaded_once(paths[:1], backbone).problems[0].reason == wanted
    assert loaded_once(paths, backbone).problems[0].reason == wanted


@pytest.mark.parametrize(
    ("batch_size", "threads", "wanted"),
    [(1, 1, 1), (LEAST - 1, 2, 1), (16, 2, 8), (32, 2, 8), (32, 16, 2), (16, 64, 1)],
)
def test_every_thread_has_images_of_a_batch_and_few_images_pay_no_first_call(batch_size, threads, wanted):
    assert group_size(batch_size, threads) == wanted


def test_several_images_never_leave_the_processor_either(backbone):
    devices = {}

    def note(*operation, graph, **_):
        kind, _, _, outputs = operation
        if graph is not None:
            devices[kind] = {output.device for output in outputs}

    op_callbacks = sys.modules["tensorflow.python.framework.op_callbacks"]
    op_callbacks.add_op_callback(note)
    try:
        with tf.device("GPU:0"):
            decoder.__wrapped__(backbone.scaling, 3)  # not one that another test has made
    finally:
        op_callbacks.clear_op_callbacks()
    assert devices["DecodeJpeg"] == devices["ResizeBilinear"] == {"/device:CPU:*"}


@pytest.mark.parametrize("ending", ["jpg", "tif", "png"])
def test_pixels_never_leave_the_processor(paths, backbone, monkeypatch, ending):
    path = next(path for path in paths if path.suffix == f".{ending}")
    convert, devices = tf.convert_to_tensor, []
    # neither is public: the device that was asked for, which may not be there, and a call at each operation
    context = sys.modules["tensorflow.python.eager.context"].context()
    op_callbacks = sys.modules["tensorflow.python.framework.op_callbacks"]

    def note(*_, **__):
        devices.append(context.device_name)

    monkeypatch.setattr(tf, "convert_to_tensor", lambda *args: note() or convert(*args))
    op_callbacks.add_op_callback(note)
    try:
        with tf.device("GPU:0"):
            backbone.resize(decode(path, read_image(path, tiff_as_jpeg=False)))
    finally:
        op_callbacks.clear_op_callbacks()
    assert len(devices) >= 2
    assert all("device:CPU" in device for device in devices), devices
