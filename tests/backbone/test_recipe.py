"""The extractor string: exactly what features.npz files have, read back without loss, and nothing else."""

import dataclasses
import subprocess
import sys

import pytest
from conftest import REPO_ROOT
from hypothesis import given
from hypothesis import strategies as st

from mhcln.backbone.recipe import KERAS, PAPER, RANDOM, Inference, Recipe
from mhcln.console import UserError
from mhcln.data.reading import Reading

DIGEST = "9cd03c18ed866e52e0841a3b0fd6d635a620d7b1063c73b2cbd8234f5d7e29f6"
WRITTEN = {
    f"inception-2015-12-05 pool_3; sha256={DIGEST}; tiff=jpeg100; precision=float32; views=1": Recipe(
        PAPER, Inference(tiff="jpeg"), DIGEST
    ),
    f"keras-inception-v3 mixed_8+mixed; sha256={DIGEST}; tiff=pixels; precision=bfloat16; views=8": Recipe(
        KERAS, Inference(("mixed_8", "mixed"), "pixels", "bfloat16", rotations=8), DIGEST
    ),
    "random-inception-v3 pool_3; seed=7; tiff=pixels; precision=float16; views=1": Recipe(
        RANDOM, Inference(tiff="pixels", precision="float16"), seed=7
    ),
    "random-inception-v3 pool_3; seed=0; tiff=pixels; precision=tf32; views=1; turn=7": Recipe(
        RANDOM, Inference(tiff="pixels", precision="tf32", rotation=7), seed=0
    ),
}
RASTERS = {
    "": Reading(),
    "; bands=4,3,2": Reading((4, 3, 2)),
    "; bands=1; range=0,3060": Reading((1,), (0, 3060)),
    "; range=-0.5,1e-07": Reading(value_range=(-0.5, 1e-7)),
    "; preset=sentinel2": Reading(preset="sentinel2"),
}


@pytest.mark.parametrize("text", WRITTEN)
@pytest.mark.parametrize("end", RASTERS)
def test_the_extractor_string_is_read_back(text, end):
    recipe = WRITTEN[text]
    recipe = dataclasses.replace(recipe, inference=dataclasses.replace(recipe.inference, reading=RASTERS[end]))
    assert str(recipe) == text + end
    assert Recipe.parse(text + end) == recipe
    assert Reading.of_extractor(text + end) == RASTERS[end]


@pytest.mark.parametrize("text", WRITTEN)
@given(place=st.integers(0, 200), replacement=st.text(max_size=2), cut=st.integers(0, 3))
def test_a_changed_string_is_refused_or_is_that_of_another_recipe(text, place, replacement, cut):
    changed = text[:place] + replacement + text[place + cut :]
    try:
        recipe = Recipe.parse(changed)
    except UserError:
        return
    assert str(recipe) == changed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "published features.pkl",
        f"inception-2015-12-05 pool_3; sha256={DIGEST}; tiff=jpeg100; precision=float32",
        f"inception-2015-12-05 pool_3; sha256={DIGEST}; tiff=jpeg100; precision=float64; views=1",
        f"resnet50 pool_3; sha256={DIGEST}; tiff=jpeg100; precision=float32; views=1",
        "random-inception-v3 pool_3; seed=0; tiff=pixels; precision=float32; views=1; turn=0",
        "random-inception-v3 pool_3; seed=0; tiff=pixels; precision=float32; views=8; turn=1",
        f"random-inception-v3 pool_3; seed={'9' * 5000}; tiff=pixels; precision=float32; views=1",
        "random-inception-v3 pool_3; seed=٧; tiff=pixels; precision=float32; views=1",
        "random-inception-v3 pool_3; seed=0; tiff=pixels; precision=float32; views=1; bands=1; bands=1",
        "random-inception-v3 pool_3; seed=0; tiff=pixels; precision=float32; views=1; range=00,1",
    ],
)
def test_other_extractors_are_refused(text):
    with pytest.raises(UserError) as caught:
        Recipe.parse(text)
    wanted = f"features.npz was made by {text!r}, which this version cannot reopen; search with features.npz files "
    assert str(caught.value) == wanted + "that it made, or extract the features again"


def test_importing_the_room_does_not_load_tensorflow():
    code = "import sys, mhcln.backbone.loader; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=REPO_ROOT)
