"""Searching with one's own images, and adding images to what is searched."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPO_ROOT
from factories import write_old_addition
from graphs import small_graph, write_graph
from PIL import Image

from mhcln.console import UserError
from mhcln.demo.scenes import draw_scene
from mhcln.hamming.ordered import quantise
from mhcln.pipeline.add_images import add_images
from mhcln.pipeline.additions import laid_out
from mhcln.storage import formats, layout, runs
from mhcln.storage.archive import load_archive
from mhcln.storage.features import read_features, write_features
from mhcln.storage.features_file import Features
from mhcln.storage.files import locked, sha256_of

SCRIPT = "eval.py"


@pytest.fixture
def run(pipeline):
    return runs.read_run(pipeline / "dump" / "K12")


@pytest.fixture
def ask(pipeline, run_script):
    def ask(*flags: object):
        return run_script(SCRIPT, f"--dump_dir={pipeline / 'dump'}", *flags)

    return ask


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
    values = quantise(formats.read_activations(run.folder, 12).activations).astype(int)
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


def test_queries_are_read_from_standard_input(pipeline, tmp_path, users_mistake):
    path = pipeline / "images" / "beach" / "beach0.tif"
    strange = os.fsencode(tmp_path) + b"/\xff.tif"
    if sys.platform == "linux":  # elsewhere such names cannot be
        shutil.copyfile(path, strange)
    command = [
        sys.executable,
        REPO_ROOT / SCRIPT,
        f"--dump_dir={pipeline / 'dump'}",
        "--query=-",
        "--k=2",
        "--archive=train",
    ]

    def run(*lines: bytes) -> subprocess.CompletedProcess:
        result = subprocess.run(command, input=b"\n".join(lines), capture_output=True, check=False)
        return subprocess.CompletedProcess([], result.returncode, result.stdout.decode(), result.stderr.decode())

    result = run(os.fsencode(path), b"", b"")
    assert result.returncode == 0, result.stderr
    assert "1 query in 24 images" in result.stdout
    result = run(strange, os.fsencode(path), b"/nowhere.jpg\n")
    users_mistake(result, "ff.tif is not usable: its name cannot be printed")
    assert "/nowhere.jpg is not usable: missing; repair them or give other images; the other one was" in result.stderr
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
    entries = {entry["path"]: entry for entry in results_of(pipeline, "strip")["found"]}
    assert len(entries) == 41
    assert (entries["2024/strip.tif"]["distance"], entries["2024/strip.tif"]["class"]) == (0, None)
    assert len(load_archive(run, "test", run.codes.class_names)) == 16  # added images are no test images
    evaluated = ask("--interval=4", "--k=5")
    assert "each compared with 15 test images" in evaluated.stdout
    shutil.rmtree(run.folder / layout.ARCHIVES)  # other tests count the images of this run


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bits": 16}, ("x.npz holds codes of 16 bits", "K12 have 12; remove it, or add its images again")),
        ({"extractor": "other"}, ("x.npz holds codes of features of 'other'", "K12 was trained on 'inception")),
    ],
)
def test_an_archive_of_other_codes_is_refused(pipeline, run, tmp_path, run_script, users_mistake, changes, words):
    shutil.copytree(pipeline / "dump", tmp_path / "dump")
    added = formats.Addition(
        codes=np.zeros((1, 2), np.uint8),
        bits=12,
        labels=np.array([-1]),
        paths=["x.tif"],
        class_names=[],
        images_dir="/images",
        extractor=run.inputs.extractor,
        model_sha256=run.files["model.keras"],
    )
    place = tmp_path / "dump" / "K12" / "archives" / "x.npz"
    place.parent.mkdir(exist_ok=True)
    write_old_addition(place, dataclasses.replace(added, **changes))
    query = pipeline / "images" / "beach" / "beach0.tif"
    users_mistake(run_script(SCRIPT, f"--dump_dir={tmp_path / 'dump'}", "--query", query), str(place.parent), *words)


def test_an_empty_archive_is_refused(pipeline, run, tmp_path, run_script, users_mistake):
    shutil.copytree(pipeline / "dump", tmp_path / "dump")
    folder = tmp_path / "dump" / "K12"
    formats.write_codes(folder, dataclasses.replace(run.codes, split=["train"] * len(run.codes.paths)))
    record = runs.read_record(folder)
    record.outcome.files["codes.npz"] = sha256_of(folder / "codes.npz")
    runs.write_record(folder, record)
    query = pipeline / "images" / "beach" / "beach0.tif"
    result = run_script(SCRIPT, f"--dump_dir={tmp_path / 'dump'}", "--query", query, "--archive=test")
    users_mistake(result, f"{folder} has no images in --archive=test; choose another --archive")


def test_features_of_another_backbone_are_not_added(pipeline, tmp_path, run, console):
    features = read_features(pipeline / "dump")
    table, vectors = features.images, features.vectors
    other = dataclasses.replace(table, extractor=table.extractor + "; views=8")
    write_features(tmp_path, Features(vectors, other))
    with pytest.raises(UserError, match="extract them again with the same backbone and flags"):
        add_images(run, tmp_path, "auto", console)
    none = dataclasses.replace(table, labels=table.labels[:0], paths=[])
    write_features(tmp_path, Features(vectors[:0], none))
    with pytest.raises(UserError, match=rf"{tmp_path} has features of no image; make them again with extract_"):
        add_images(run, tmp_path, "auto", console)
    write_features(tmp_path, Features(np.pad(vectors, [(0, 0), (0, 3)]), table))
    with pytest.raises(UserError, match=rf"{tmp_path} gives features of width 15, the model takes 12; extract them"):
        add_images(run, tmp_path, "auto", console)


def test_adding_needs_no_features_beside_the_run(pipeline, tmp_path, console):
    shutil.copytree(pipeline / "dump", tmp_path / "dump")
    (tmp_path / "dump" / "features.npz").write_bytes(b"damaged")
    add_images(runs.read_run(tmp_path / "dump" / "K12"), pipeline / "dump", "auto", console)
    assert (tmp_path / "dump" / "K12" / "archives" / "shards" / "00000001.npz").is_file()


def test_mistakes_are_one_line(pipeline, ask, tmp_path, users_mistake):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    users_mistake(ask("--query", tmp_path / "empty"), "empty holds no images", "; give a folder that does")
    users_mistake(
        ask("--query", tmp_path / "none.jpg"), "neither an image nor a folder of images; give the path of one"
    )
    users_mistake(ask("--query="), "--query= is neither an image nor a folder")
    users_mistake(ask("--query=", "--table"), "leave --run_name, --query and --add out")
    query = pipeline / "images" / "beach" / "beach0.tif"
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
    described = ask("--query", pipeline / "images" / "harbor" / "harbor7.tif", "--k=40")
    assert described.returncode == 0, described.stderr
    assert stored == results_of(pipeline, "harbor7")


def test_a_name_that_may_mean_two_images_is_refused(pipeline, tmp_path, run_script, users_mistake):
    (tmp_path / "beach").mkdir()
    draw_scene("forest", 3).save(tmp_path / "beach" / "beach0.tif")
    command = ("eval.py", f"--dump_dir={pipeline / 'dump'}", "--query=beach/beach0.tif", "--k=2")
    stored = pipeline / "images" / "beach" / "beach0.tif"
    result = run_script(*command, cwd=tmp_path)
    users_mistake(result, f"beach/beach0.tif may be {stored} or {tmp_path}/beach/beach0.tif; give one of these")
    result = run_script(*command, cwd=pipeline / "images")
    assert result.returncode == 0, result.stderr
    assert "backbone" not in result.stdout


def test_an_old_archive_is_searched_in_storage_order_and_that_is_said_once(pipeline, tmp_path, run):
    shutil.copytree(pipeline / "dump", tmp_path / "dump")
    folder = tmp_path / "dump" / "K12"
    (folder / "activations.npz").unlink()
    two = [path for path, side in zip(run.codes.paths, run.codes.split, strict=True) if side == "train"][:2]
    command = [sys.executable, REPO_ROOT / SCRIPT, f"--dump_dir={tmp_path / 'dump'}", "--query=-", "--archive=train"]
    result = subprocess.run(command, input="\n".join(two), capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "24 of 24 images have no activations, and come last, in storage order" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    name = two[0].split("/")[1].removesuffix(".tif")
    found = json.loads((folder / "queries" / f"query_{name}.json").read_text(encoding="utf-8"))["found"]
    order = [(entry["distance"], run.codes.paths.index(entry["path"])) for entry in found]
    assert len(order) == 20
    assert order == sorted(order)


def test_an_addition_stores_what_orders_it(pipeline, run, tmp_path, console):
    shutil.copytree(pipeline / "dump", tmp_path / "dump")
    add_images(runs.read_run(tmp_path / "dump" / "K12"), pipeline / "dump", "auto", console)
    stored = load_archive(runs.read_run(tmp_path / "dump" / "K12"), "all", []).parts[1]
    expected = quantise(formats.read_activations(run.folder, 12).activations)
    assert np.abs(laid_out(stored).levels_by_row().astype(int) - expected).max() <= 1


def test_images_added_again_replace_what_was_there_and_those_that_are_gone_go(pipeline, tmp_path, console):
    dump = shutil.copytree(pipeline / "dump", tmp_path / "dump")
    run = runs.read_run(dump / "K12")

    def added() -> list[tuple[str, int]]:
        return [(part.images_dir, len(part)) for part in load_archive(run, "all", []).parts[1:]]

    features = read_features(pipeline / "dump")
    images = features.images
    for name, rows in (("new", slice(0, 40)), ("new", slice(5, 40)), ("other", slice(0, 20))):
        fewer = dataclasses.replace(
            images, labels=images.labels[rows], paths=images.paths[rows], stamps=images.stamps[rows]
        )
        (tmp_path / name).mkdir(exist_ok=True)
        write_features(tmp_path / name, dataclasses.replace(features, vectors=features.vectors[rows], images=fewer))
        add_images(run, tmp_path / name, "cpu", console)
    # 5 images are no longer in "new"; 15 of the others are of "other" now, and in the archive once
    assert added() == [(images.images_dir, 20), (images.images_dir, 20)]
    paths = [path for part in load_archive(run, "all", []).parts[1:] for path in part.paths]
    assert sorted(paths) == sorted(images.paths)
