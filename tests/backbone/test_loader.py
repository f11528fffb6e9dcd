"""Loading images for the network: how far ahead, what is read how, and what becomes of broken files."""

import itertools
from pathlib import Path

import graphs
import numpy as np
import pytest
from PIL import Image

from mhcln.backbone.backbone import Backbone, open_backbone
from mhcln.backbone.loader import describe, load_images
from mhcln.backbone.recipe import BackboneOptions
from mhcln.data.images import ImageError
from mhcln.quiet_tensorflow import tf

COUNT = 11


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Backbone:
    return open_backbone(BackboneOptions(graphs.write_graph(tmp_path_factory.mktemp("model")).parent), None)


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    drawn = np.random.default_rng(0)
    paths = [tmp_path / f"image {number:02d} é.{('jpg', 'tif', 'png')[number % 3]}" for number in range(COUNT)]
    for number, path in enumerate(paths):
        small = Image.fromarray(drawn.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        small.resize((40 + number, 50)).save(path)
    return paths


def test_decoding_runs_ahead_only_as_far_as_it_may(paths, backbone):
    asked = []

    def endless():
        for path in itertools.cycle(paths):
            asked.append(path)
            yield path

    images = load_images(endless(), backbone, ahead=5)
    for taken in range(1, 30):
        next(images)
        assert len(asked) == taken + 5
    images.close()


def test_each_image_is_described_by_the_network_alone(tmp_path, paths, backbone):
    (tmp_path / "no image.jpg").write_bytes(b"hello")
    features, problems = describe([*paths, tmp_path / "no image.jpg"], backbone, batch_size=5)
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


def test_the_batch_size_changes_only_rounding(paths, backbone):
    one, _ = describe(paths, backbone, batch_size=1)
    all_at_once, _ = describe(paths, backbone)
    assert np.abs(one - all_at_once).max() < 1e-5 * np.abs(one).max()


def test_tiff_pixels_differ_from_the_jpeg_step(paths, backbone):
    options = BackboneOptions(Path(backbone.model_file), tiff="pixels")
    direct, _ = describe(paths, open_backbone(options, None))
    differs = np.abs(direct - describe(paths, backbone)[0]).max(axis=1) > 1e-6
    assert differs.tolist() == [path.suffix == ".tif" for path in paths]


def test_broken_images_are_zero_in_their_rows_and_change_no_other(paths, backbone):
    whole, _ = describe(paths, backbone, batch_size=4)
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: len(content) // 2])
    paths[6].write_bytes(paths[0].read_bytes()[:-2] + b"\0" * 9 + b"\xff\xd9")
    paths[7].write_bytes(b"\xff\xd8\xff" + b"x" * 50 + b"\xff\xd9")
    features, problems = describe(paths, backbone, batch_size=4)
    assert sorted(problems) == [1, 7]
    assert all(isinstance(problem, ImageError) for problem in problems.values())
    assert not features[[1, 7]].any()
    kept = [row for row in range(COUNT) if row not in (1, 6, 7)]
    np.testing.assert_array_equal(features[kept], whole[kept])
