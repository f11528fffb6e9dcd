"""Drawn scenes are repeatable, varied, and told apart by class."""

import numpy as np
from PIL import Image

from mhcln.demo import scenes


def size_of(path):
    with Image.open(path) as image:
        return image.size


def test_same_seed_same_scene_and_other_seed_another():
    for name in scenes.SCENES:
        first, again, other = (np.asarray(scenes.draw_scene(name, seed)) for seed in (1, 1, 2))
        assert first.shape == (256, 256, 3)
        np.testing.assert_array_equal(first, again)
        assert np.abs(first.astype(int) - other).mean() > 5


def test_folders_are_completed_not_drawn_again(tmp_path):
    scenes.draw_folders(tmp_path, 1)
    kept = tmp_path / "forest" / "forest00.tif"
    Image.new("RGB", (2, 2)).save(kept)
    scenes.draw_folders(tmp_path, 2)
    assert len(list(tmp_path.glob("*/*.tif"))) == 2 * len(scenes.SCENES)
    assert size_of(kept) == (2, 2)
    assert size_of(tmp_path / "forest" / "forest01.tif") == (256, 256)
