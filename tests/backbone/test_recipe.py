"""The extractor string: exactly what earlier versions wrote, read back without loss, and nothing else."""

import dataclasses
import subprocess
import sys

import pytest
from conftest import REPO_ROOT
from hypothesis import given
from hypothesis import strategies as st

from mhcln.backbone.recipe import KERAS, PAPER, POOL_3, PRECISIONS, RANDOM, TIFF_STEPS, VIEWS, Recipe
from mhcln.console import UserError
from mhcln.data.reading import Reading

DIGEST = "9cd03c18ed866e52e0841a3b0fd6d635a620d7b1063c73b2cbd8234f5d7e29f6"
WRITTEN = {
    f"inception-2015-12-05 pool_3; sha256={DIGEST}; tiff=jpeg100; precision=float32; views=1": Recipe(
        PAPER, POOL_3, "jpeg", "float32", 1, sha256=DIGEST
    ),
    f"keras-inception-v3 mixed_8+mixed; sha256={DIGEST}; tiff=pixels; precision=bfloat16; views=8": Recipe(
        KERAS, ("mixed_8", "mixed"), "pixels", "bfloat16", 8, sha256=DIGEST
    ),
    "random-inception-v3 pool_3; seed=7; tiff=pixels; precision=float16; views=1": Recipe(
        RANDOM, POOL_3, "pixels", "float16", 1, seed=7
    ),
    "random-inception-v3 pool_3; seed=0; tiff=pixels; precision=float32; views=1; turn=7": Recipe(
        RANDOM, POOL_3, "pixels", "float32", 1, seed=0, turn=7
    ),
}
NAMES = ["graph", "keras", "random", "turned"]


@pytest.mark.parametrize(("text", "recipe"), WRITTEN.items(), ids=NAMES)
def test_the_extractor_string_is_that_of_earlier_versions(text, recipe):
    assert str(recipe) == text
    assert Recipe.parse(text) == recipe


CHOICES = {
    "layers": st.lists(st.sampled_from([*POOL_3, "mixed", "mixed_1", "mixed_10"]), min_size=1).map(tuple),
    "tiff": st.sampled_from(TIFF_STEPS),
    "precision": st.sampled_from(PRECISIONS),
    "views": st.sampled_from(VIEWS),
}


@given(
    st.builds(
        Recipe, st.sampled_from([PAPER, KERAS]), **CHOICES, sha256=st.binary(min_size=32, max_size=32).map(bytes.hex)
    )
    | st.builds(Recipe, st.just(RANDOM), **CHOICES, seed=st.integers(0, 2**128))
)
def test_every_recipe_is_read_back_from_its_string(recipe):
    assert Recipe.parse(str(recipe)) == recipe


@pytest.mark.parametrize("text", WRITTEN, ids=NAMES)
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
        "inception-2015-12-05",
        f"inception-2015-12-05 pool_3; sha256={DIGEST}; tiff=jpeg100; precision=float32",
        f"inception-2015-12-05 pool_3; sha256={DIGEST}; tiff=jpeg100; precision=float32; views=2",
        f"inception-2015-12-05 pool_3; sha256={DIGEST}; tiff=jpeg100; precision=float64; views=1",
        f"inception-2015-12-05 pool_3; sha256={DIGEST}; tiff=gif; precision=float32; views=1",
        f"inception-2015-12-05; sha256={DIGEST}; tiff=jpeg100; precision=float32; views=1",
        f"resnet50 pool_3; sha256={DIGEST}; tiff=jpeg100; precision=float32; views=1",
        "random-inception-v3 pool_3; seed=0; tiff=pixels; precision=float32; views=1; turn=0",
        "random-inception-v3 pool_3; seed=0; tiff=pixels; precision=float32; views=1; turn=8",
        "random-inception-v3 pool_3; seed=0; tiff=pixels; precision=float32; views=8; turn=1",
        "random-inception-v3 pool_3; seed=x; tiff=pixels; precision=float32; views=1",
        f"random-inception-v3 pool_3; seed={'9' * 5000}; tiff=pixels; precision=float32; views=1",
        "random-inception-v3 pool_3; seed=٧; tiff=pixels; precision=float32; views=1",
    ],
)
def test_other_extractors_are_refused(text):
    with pytest.raises(UserError) as caught:
        Recipe.parse(text)
    wanted = f"features.npz was made by {text!r}, which this version cannot reopen; search with features.npz files "
    assert str(caught.value) == wanted + "that it made, or extract the features again"


@pytest.mark.parametrize("module", ["recipe", "backbone", "loader"])
def test_importing_the_room_does_not_load_tensorflow(module):
    code = f"import sys, mhcln.backbone.{module}; assert not {{'tensorflow', 'keras'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=REPO_ROOT)


RASTERS = {
    "; bands=4,3,2": Reading((4, 3, 2)),
    "; bands=1; range=0,3060": Reading((1,), (0, 3060)),
    "; range=-0.5,1e-07": Reading(value_range=(-0.5, 1e-7)),
    "; preset=sentinel2": Reading(preset="sentinel2"),
}


@pytest.mark.parametrize("text", WRITTEN, ids=NAMES)
@pytest.mark.parametrize("end", RASTERS)
def test_how_rasters_are_read_ends_the_string_only_if_it_was_said(text, end):
    recipe = dataclasses.replace(WRITTEN[text], reading=RASTERS[end])
    assert str(recipe) == text + end
    assert Recipe.parse(text + end) == recipe
    assert Reading.of_extractor(text + end) == RASTERS[end]
    assert Reading.of_extractor(text) == Reading()
    for other in (end.replace("=", "=0"), end + "; bands=1", end + "0" * 400):
        with pytest.raises(UserError):
            Recipe.parse(text + other)
