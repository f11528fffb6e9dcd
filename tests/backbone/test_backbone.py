"""Opening a backbone, opening it again, and how its network runs."""

import dataclasses
import io

import graphs
import numpy as np
import pytest
from graphs import random_jpeg
from PIL import Image

from mhcln.backbone import frozen_graph
from mhcln.backbone.backbone import Backbone, chosen_file, open_backbone, recipe_of, reopen_backbone
from mhcln.backbone.compiled import turned
from mhcln.backbone.layers import Scaling
from mhcln.backbone.recipe import BackboneOptions, Recipe
from mhcln.console import UserError
from mhcln.data.images import read_image
from mhcln.quiet_tensorflow import tf
from mhcln.storage import files, layout

RNG = np.random.default_rng(5)


def test_no_backbone_or_several_are_refused(tmp_path, console):
    with pytest.raises(UserError, match="does not exist"):
        open_backbone(BackboneOptions(tmp_path / "nowhere"), console)
    with pytest.raises(UserError, match="holds no backbone"):
        open_backbone(BackboneOptions(tmp_path), console)
    graphs.write_graph(tmp_path)
    (tmp_path / "mine.weights.h5").touch()
    with pytest.raises(UserError, match=r"several backbones \(classify_image_graph_def.pb, mine.weights.h5\)"):
        open_backbone(BackboneOptions(tmp_path), console)
    with pytest.raises(UserError, match="exclude each other"):
        open_backbone(BackboneOptions(tmp_path, random_seed=0), console)


def test_the_eight_views_are_the_flips_and_quarter_turns():
    image = RNG.random((1, 5, 5, 3)).astype(np.float32)
    ours = {turned(tf.constant(image), view).numpy().tobytes() for view in range(8)}
    mirrored = image[:, :, ::-1]
    theirs = {np.rot90(one, turn, (1, 2)).tobytes() for one in (image, mirrored) for turn in range(4)}
    assert len(ours) == 8
    assert ours == theirs


def test_views_average_the_features(tmp_path, console):
    graphs.write_graph(tmp_path)
    one, eight = (open_backbone(BackboneOptions(tmp_path, views=views), console) for views in (1, 8))
    images = graphs.resized(one, [random_jpeg(RNG, 75, 90)])
    each = [one.features(turned(tf.constant(images), view).numpy()) for view in range(8)]
    assert graphs.relative_errors(eight.features(images), np.mean(each, axis=0)).max() < 1e-6
    assert np.ptp(each, axis=0).max() > 1e-3
    assert "views=8" in eight.extractor


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_stays_close_and_is_recorded(tmp_path, console, precision):
    graphs.write_graph(tmp_path)
    exact = open_backbone(BackboneOptions(tmp_path), console)
    lower = open_backbone(BackboneOptions(tmp_path, precision=precision), console)
    images = graphs.resized(exact, [random_jpeg(RNG, 75, 90), random_jpeg(RNG, 30, 30)])
    a, b = exact.features(images), lower.features(images)
    assert b.dtype == np.float32
    assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.999
    assert not np.array_equal(a, b)
    assert f"precision={precision}" in lower.extractor


def test_the_recorded_backbone_is_reopened_and_no_other(tmp_path, console):
    path = graphs.write_graph(tmp_path / "a")
    made = open_backbone(BackboneOptions(path.parent, tiff="pixels", precision="bfloat16", views=8), console)
    again = reopen_backbone(made.recipe, made.model_file, None)
    assert again.extractor == made.extractor
    moved = graphs.write_graph(tmp_path / "b")
    path.unlink()
    with pytest.raises(UserError, match="is gone; give its folder as --model_dir"):
        reopen_backbone(made.recipe, made.model_file, None)
    again = reopen_backbone(made.recipe, made.model_file, moved.parent)
    assert again.extractor == made.extractor
    graphs.write_graph(tmp_path / "b", graphs.small_graph(seed=1))
    with pytest.raises(UserError, match="is not the backbone that made the archive"):
        reopen_backbone(made.recipe, made.model_file, moved.parent)
    with pytest.raises(UserError, match="cannot reopen"):
        Recipe.parse("published features.pkl")


def test_layers_are_means_over_space_of_the_named_nodes(tmp_path, console):
    graph = graphs.small_graph()
    graphs.write_graph(tmp_path, graph)
    backbone = open_backbone(BackboneOptions(tmp_path, layers=("mixed_10", "mixed")), console)
    jpegs = [random_jpeg(RNG, 80, 100), random_jpeg(RNG, 75, 75)]
    found = backbone.features(graphs.resized(backbone, jpegs))
    pool_3 = graphs.published_way(graph, jpegs)
    assert graphs.relative_errors(found[:, : graphs.WIDTH], pool_3).max() < 1e-5
    mixed = graphs.published_way(graph, jpegs, "mixed/join:0").mean(axis=(1, 2))
    assert graphs.relative_errors(found[:, graphs.WIDTH :], mixed).max() < 1e-5
    assert graphs.relative_errors(found[:, graphs.WIDTH :], pool_3[:, : mixed.shape[1]]).min() > 0.1
    again = reopen_backbone(backbone.recipe, backbone.model_file, None)
    np.testing.assert_array_equal(again.features(graphs.resized(again, jpegs)), found)
    with pytest.raises(UserError, match="has no layer 'mixed_3'; choose from pool_3, mixed, mixed_10"):
        open_backbone(BackboneOptions(tmp_path, layers=("mixed", "mixed_3")), console)


def test_a_random_backbone_is_reopened_by_its_seed(console):
    made = open_backbone(BackboneOptions(random_seed=3), console)
    assert reopen_backbone(made.recipe, made.model_file, None).extractor == made.extractor


def test_the_resize_of_2015_takes_corners_and_keras_pixel_centres():
    image = tf.constant(np.arange(2, dtype=np.uint8).reshape(1, 2, 1) * 100)
    corners, centres = (Scaling((1, 4), half_pixel, mean=0.0, factor=1.0) for half_pixel in (False, True))
    assert Backbone(None, "", corners, None).resize(image).numpy().ravel().tolist() == [0, 50, 100, 100]
    assert Backbone(None, "", centres, None).resize(image).numpy().ravel().tolist() == [0, 25, 75, 100]


def test_features_of_two_layers_of_the_2015_graph_are_the_given_ones(shared, console):
    given = files.read_npz(shared / "data" / "features" / "ucmd.npz", layout.EXTRACT)
    backbone = open_backbone(BackboneOptions(shared / "models", layers=("mixed_8", "mixed_6")), console)
    rows = dict(zip(given["paths"].tolist(), given["features"], strict=True))
    paths = sorted((shared / "data" / "UCMD_tif").glob("*/*.tif"))[::12]
    for path in paths:
        decoded = np.array(Image.open(io.BytesIO(read_image(path, tiff_as_jpeg=True))))  # these were, by Pillow
        vector = backbone.features(backbone.resize(decoded)[None])[0]
        wanted = rows[f"{path.parent.name}/{path.stem}.jpg"]
        assert np.linalg.norm(vector - wanted) <= 1e-3 * np.linalg.norm(wanted), path
    assert len(paths) == 6


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, console, monkeypatch):
    path = graphs.write_graph(tmp_path)
    read = frozen_graph.read_graph

    def read_and_change(graph):
        network = read(graph)
        path.write_bytes(path.read_bytes() + b"more")
        return network

    monkeypatch.setattr(frozen_graph, "read_graph", read_and_change)
    with pytest.raises(UserError, match="changed while it was read"):
        open_backbone(BackboneOptions(tmp_path), console)


@pytest.mark.parametrize("changes", [{}, {"tiff": "pixels", "views": 8}, {"layers": ("mixed", "mixed_10")}])
def test_a_recipe_is_known_before_its_backbone_is_opened(model_dir, console, changes):
    options = BackboneOptions(model_dir, **changes)
    assert recipe_of(chosen_file(options, console), options) == open_backbone(options, console).recipe


def test_the_recipe_of_random_weights_is_known_before_they_are_drawn(console):
    options = BackboneOptions(random_seed=3)
    assert str(recipe_of(chosen_file(options, console), options)) == (
        "random-inception-v3 pool_3; seed=3; tiff=pixels; precision=float32; views=1"
    )


@pytest.mark.parametrize("half_pixel", [False, True])
@pytest.mark.parametrize("shape", [(40, 300, 3), (600, 600, 3), (601, 600, 3)])
def test_an_image_of_any_size_is_resized_to_the_bits_of_the_plain_resize(backbone, shape, half_pixel):
    """Below and above the size from which it is not made float32 first."""
    image = tf.constant(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    scaling = dataclasses.replace(backbone.scaling, half_pixel=half_pixel)
    plain = tf.raw_ops.ResizeBilinear(images=image[None], size=scaling.size, half_pixel_centers=half_pixel)[0]
    resized = dataclasses.replace(backbone, scaling=scaling).resize(image)
    np.testing.assert_array_equal(resized.numpy(), plain.numpy())
