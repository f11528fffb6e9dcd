"""The four commands in order, as a user types them, on drawn scenes and a small graph file."""

import json
import os
import subprocess
import sys

import numpy as np
from conftest import REPO_ROOT, run_here
from PIL import Image

from mhcln.storage.coded_images import read_codes
from mhcln.storage.features import read_features


def test_the_dump_folder_holds_what_the_contract_says(pipeline):
    dump = pipeline / "dump"
    names = {path.name for path in dump.iterdir()}
    assert names == {".mhcln.lock", "features.npz", "split.npz", "K12"}
    run = {path.name for path in (dump / "K12").iterdir()}
    assert {"run.json", "model.keras", "history.csv", "codes.npz", "results.json", "hamming_out"} <= run
    assert not [path for path in dump.rglob("*") if "part" in path.name]
    features, codes = read_features(dump), read_codes(dump / "K12")
    assert features.vectors.shape == (40, 12)
    assert "inception-2015-12-05" in features.images.extractor
    assert codes.paths == features.images.paths
    assert [codes.split.count(side) for side in ("train", "test")] == [24, 16]


def test_results_name_what_made_them(pipeline):
    results = json.loads((pipeline / "dump" / "K12" / "results.json").read_text(encoding="utf-8"))
    assert 0.3 < results["mAP@5"] <= 1
    assert results["mAP@5"] > results["mAP@5_worst"] - 1e-12
    assert (results["dataset"], results["bits"], results["split_seed"], results["seed"]) == ("images", 12, 0, 0)
    assert "jpeg100" in results["extractor"]
    assert results["definitions"]["mAP@5"]


def test_pictures_have_a_blue_query_and_red_mistakes(pipeline):
    folder = pipeline / "dump" / "K12" / "hamming_out"
    assert {path.name for path in folder.iterdir()} == {f"sample_{index}.png" for index in (3, 7, 11, 15)}
    with Image.open(folder / "sample_3.png") as picture:
        colours = {tuple(pixel) for pixel in np.asarray(picture.convert("RGB")).reshape(-1, 3)}
    assert (11, 95, 255) in colours


def test_extracting_again_changes_nothing_and_keeps_the_split(pipeline):
    dump = pipeline / "dump"
    before = {name: (dump / name).read_bytes() for name in ("features.npz", "split.npz")}
    flags = (f"--model_dir={pipeline / 'model'}", f"--images_dir={pipeline / 'images'}", f"--dump_dir={dump}")
    assert "nothing to do" in run_here("extract_features.py", *flags).said[-1]
    assert before == {name: (dump / name).read_bytes() for name in before}


def test_evaluation_needs_no_tensorflow(pipeline, tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('not here')")
    command = [sys.executable, REPO_ROOT / "eval.py", f"--dump_dir={pipeline / 'dump'}", "--k=5", "--interval=4"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "12 bits" in result.stdout
