"""Batches to features: as image by image, in order, and how many are with the device at a time."""

import functools
from pathlib import Path

import numpy as np
import pytest
from factories import draw_images
from graphs import opened
from PIL import Image

from mhcln.backbone.batches import extract, extracted_batches
from mhcln.backbone.loader import Batch
from mhcln.quiet_tensorflow import tf
from mhcln.storage.image_info import ImageInfo

COUNT = 11


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    return draw_images(tmp_path, COUNT)


@pytest.fixture(params=["processor", "GPU"])
def device(request, monkeypatch) -> str:
    """What `extract` believes to run on."""
    gpus = ["a card"] if request.param == "GPU" else []
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: gpus if kind == "GPU" else ["a processor"])
    return request.param


@pytest.mark.usefixtures("device")
def test_each_image_is_extracted_by_the_network_alone(tmp_path, paths, backbone, console):
    (tmp_path / "no image.jpg").write_bytes(b"hello")
    paths = [*paths, tmp_path / "no image.jpg"]
    features, infos = extract(paths, backbone, console, batch_size=5)
    one_by_one, _ = extract(paths, backbone, console, batch_size=1)
    assert np.abs(features - one_by_one).max() < 1e-5 * np.abs(features).max()
    for path, vector in zip(paths[:COUNT], features, strict=False):
        image = Image.open(path).convert("RGB")
        if path.suffix == ".tif":
            image.save(tmp_path / "step.jpg", quality=100)
        step = tmp_path / "step.jpg" if path.suffix == ".tif" else path
        pixels = np.asarray(image) if path.suffix == ".png" else tf.io.decode_jpeg(step.read_bytes(), channels=3)
        wanted = backbone.features(backbone.resize(pixels)[None])[0]
        assert np.linalg.norm(vector - wanted) < 1e-5 * np.linalg.norm(wanted)
    assert not features[COUNT].any()
    assert ["not a readable image" in info.error for info in infos] == [False] * COUNT + [True]


def test_tiff_pixels_differ_from_the_jpeg_step(paths, backbone, console):
    direct, _ = extract(paths, opened(Path(backbone.model_file), tiff="pixels"), console)
    differs = np.abs(direct - extract(paths, backbone, console)[0]).max(axis=1) > 1e-6
    assert differs.tolist() == [path.suffix == ".tif" for path in paths]


class Tensor:
    """Features that a device computes; fetching them is noted."""

    def __init__(self, note, features):
        self.note, self.features = note, features

    def numpy(self):
        self.note("fetched")
        return self.features


def numbered(count: int, size: int, events: list[str]) -> list[Batch]:
    """Batches whose images are their rows."""
    made = []
    for first in range(0, count, size):
        rows = range(first, min(first + size, count))
        release = functools.partial(events.append, f"{first} released")
        made.append(Batch(rows, np.array(rows, np.float32), [ImageInfo()] * len(rows), release))
    return made


class Device:
    """A backbone that notes its steps."""

    def __init__(self) -> None:
        self.events = []

    def start(self, images):
        first = int(images[0])
        self.note(first, "started")
        return Tensor(functools.partial(self.note, first), np.stack([images, 2 * images], axis=1))

    def note(self, first, step):
        self.events.append(f"{first} {step}")


def test_a_gpu_has_the_next_batch_before_the_first_is_fetched(device):
    card = Device()
    for batch, _ in extracted_batches(numbered(8, 3, card.events), card):
        card.note(batch.rows.start, "there")
    for first in (0, 3, 6):
        steps = [event for event in card.events if event.startswith(f"{first} ")]
        assert steps == [f"{first} {step}" for step in ("started", "fetched", "released", "there")]
    overlaps = [card.events.index(f"{first + 3} started") < card.events.index(f"{first} fetched") for first in (0, 3)]
    assert overlaps == [device == "GPU"] * 2


@pytest.mark.usefixtures("device")
def test_what_was_started_is_not_lost_if_the_next_cannot_start():
    class Failing(Device):
        def start(self, images):
            if images[0] == 6:
                raise KeyboardInterrupt
            return super().start(images)

    parts = extracted_batches(numbered(12, 3, []), Failing())
    assert next(parts)[0].rows == range(3)
    assert next(parts)[0].rows == range(3, 6)
    with pytest.raises(KeyboardInterrupt):
        next(parts)
