"""Searching with one's own images, and adding images to what is searched."""

import dataclasses
import functools
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPO_ROOT, run_here
from graphs import small_graph, write_graph
from PIL import Image

from mhcln.console import UserError
from mhcln.demo.scenes import draw_scene
from mhcln.hamming.codes import quantise
from mhcln.pipeline.add_images import add_images
from mhcln.pipeline.opened_run import open_run
from mhcln.storage import layout, runs
from mhcln.storage.features import Features, read_features, write_features
from mhcln.storage.files import locked, read_npz


@pytest.fixture
def run(pipeline):
    return runs.read_run(pipeline / "dump" / "K12")


@pytest.fixture
def ask(pipeline, evaluate):
    return functools.partial(evaluate, f"--dump_dir={pipeline / 'dump'}")


def results_of(pipeline, name: str) -> dict:
    return json.loads((pipeline / "dump" / "K12" / "queries" / f"query_{name}.json").read_text(encoding="utf-8"))


def test_an_archive_image_finds_itself_first_among_its_equals(pipeline, ask, run):
    result = ask("--query", pipeline / "images" / "harbor" / "harbor7.tif", "--k=6")
    assert result.returncode == 0, result.stderr
    found = results_of(pipeline, "harbor7")
    distances = [entry["distance"] for entry in found["found"]]
    assert distances == sorted(distances)
    assert (distances[0], len(distances), found["searched"]) == (0, 6, 40)
    row = run.codes.paths.index("harbor/harbor7.tif")
    values = quantise(read_npz(run.folder / "activations.npz", "")["activations"]).astype(int)
    apart = np.abs(values - values[row]).sum(axis=1)
    same = np.flatnonzero((run.codes.codes == run.codes.codes[row]).all(axis=1))
    same = [run.codes.paths[place] for place in same[np.argsort(apart[same], kind="stable")]]
    assert [entry["path"] for entry in found["found"] if entry["distance"] == 0] == same[:6]
    assert found["found"][0]["path"] == "harbor/harbor7.tif"
    if len(same) > 6:
        assert f"  {len(same)} images at distance 0, 6 shown" in result.stdout
        assert found["ties"] == {"distance": 0, "images": len(same), "shown": 6}
    for entry in found["found"]:
        assert f"{entry['rank']:4}  {entry['distance']:8}" in result.stdout
    with Image.open(pipeline / "dump" / "K12" / "queries" / "query_harbor7.png") as picture:
        assert picture.size[0] > 500
    assert "ms an image" in result.stdout


def test_a_query_that_is_not_an_image_is_reported(ask, tmp_path, users_mistake):
    (tmp_path / "photo.jpg").write_text("not a photo", encoding="utf-8")
    result = ask("--query", tmp_path / "photo.jpg")
    users_mistake(result, "photo.jpg is not usable: not a readable image", "; repair it or give another image")
    assert "0 queries in 40 images" in result.stdout


def test_the_good_images_of_a_folder_are_searched_and_the_bad_ones_reported(pipeline, ask, tmp_path, users_mistake):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    draw_scene("beach", 50).save(tmp_path / "a" / "new scene.png")
    draw_scene("forest", 51).convert("L").save(tmp_path / "b" / "new scene.jpg")
    (tmp_path / "b" / "broken.tif").write_bytes(b"II*\0")
    (tmp_path / "a" / "empty.png").touch()
    result = ask("--query", tmp_path, "--k=3")
    bad = f"{tmp_path / 'a' / 'empty.png'} is not usable: empty file; {tmp_path / 'b' / 'broken.tif'} is not usable: "
    users_mistake(result, bad, "; repair them or give other images; the other 2 were searched")
    assert "2 queries in 40 images" in result.stdout
    assert results_of(pipeline, "new scene")["query"].endswith("a/new scene.png")
    assert results_of(pipeline, "new scene_2")["query"].endswith("b/new scene.jpg")


def test_a_query_waits_for_nobody_who_reads_or_writes_the_run(pipeline, ask, run):
    with locked(run.folder):  # as another process would hold it that adds images
        result = ask("--query", pipeline / "images" / "beach" / "beach0.tif", "--k=2")
    assert result.returncode == 0, result.stderr


def test_queries_are_read_from_standard_input(pipeline, ask, tmp_path, users_mistake, monkeypatch):
    path = pipeline / "images" / "beach" / "beach0.tif"
    strange = os.fsencode(tmp_path) + b"/\xff.tif"
    if sys.platform == "linux":  # elsewhere such names cannot be
        shutil.copyfile(path, strange)

    def run(*lines: bytes) -> subprocess.CompletedProcess:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n".join(lines))))
        return ask("--query=-", "--k=2", "--archive=train")

    result = run(os.fsencode(path), b"", b"")
    assert result.returncode == 0, result.stderr
    assert "1 query in 24 images" in result.stdout
    result = run(strange, os.fsencode(path), b"/nowhere.jpg\n")
    users_mistake(result, "ff.tif is not usable: its name cannot be printed")
    assert "/nowhere.jpg is not usable: missing; repair them or give other images; the other one was" in result.stderr
    assert "1 query in 24 images" in result.stdout


def test_added_images_are_found(pipeline, ask, tmp_path, run):
    (tmp_path / "more" / "2024").mkdir(parents=True)
    draw_scene("runway", 60).resize((96, 96)).save(tmp_path / "more" / "2024" / "strip.tif")
    images = (f"--images_dir={tmp_path / 'more'}", "--unlabelled", f"--model_dir={pipeline / 'model'}")
    run_here("extract_features.py", *images, f"--dump_dir={tmp_path / 'extra'}")
    result = ask("--add", tmp_path / "extra", "--query", tmp_path / "more" / "2024" / "strip.tif", "--k=41")
    assert result.returncode == 0, result.stderr
    entries = {entry["path"]: entry for entry in results_of(pipeline, "strip")["found"]}
    assert len(entries) == 41
    assert (entries["2024/strip.tif"]["distance"], entries["2024/strip.tif"]["class"]) == (0, None)
    assert len(open_run(pipeline / "dump", "K12").archive("test")) == 16  # added images are no test images
    evaluated = ask("--interval=4", "--k=5")
    assert "each compared with 15 test images" in evaluated.stdout
    shutil.rmtree(run.folder / layout.ARCHIVES)  # other tests count the images of this run


def test_features_of_another_backbone_are_not_added(pipeline, tmp_path, run, console):
    features = read_features(pipeline / "dump")
    table, vectors = features.images, features.vectors
    other = dataclasses.replace(table, extractor=table.extractor + "; views=8")
    write_features(tmp_path, Features(vectors, other))
    with pytest.raises(UserError, match="extract them again with the same backbone and flags"):
        add_images(run, tmp_path, "auto", console)
    write_features(tmp_path, Features(vectors[:0], table.at([])))
    with pytest.raises(UserError, match=rf"{tmp_path} has features of no image; make them again with extract_"):
        add_images(run, tmp_path, "auto", console)
    write_features(tmp_path, Features(np.pad(vectors, [(0, 0), (0, 3)]), table))
    with pytest.raises(UserError, match=rf"{tmp_path} gives features of width 15, the model takes 12; extract them"):
        add_images(run, tmp_path, "auto", console)


def test_mistakes_are_one_line(pipeline, ask, tmp_path, users_mistake):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    users_mistake(ask("--query", tmp_path / "empty"), "empty holds no images", "; give a folder that does")
    users_mistake(
        ask("--query", tmp_path / "none.jpg"), "neither an image nor a folder of images; give the path of one"
    )
    users_mistake(ask("--query="), "--query= is neither an image nor a folder")
    query = pipeline / "images" / "beach" / "beach0.tif"
    write_graph(tmp_path / "other", small_graph(seed=5))
    other = f"--model_dir={tmp_path / 'other'}"
    users_mistake(ask("--query", query, other), "is not the backbone that made the archive")
    dump = shutil.copytree(pipeline / "dump", tmp_path / "dump")
    with (dump / "K12" / "model.keras").open("ab") as model:
        model.write(b"x")
    users_mistake(ask("--query", query, f"--dump_dir={dump}"), "does not match its SHA-256 in run.json")


WITHOUT_TENSORFLOW = """
import runpy, sys
sys.argv = ["eval.py", *sys.argv[1:]]
try:
    runpy.run_path("eval.py", run_name="__main__")
finally:
    assert "tensorflow" not in sys.modules and "keras" not in sys.modules
"""


def test_an_image_of_the_archive_is_searched_with_without_tensorflow(pipeline, ask, tmp_path):
    dump = tmp_path / "dump"
    shutil.copytree(pipeline / "dump", dump)
    (dump / "K12" / "model.keras").unlink()  # which nothing here needs
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, f"--dump_dir={dump}", "--query=harbor/harbor7.tif", "--k=40"]
    result = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    stored = json.loads((dump / "K12" / "queries" / "query_harbor7.json").read_text(encoding="utf-8"))
    assert ask("--query", pipeline / "images" / "harbor" / "harbor7.tif", "--k=40").returncode == 0
    assert stored == results_of(pipeline, "harbor7")


def test_a_name_that_may_mean_two_images_is_refused(pipeline, ask, tmp_path, users_mistake):
    (tmp_path / "beach").mkdir()
    draw_scene("forest", 3).save(tmp_path / "beach" / "beach0.tif")
    flags = ("--query=beach/beach0.tif", "--k=2")
    stored = pipeline / "images" / "beach" / "beach0.tif"
    result = ask(*flags, cwd=tmp_path)
    users_mistake(result, f"beach/beach0.tif may be {stored} or {tmp_path}/beach/beach0.tif; give one of these")
    result = ask(*flags, cwd=pipeline / "images")
    assert result.returncode == 0, result.stderr
    assert "backbone" not in result.stdout


def test_an_archive_without_activations_is_searched_in_storage_order_and_that_is_said_once(
    pipeline, evaluate, tmp_path, run, monkeypatch
):
    shutil.copytree(pipeline / "dump", tmp_path / "dump")
    folder = tmp_path / "dump" / "K12"
    (folder / "activations.npz").unlink()
    two = [path for path, side in zip(run.codes.paths, run.codes.split, strict=True) if side == "train"][:2]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(two).encode())))
    result = evaluate(f"--dump_dir={tmp_path / 'dump'}", "--query=-", "--archive=train")
    assert result.returncode == 0
    assert "24 of 24 images have no activations; at equal distance they come last, in storage order" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    name = two[0].split("/")[1].removesuffix(".tif")
    found = json.loads((folder / "queries" / f"query_{name}.json").read_text(encoding="utf-8"))["found"]
    order = [(entry["distance"], run.codes.paths.index(entry["path"])) for entry in found]
    assert len(order) == 20
    assert order == sorted(order)


def test_an_addition_needs_no_features_beside_the_run_and_stores_what_orders_it(pipeline, run, tmp_path, console):
    shutil.copytree(pipeline / "dump", tmp_path / "dump")
    (tmp_path / "dump" / "features.npz").write_bytes(b"damaged")
    add_images(runs.read_run(tmp_path / "dump" / "K12"), pipeline / "dump", "auto", console)
    stored = open_run(tmp_path / "dump", "K12").archive("all").parts[1]
    expected = quantise(read_npz(run.folder / "activations.npz", "")["activations"])
    assert np.abs(stored.unsorted().levels.astype(int) - expected).max() <= 1


def test_images_added_again_replace_what_was_there_and_those_that_are_gone_go(pipeline, tmp_path, console):
    dump = shutil.copytree(pipeline / "dump", tmp_path / "dump")
    run = runs.read_run(dump / "K12")

    def added() -> list[tuple[str, int]]:
        return [(part.images_dir, len(part)) for part in open_run(dump, "K12").archive("all").parts[1:]]

    features = read_features(pipeline / "dump")
    images = features.images
    for name, rows in (("new", range(40)), ("new", range(5, 40)), ("other", range(20))):
        (tmp_path / name).mkdir(exist_ok=True)
        write_features(tmp_path / name, Features(features.vectors[rows], images.at(rows)))
        add_images(run, tmp_path / name, "cpu", console)
    # 5 images are no longer in "new"; 15 of the others are of "other" now, and in the archive once
    assert added() == [(images.images_dir, 20), (images.images_dir, 20)]
    paths = [path for part in open_run(dump, "K12").archive("all").parts[1:] for path in part.paths]
    assert sorted(paths) == sorted(images.paths)
