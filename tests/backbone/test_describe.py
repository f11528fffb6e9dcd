"""Batches to features: as image by image, in order, how many are with the device at a time, and halves if need be."""

import functools
from pathlib import Path

import numpy as np
import pytest
from factories import draw_images
from PIL import Image

from mhcln.backbone import describe as module
from mhcln.backbone.backbone import open_backbone
from mhcln.backbone.describe import describe, described
from mhcln.backbone.loader import Batch
from mhcln.backbone.recipe import BackboneOptions
from mhcln.data.images import ImageError
from mhcln.quiet_tensorflow import tf

COUNT = 11


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    return draw_images(tmp_path, COUNT)


@pytest.fixture(params=["processor", "GPU"])
def device(request, monkeypatch) -> str:
    """What `describe` believes to run on."""
    gpus = ["a card"] if request.param == "GPU" else []
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: gpus if kind == "GPU" else ["a processor"])
    return request.param


@pytest.mark.usefixtures("device")
def test_each_image_is_described_by_the_network_alone(tmp_path, paths, backbone, console):
    (tmp_path / "no image.jpg").write_bytes(b"hello")
    features, problems = describe([*paths, tmp_path / "no image.jpg"], backbone, console, batch_size=5)
    for path, vector in zip(paths, features, strict=False):
        image = Image.open(path).convert("RGB")
        if path.suffix == ".tif":
            image.save(tmp_path / "step.jpg", quality=100)
        step = tmp_path / "step.jpg" if path.suffix == ".tif" else path
        pixels = np.asarray(image) if path.suffix == ".png" else tf.io.decode_jpeg(step.read_bytes(), channels=3)
        wanted = backbone.features(backbone.resize(pixels)[None])[0]
        assert np.linalg.norm(vector - wanted) < 1e-5 * np.linalg.norm(wanted)
    assert not features[COUNT].any()
    assert list(problems) == [COUNT]
    assert "not a readable image" in problems[COUNT].reason


def test_the_batch_size_changes_only_rounding(paths, backbone, console):
    one, _ = describe(paths, backbone, console, batch_size=1)
    all_at_once, _ = describe(paths, backbone, console)
    assert np.abs(one - all_at_once).max() < 1e-5 * np.abs(one).max()


def test_tiff_pixels_differ_from_the_jpeg_step(paths, backbone, console):
    options = BackboneOptions(Path(backbone.model_file), tiff="pixels")
    direct, _ = describe(paths, open_backbone(options, console), console)
    differs = np.abs(direct - describe(paths, backbone, console)[0]).max(axis=1) > 1e-6
    assert differs.tolist() == [path.suffix == ".tif" for path in paths]


def test_broken_images_are_zero_in_their_rows_and_change_no_other(paths, backbone, console):
    whole, _ = describe(paths, backbone, console, batch_size=4)
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: len(content) // 2])
    paths[6].write_bytes(paths[0].read_bytes()[:-2] + b"\0" * 9 + b"\xff\xd9")
    paths[7].write_bytes(b"\xff\xd8\xff" + b"x" * 50 + b"\xff\xd9")
    features, problems = describe(paths, backbone, console, batch_size=4)
    assert sorted(problems) == [1, 7]
    assert all(isinstance(problem, ImageError) for problem in problems.values())
    assert not features[[1, 7]].any()
    kept = [row for row in range(COUNT) if row not in (1, 6, 7)]
    np.testing.assert_array_equal(features[kept], whole[kept])


def test_a_gpu_gets_larger_batches(device):
    assert module.default_batch_size() == (128 if device == "GPU" else 32)


class Tensor:
    """Features that a device computes: fetching them is noted, or fails."""

    def __init__(self, note, features, error=None):
        self.note, self.features, self.error = note, features, error

    def numpy(self):
        self.note("fetched")
        if self.error:
            raise self.error
        return self.features


def numbered(count: int, size: int, events: list[str]) -> list[Batch]:
    """Batches whose images are their rows."""
    batches = []
    for first in range(0, count, size):
        rows = range(first, min(first + size, count))
        release = functools.partial(events.append, f"{first} released")
        batches.append(Batch(rows, np.array(rows, np.float32), {}, {}, release))
    return batches


class Device:
    """A backbone that notes what happens, and has no memory for more than `most` images, which it notices `when`."""

    def __init__(self, most: int = 99, when: str = "started") -> None:
        self.most, self.when = most, when
        self.events = []

    def start(self, images):
        first = int(images[0])
        self.note(first, "started")
        error = tf.errors.ResourceExhaustedError(None, None, "OOM") if len(images) > self.most else None
        if error and self.when == "started":
            raise error
        return Tensor(functools.partial(self.note, first), np.stack([images, 2 * images], axis=1), error)

    def note(self, first, what):
        self.events.append(f"{first} {what}")


def test_a_gpu_has_the_next_batch_before_the_first_is_fetched(console, device):
    card = Device()
    for part in described(numbered(8, 3, card.events), card, console):
        card.note(part.rows.start, "there")
    one_by_one = [f"{first} {what}" for first in (0, 3, 6) for what in ("started", "fetched", "released", "there")]
    overlapping = ["0 started", "3 started", "0 fetched", "0 released", "0 there", "6 started", "3 fetched",
                   "3 released", "3 there", "6 fetched", "6 released", "6 there"]  # fmt: skip
    assert card.events == (overlapping if device == "GPU" else one_by_one)


@pytest.mark.usefixtures("device")
def test_what_was_started_is_not_lost_if_the_next_cannot_start(console):
    class Failing(Device):
        def start(self, images):
            if images[0] == 6:
                raise KeyboardInterrupt
            return super().start(images)

    parts = described(numbered(12, 3, []), Failing(), console)
    assert next(parts).rows == range(3)
    assert next(parts).rows == range(3, 6)
    with pytest.raises(KeyboardInterrupt):
        next(parts)


@pytest.mark.parametrize("when", ["started", "fetched"])
def test_a_full_memory_halves_this_and_all_later_batches(console, device, when):
    card = Device(most=4, when=when)
    parts = list(described(numbered(19, 7, card.events), card, console))
    assert [part.rows for part in parts] == [range(7), range(7, 14), range(14, 19)]
    rows = np.arange(19, dtype=np.float32)
    np.testing.assert_array_equal(np.concatenate([part.features for part in parts]), np.stack([rows, 2 * rows], 1))
    assert console.warned == ["the device has no memory for 7 images at a time; going on with 4"]
    started = [event for event in card.events if event.endswith("started")]
    again = when == "fetched" and device == "GPU"  # the second was started whole before the first was fetched
    assert started.count("0 started") == 2
    assert started.count("7 started") == 1 + again
    assert started.count("14 started") == 1
    assert {"4 started", "11 started", "17 started"} <= set(started)
    assert [event for event in card.events if "released" in event] == ["0 released", "7 released", "14 released"]


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("when", ["started", "fetched"])
def test_no_memory_for_half_a_batch_or_one_image_is_an_error(console, when):
    for most, size in ((3, 7), (0, 1)):
        with pytest.raises(tf.errors.ResourceExhaustedError):
            list(described(numbered(7, size, []), Device(most, when), console))
    assert len(console.warned) == 1
