"""The graph of encoded images computes what the pipeline computes, from the same operations."""

import io

import numpy as np
import pytest
from factories import draw_images
from graphs import opened, random_jpeg
from PIL import Image

from mhcln.backbone.backbone import open_backbone
from mhcln.backbone.batches import extract
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import Quiet
from mhcln.quiet_tensorflow import tf


def encoded_way(backbone, contents: list[bytes]) -> np.ndarray:
    spec = tf.TensorSpec([None], tf.string)
    graph = tf.function(backbone.features_of_encoded, input_signature=[spec], autograph=False)
    return graph(tf.constant(contents)).numpy()


def assert_same(backbone, paths) -> None:
    found = encoded_way(backbone, [path.read_bytes() for path in paths])
    wanted, infos = extract(paths, backbone, Quiet())
    assert not any(info.error for info in infos)
    np.testing.assert_array_equal(found, wanted)


def test_images_of_mixed_formats_and_sizes_have_the_features_of_the_pipeline(backbone, tmp_path):
    assert_same(backbone, [path for path in draw_images(tmp_path, 9) if path.suffix != ".tif"])


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # of Pillow, which the scripts ignore too
@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16"])
def test_a_png_has_the_features_of_the_pipeline_in_every_mode(backbone, tmp_path, mode):
    values = np.random.default_rng(0).integers(0, 2**16, (40, 30, 4), dtype=np.uint16)
    if mode == "I;16":
        image = Image.fromarray(values[:, :, 0])
    else:
        image = Image.fromarray((values >> 8).astype(np.uint8), "RGBA").convert(mode)
    image.save(tmp_path / "x.png")
    assert_same(backbone, [tmp_path / "x.png"])


@pytest.mark.parametrize(
    "options", [{"rotations": 8}, {"layers": ("mixed", "mixed_10")}, {"precision": "bfloat16"}, {"precision": "tf32"}]
)
def test_rotations_layers_and_precisions_are_those_of_the_pipeline(model_dir, tmp_path, options):
    paths = [path for path in draw_images(tmp_path, 4) if path.suffix != ".tif"]
    assert_same(opened(model_dir, **options), paths)


def test_keras_backbone_is_that_of_the_pipeline(tmp_path):
    backbone = open_backbone(BackboneOptions(random_seed=1))
    assert_same(backbone, draw_images(tmp_path, 1))


def tiff() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (9, 9)).save(stream, "TIFF")
    return stream.getvalue()


@pytest.mark.parametrize("broken", [b"", b"no image", random_jpeg(np.random.default_rng(1), 60, 60)[:500], tiff()])
def test_an_image_that_cannot_be_decoded_fails_the_whole_batch(backbone, broken):
    whole = random_jpeg(np.random.default_rng(0), 60, 60)
    with pytest.raises(tf.errors.InvalidArgumentError):
        encoded_way(backbone, [whole, broken, whole])
