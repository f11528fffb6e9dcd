"""Searching with one's own images, and adding images to what is searched."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import HOUSE
from PIL import Image

from mhcln import artifacts, trained
from mhcln.archive import load
from mhcln.cli import Console
from mhcln.errors import UserError
from mhcln.scenes import draw_scene

SCRIPT = "eval.py"


@pytest.fixture
def run(pipeline):
    return trained.read(pipeline / "dump", pipeline / "dump" / "K12")


@pytest.fixture
def ask(pipeline, run_script):
    def ask(*flags: object):
        return run_script(SCRIPT, f"--dump_dir={pipeline / 'dump'}", *flags)

    return ask


def found(pipeline, name: str) -> dict:
    return json.loads((pipeline / "dump" / "K12" / "queries" / f"query_{name}.json").read_text(encoding="utf-8"))


def test_an_archive_image_finds_itself_first_among_its_equals(pipeline, ask, run):
    result = ask("--query", pipeline / "images" / "harbor" / "harbor7.tif", "--k=6")
    assert result.returncode == 0, result.stderr
    answer = found(pipeline, "harbor7")
    distances = [entry["distance"] for entry in answer["found"]]
    assert distances == sorted(distances)
    assert (distances[0], len(distances), answer["searched"]) == (0, 6, 40)
    row = run.codes.paths.index("harbor/harbor7.tif")
    same = [
        path
        for path, code in zip(run.codes.paths, run.codes.codes, strict=True)
        if (code == run.codes.codes[row]).all()
    ]
    assert [entry["path"] for entry in answer["found"] if entry["distance"] == 0] == same[:6]
    for entry in answer["found"]:
        assert f"{entry['rank']:4}  {entry['distance']:8}" in result.stdout
    with Image.open(pipeline / "dump" / "K12" / "queries" / "query_harbor7.png") as picture:
        assert picture.size[0] > 500
    assert "ms an image" in result.stdout


def test_a_folder_of_queries_with_bad_ones_among_them(pipeline, ask, tmp_path, users_mistake):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    draw_scene("beach", 50).save(tmp_path / "a" / "new scene.png")
    draw_scene("forest", 51).convert("L").save(tmp_path / "b" / "new scene.jpg")
    (tmp_path / "b" / "broken.tif").write_bytes(b"II*\0")
    result = ask("--query", tmp_path, "--k=3")
    users_mistake(result, "broken.tif is no query")
    assert "2 queries in 40 images" in result.stdout
    assert found(pipeline, "new scene")["query"].endswith("a/new scene.png")
    assert found(pipeline, "new scene_2")["query"].endswith("b/new scene.jpg")


def test_queries_from_standard_input(pipeline):
    path = pipeline / "images" / "beach" / "beach0.tif"
    command = [
        sys.executable,
        HOUSE / SCRIPT,
        f"--dump_dir={pipeline / 'dump'}",
        "--query=-",
        "--k=2",
        "--archive=train",
    ]
    result = subprocess.run(command, input=f"{path}\n\n", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "1 query in 24 images" in result.stdout


def test_added_images_are_found(pipeline, ask, run_script, tmp_path, run):
    (tmp_path / "more" / "2024").mkdir(parents=True)
    draw_scene("runway", 60).resize((96, 96)).save(tmp_path / "more" / "2024" / "strip.tif")
    made = run_script(
        "extract_features.py",
        "--unlabelled",
        f"--model_dir={pipeline / 'model'}",
        f"--images_dir={tmp_path / 'more'}",
        f"--dump_dir={tmp_path / 'extra'}",
    )
    assert made.returncode == 0, made.stderr
    result = ask("--add", tmp_path / "extra", "--query", tmp_path / "more" / "2024" / "strip.tif", "--k=41")
    assert result.returncode == 0, result.stderr
    entries = {entry["path"]: entry for entry in found(pipeline, "strip")["found"]}
    assert len(entries) == 41
    assert (entries["2024/strip.tif"]["distance"], entries["2024/strip.tif"]["class"]) == (0, None)
    assert len(load(run, "test").paths) == 16  # added images are no test images
    evaluated = ask("--interval=4", "--k=5")
    assert "each compared with 15 test images" in evaluated.stdout


def test_an_addition_of_another_model_is_refused(run, tmp_path):
    folder = tmp_path / "K12"
    (folder / "archives").mkdir(parents=True)
    other = artifacts.Addition(
        np.zeros((1, 2), np.uint8), 12, np.array([-1]), ["x.tif"], [], "/images", run.setup["extractor"], "00"
    )
    artifacts.write_addition(folder / "archives" / "x.npz", other)
    moved = trained.Run(folder, run.codes, run.codes_sha256, run.setup, run.display_names, run.files)
    with pytest.raises(UserError, match=r"x\.npz holds codes of another model"):
        load(moved, "all")


def test_features_of_another_backbone_are_not_added(pipeline, tmp_path, run):
    from mhcln.query import add

    features = artifacts.read_features(pipeline / "dump")
    changed = artifacts.Features(**{**vars(features), "extractor": features.extractor + "; views=8"})
    artifacts.write_features(tmp_path, changed)
    with pytest.raises(UserError, match="extract them again with the same backbone and flags"):
        add(run, tmp_path, Console())


def test_users_mistakes(pipeline, ask, tmp_path, users_mistake):
    (tmp_path / "empty").mkdir()
    users_mistake(ask("--query", tmp_path / "empty"), "holds no images")
    users_mistake(ask("--query", tmp_path / "none.jpg"), "neither an image nor a folder")
    query = pipeline / "images" / "beach" / "beach0.tif"
    from graphs import small_graph, write_graph

    write_graph(tmp_path / "other", small_graph(seed=5))
    users_mistake(
        ask("--query", query, f"--model_dir={tmp_path / 'other'}"), "is not the backbone that made the archive"
    )


def test_a_changed_model_is_refused(pipeline, ask, users_mistake):
    model = pipeline / "dump" / "K12" / "model.keras"
    whole = model.read_bytes()
    try:
        model.write_bytes(whole[:-1] + b"x")
        users_mistake(
            ask("--query", pipeline / "images" / "beach" / "beach0.tif"), "is not the one that run.json tells of"
        )
    finally:
        model.write_bytes(whole)
