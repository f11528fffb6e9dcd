"""Opening a backbone, opening it again, and how its network runs."""

import dataclasses
import io

import graphs
import numpy as np
import pytest
from graphs import opened, random_jpeg
from PIL import Image

from mhcln.backbone.backbone import Backbone, chosen_file, open_backbone, recipe_of, reopen_backbone
from mhcln.backbone.compiled import rotated
from mhcln.backbone.layers import Scaling
from mhcln.backbone.recipe import BackboneOptions, Inference
from mhcln.console import UserError
from mhcln.data.images import load_image
from mhcln.quiet_tensorflow import tf
from mhcln.storage import files, layout

RNG = np.random.default_rng(5)


def test_no_backbone_or_several_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        opened(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no backbone"):
        opened(tmp_path)
    graphs.write_graph(tmp_path)
    (tmp_path / "mine.weights.h5").touch()
    with pytest.raises(UserError, match=r"several backbones \(classify_image_graph_def.pb, mine.weights.h5\)"):
        opened(tmp_path)
    with pytest.raises(UserError, match="exclude each other"):
        open_backbone(BackboneOptions(tmp_path, random_seed=0))


def test_the_eight_rotations_are_the_quarter_turns_of_an_image_and_its_mirror_image():
    image = RNG.random((1, 5, 5, 3)).astype(np.float32)
    ours = {rotated(tf.constant(image), rotation).numpy().tobytes() for rotation in range(8)}
    mirrored = image[:, :, ::-1]
    theirs = {np.rot90(one, quarters, (1, 2)).tobytes() for one in (image, mirrored) for quarters in range(4)}
    assert len(ours) == 8
    assert ours == theirs


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_stays_close(model_dir, precision):
    exact, lower = opened(model_dir), opened(model_dir, precision=precision)
    images = graphs.resized(exact, [random_jpeg(RNG, 75, 90), random_jpeg(RNG, 30, 30)])
    a, b = exact.features(images), lower.features(images)
    assert b.dtype == np.float32
    assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.999
    assert not np.array_equal(a, b)


def test_the_recorded_backbone_is_reopened_and_no_other(tmp_path):
    path = graphs.write_graph(tmp_path / "a")
    made = opened(path.parent, tiff="pixels", precision="bfloat16", rotations=8)
    assert reopen_backbone(made.recipe, made.model_file, None).recipe == made.recipe
    moved = graphs.write_graph(tmp_path / "b")
    path.unlink()
    with pytest.raises(UserError, match="is gone; give its folder as --model_dir"):
        reopen_backbone(made.recipe, made.model_file, None)
    assert reopen_backbone(made.recipe, made.model_file, moved.parent).recipe == made.recipe
    graphs.write_graph(tmp_path / "b", graphs.small_graph(seed=1))
    with pytest.raises(UserError, match="is not the backbone that made the archive"):
        reopen_backbone(made.recipe, made.model_file, moved.parent)


def test_layers_are_means_over_space_of_the_named_nodes(tmp_path):
    graph = graphs.small_graph()
    graphs.write_graph(tmp_path, graph)
    backbone = opened(tmp_path, layers=("mixed_10", "mixed"))
    jpegs = [random_jpeg(RNG, 80, 100), random_jpeg(RNG, 75, 75)]
    found = backbone.features(graphs.resized(backbone, jpegs))
    pool_3 = graphs.published_way(graph, jpegs)
    assert graphs.relative_errors(found[:, : graphs.WIDTH], pool_3).max() < 1e-5
    mixed = graphs.published_way(graph, jpegs, "mixed/join:0").mean(axis=(1, 2))
    assert graphs.relative_errors(found[:, graphs.WIDTH :], mixed).max() < 1e-5
    again = reopen_backbone(backbone.recipe, backbone.model_file, None)
    np.testing.assert_array_equal(again.features(graphs.resized(again, jpegs)), found)


def test_the_resize_of_2015_takes_corners_and_keras_pixel_centres():
    image = tf.constant(np.arange(2, dtype=np.uint8).reshape(1, 2, 1) * 100)
    corners, centres = (Scaling((1, 4), half_pixel, mean=0.0, factor=1.0) for half_pixel in (False, True))
    assert Backbone(None, "", corners, None).resize(image).numpy().ravel().tolist() == [0, 50, 100, 100]
    assert Backbone(None, "", centres, None).resize(image).numpy().ravel().tolist() == [0, 25, 75, 100]


def test_features_of_two_layers_of_the_2015_graph_are_the_given_ones(shared):
    given = files.read_npz(shared / "data" / "features" / "ucmd.npz", layout.EXTRACT)
    backbone = opened(shared / "models", layers=("mixed_8", "mixed_6"))
    rows = dict(zip(given["paths"].tolist(), given["features"], strict=True))
    paths = sorted((shared / "data" / "UCMD_tif").glob("*/*.tif"))[::12]
    for path in paths:
        decoded = np.array(Image.open(io.BytesIO(load_image(path, tiff_as_jpeg=True).content)))  # these were, by Pillow
        vector = backbone.features(backbone.resize(decoded)[None])[0]
        wanted = rows[f"{path.parent.name}/{path.stem}.jpg"]
        assert np.linalg.norm(vector - wanted) <= 1e-3 * np.linalg.norm(wanted), path
    assert len(paths) == 6


@pytest.mark.parametrize("changes", [{}, {"tiff": "pixels", "rotations": 8}, {"layers": ("mixed", "mixed_10")}])
def test_a_recipe_is_known_before_its_backbone_is_opened(model_dir, changes):
    options = BackboneOptions(model_dir, inference=Inference(**changes))
    assert recipe_of(chosen_file(options), options) == open_backbone(options).recipe


def test_a_random_backbone_is_reopened_by_its_seed():
    options = BackboneOptions(random_seed=3)
    recipe = recipe_of(chosen_file(options), options)
    assert str(recipe) == "random-inception-v3 pool_3; seed=3; tiff=pixels; precision=float32; views=1"
    again = reopen_backbone(recipe, "", None)
    assert (again.recipe, again.model_file) == (recipe, "")


@pytest.mark.parametrize("half_pixel", [False, True])
@pytest.mark.parametrize("shape", [(40, 300, 3), (600, 600, 3), (601, 600, 3)])
def test_an_image_of_any_size_is_resized_to_the_bits_of_the_plain_resize(backbone, shape, half_pixel):
    """Below and above the size from which it is not made float32 first."""
    image = tf.constant(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    scaling = dataclasses.replace(backbone.scaling, half_pixel=half_pixel)
    plain = tf.raw_ops.ResizeBilinear(images=image[None], size=scaling.size, half_pixel_centers=half_pixel)[0]
    resized = dataclasses.replace(backbone, scaling=scaling).resize(image)
    np.testing.assert_array_equal(resized.numpy(), plain.numpy())
