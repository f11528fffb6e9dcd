"""`eval.py` as a user runs it: what it writes, what it says, what it refuses."""

import csv
import dataclasses
import io
import re
import shutil

import numpy as np
import pytest
from factories import CLASSES, coded, features_of_codes, noisy_codes, write_images, write_run
from PIL import Image

from mhcln.console import UserError
from mhcln.data import datasets
from mhcln.hamming.codes import pack, unpack
from mhcln.pipeline import evaluate as pipeline_evaluate
from mhcln.storage import files
from mhcln.storage.coded_images import write_codes
from mhcln.storage.features import write_features
from mhcln.storage.results import read_results


def results(folder) -> dict:
    return read_results(folder)


def test_the_published_codes_give_the_published_figure(tmp_path, shared, evaluate):
    golden = np.load(shared / "golden/published_code_ucmd_k32.npz")
    labels = golden["test_labels"].astype(np.int32)
    paths = [f"{label}/{row}.tif" for row, label in enumerate(labels)]
    names = [str(label) for label in range(21)]
    (tmp_path / "K32").mkdir()
    codes = coded(pack(golden["test_embeddings"]), 32, labels, paths, ["test"] * 840, names)
    write_codes(tmp_path / "K32", codes)
    done = evaluate("--dump_dir", tmp_path, "--k=20", "--interval=10")
    assert done.returncode == 0, done.stderr
    values = results(tmp_path / "K32")
    assert values["mAP@20"] == pytest.approx(float(golden["map20"]), abs=1e-9)
    assert values["mAP@20"] == pytest.approx(0.9412490361311401, abs=1e-9)
    assert values["mAP@20_worst"] < values["mAP@20"] < values["mAP@20_best"]
    assert values["distinct_codes"] == len(np.unique(golden["test_embeddings"], axis=0))
    assert "the folder of the images is not known" in done.stderr


def test_the_output_says_where_pictures_and_report_are_or_why_there_are_none(tmp_path, evaluate):
    write_images(tmp_path / "images", write_run(tmp_path))
    flags, folder = [f"--dump_dir={tmp_path}", "--k=3"], tmp_path / "K8/hamming_out"
    for interval, drawn in ((3, [2, 5, 8, 11]), (5, [4, 9])):  # none of the first is left
        done = evaluate(*flags, f"--interval={interval}", f"--images_dir={tmp_path / 'images'}")
        assert f"{len(drawn)} pictures: {folder}" in done.stdout
        assert f"report: {tmp_path / 'K8/report.html'}" in done.stdout
        assert {path.name for path in folder.iterdir()} == {f"sample_{row}.png" for row in drawn}
    assert "2 pictures of an earlier evaluation removed" in evaluate(*flags, "--interval=0").stdout
    assert not list(folder.iterdir())
    without = evaluate(*flags, "--interval=3")
    assert without.returncode == 0
    assert "the folder of the images is not known" in without.stderr


def test_nothing_of_an_earlier_evaluation_stands_beside_new_results(tmp_path, evaluate, monkeypatch):
    write_run(tmp_path)
    flags = [f"--dump_dir={tmp_path}", "--interval=0"]
    evaluate(*flags, "--k=3")

    def stopped(*_values):
        raise UserError("stopped here")

    monkeypatch.setattr(pipeline_evaluate, "_write_queries", stopped)
    assert evaluate(*flags, "--k=4").returncode == 2
    assert results(tmp_path / "K8")["k"] == 4
    assert not (tmp_path / "K8/report.html").exists()
    assert not (tmp_path / "K8/results.csv").exists()


def test_a_known_data_set_is_recognised_by_its_class_names(tmp_path, evaluate):
    known = datasets.known()["UCMD"]
    codes = noisy_codes()
    (tmp_path / "K8").mkdir()
    write_codes(tmp_path / "K8", dataclasses.replace(codes, class_names=list(known.class_names)))
    assert evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0").returncode == 0
    assert results(tmp_path / "K8")["dataset"] == "UCMD"
    assert "Baseball Diamond" in (tmp_path / "K8/report.html").read_text()


def test_results_hold_their_setup_and_pictures_are_drawn(tmp_path, evaluate):
    images = tmp_path / "my images"
    run = {"images_dir": str(images), "seed": 3, "split_rule": "stratified", "seconds": 4.5, "extractor": "x"}
    codes = write_run(tmp_path, run=run)
    write_images(images, codes)
    done = evaluate(f"--dump_dir={tmp_path}", "--k=7", "--interval=5")
    assert done.returncode == 0, done.stderr
    values = results(tmp_path / "K8")
    assert {key: values[key] for key in ("dataset", "bits", "k", "queries", "searched", "queries_left_out")} == {
        **{"dataset": "mine", "bits": 8, "k": 7},
        **{"queries": 12, "searched": 11, "queries_left_out": 0},
    }
    assert (values["seed"], values["split_rule"], values["training_seconds"]) == (3, "stratified", 4.5)
    assert values["stamp"] is None
    assert values["per_class"].keys() == set(CLASSES)
    assert "retrieved in the top 7" in values["definitions"]["mAP@7"]
    drawn = sorted(path.name for path in (tmp_path / "K8/hamming_out").iterdir())
    assert drawn == ["sample_4.png", "sample_9.png"]
    assert f"{values['mAP@7']:.4f}" in done.stdout


def test_contaminated_results_say_so_everywhere(tmp_path, evaluate):
    write_run(tmp_path, run={"contaminated": 7, "split_rule": "published-aid"})
    done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    values = results(tmp_path / "K8")
    assert values["contaminated"] == 7
    for text in (values["stamp"], done.stdout):
        assert "CONTAMINATED: 7 of 12 test images were also trained on (split rule published-aid)" in text


def test_queries_with_nothing_to_find_are_counted_and_reported(tmp_path, evaluate):
    codes = noisy_codes()
    split = [part if label else "train" for part, label in zip(codes.split, codes.labels, strict=True)]
    split[0] = "test"
    (tmp_path / "K8").mkdir()
    write_codes(tmp_path / "K8", dataclasses.replace(codes, split=split))
    done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    assert "1 queries have no other image of their class" in done.stdout
    assert results(tmp_path / "K8")["queries_left_out"] == 1
    assert results(tmp_path / "K8")["per_class"].keys() == {"beach", "mysite"}


def test_codes_without_a_run_name_their_images_and_data_set(tmp_path, evaluate):
    codes = write_run(tmp_path)
    write_images(tmp_path / "images", codes)
    write_codes(tmp_path / "K8", dataclasses.replace(codes, images_dir=str(tmp_path / "images"), dataset="mine"))
    done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=12")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "K8/hamming_out/sample_11.png").is_file()
    assert results(tmp_path / "K8")["dataset"] == "mine"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--k=12"], ["--k=12 is more than the 11 images"]),
        (["--k=7", "--archive=train"], ["--k=7 is more than the 6 images"]),
        (["--run_name=K9"], ["K9", "there are K8"]),
        (["--run_name=../K8"], ["../K8"]),
    ],
)
def test_flags_that_cannot_be_are_one_line(tmp_path, evaluate, users_mistake, flags, words):
    write_run(tmp_path)
    users_mistake(evaluate(f"--dump_dir={tmp_path}", *flags), *words)
    assert not (tmp_path / "K8/results.json").exists()


def test_runs_that_cannot_be_right_are_refused(tmp_path, evaluate, users_mistake):
    def evaluated(name):
        return evaluate(f"--dump_dir={tmp_path}", "--interval=0", "--k=3", f"--run_name={name}")

    write_run(tmp_path, "half", run={"done": False})
    users_mistake(evaluated("half"), "not trained to the end", "trainer.py")
    write_run(tmp_path, "changed", run={"files": {"codes.npz": "00"}})
    users_mistake(evaluated("changed"), "codes.npz is missing or does not match")
    write_run(tmp_path, "damaged")
    whole = (tmp_path / "damaged/codes.npz").read_bytes()
    (tmp_path / "damaged/codes.npz").write_bytes(whole[:-40])
    users_mistake(evaluated("damaged"), "codes.npz is damaged", "trainer.py")
    users_mistake(evaluate(f"--dump_dir={tmp_path / 'empty'}"), "no finished training run", "trainer.py")


def test_missing_images_are_reported_after_the_figures_are_written(tmp_path, evaluate, users_mistake):
    codes = write_run(tmp_path, run={"images_dir": str(tmp_path / "images")})
    flags = [f"--dump_dir={tmp_path}", "--k=3", "--interval=2"]
    users_mistake(evaluate(*flags), "no pictures", str(tmp_path / "images"), "--images_dir")
    assert results(tmp_path / "K8")["k"] == 3
    write_images(tmp_path / "images", codes)
    shutil.rmtree(tmp_path / "images/beach")
    users_mistake(evaluate(*flags), "no pictures", "beach")


def test_a_report_stands_beside_the_results_even_without_images(tmp_path, evaluate):
    codes = write_run(tmp_path, run={"images_dir": str(tmp_path / "images")})
    (tmp_path / "K8/history.csv").write_text(
        "iteration,total,active,validation\n100,0.2,1,\n200,0.1,0.5,0.8\n300,0.1,0.5,0.9\n"
    )
    report = tmp_path / "K8/report.html"
    assert evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=2").returncode == 2
    assert "No pictures were drawn" in report.read_text()
    write_images(tmp_path / "images", codes)
    assert evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=2").returncode == 0
    text = report.read_text()
    assert text.count("<img") == 6
    lines = list(csv.DictReader(io.StringIO((tmp_path / "K8/results.csv").read_text())))
    for index, right in re.findall(r"query (\d+)</span>.*?(\d) of 3 right", text):
        assert lines[int(index)]["right"] == right
    for picture, width, height in re.findall(r'src="([^"]+)".*?width="(\d+)" height="(\d+)"', text):
        with Image.open(tmp_path / "K8" / picture) as image:
            assert image.size == (int(width), int(height))
    assert all((tmp_path / "K8" / source).is_file() for source in re.findall(r'src="([^"]+)"', text))
    assert "Share of active triplets" in text
    assert ">validation</h3>" in text


def test_every_query_is_a_line_of_results_csv(tmp_path, evaluate):
    codes = write_run(tmp_path)
    evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "K8/results.csv").read_text())))
    assert [line["index"] for line in lines] == [str(index) for index in range(12)]
    assert lines[4]["path"] == "beach/08.png"
    mean = np.mean([float(line["AP@3"]) for line in lines])
    assert mean == pytest.approx(results(tmp_path / "K8")["mAP@3"], abs=1e-6)
    right = [int(line["right"]) for line in lines]
    assert np.mean(right) / 3 == pytest.approx(results(tmp_path / "K8")["P@3"])
    for line, count in zip(lines, right, strict=True):
        assert (count == 3) == (line["nearest_wrong"] == "")
        assert not line["nearest_wrong"].startswith(line["class"])
    # The first query, by hand: the third nearest of the other test images.
    bits = unpack(codes.codes, 8)[[part == "test" for part in codes.split]]
    assert int(lines[0]["farthest"]) == sorted((bits[1:] != bits[0]).sum(axis=1))[2]


def test_features_activations_and_codes_are_compared(tmp_path, evaluate):
    codes = noisy_codes()
    write_features(tmp_path, features_of_codes(codes, np.arange(len(codes.paths))[::-1]))
    digest = files.sha256_of(tmp_path / "features.npz")
    write_run(tmp_path, run={"features_sha256": digest})
    activations = unpack(codes.codes, 8).astype(np.float32)
    files.write_npz(tmp_path / "K8/activations.npz", {"activations": activations, "paths": np.array(codes.paths)})
    done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    values = results(tmp_path / "K8")
    compared = [(row["what"], row["stored"], row["bytes_per_image"]) for row in values["costs"]]
    vectors = [("features", "8 floats", 32), ("signs", "8 bits", 1), ("activations", "8 floats", 32)]
    assert compared == [*vectors, ("codes", "8 bits", 1)]
    # The features stand in another order in their file: matched by path they rank just as the codes do.
    features, _, _, own = values["costs"]
    assert {name: features[name] for name in ("mAP@3", "mAP", "mAP@3_tie_aware", "tied_at_k")} == pytest.approx(
        {name: own[name] for name in ("mAP@3", "mAP", "mAP@3_tie_aware", "tied_at_k")}
    )
    assert own["mAP@3"] == values["mAP@3"]
    assert "8 floats" in done.stdout


def test_features_made_since_the_training_are_left_out_and_reported(tmp_path, evaluate):
    codes = write_run(tmp_path, run={"features_sha256": "00"})
    write_features(tmp_path, features_of_codes(codes))
    done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    assert done.returncode == 0, done.stderr
    assert [row["what"] for row in results(tmp_path / "K8")["costs"]] == ["codes"]
    assert "features.npz has changed since the training" in done.stdout


@pytest.mark.parametrize("name", ["activations.npz", "history.csv"])
def test_files_that_the_trainer_did_not_write_are_refused(tmp_path, evaluate, users_mistake, name):
    write_run(tmp_path, run={"files": {name: "00"}})
    (tmp_path / "K8" / name).write_bytes(b"other")
    users_mistake(evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0"), f"{name} is missing or does not match")


@pytest.mark.parametrize(
    "content", [{}, {"activations": np.zeros((18, 7), np.float32)}, {"activations": np.zeros((18, 8))}]
)
def test_activations_of_another_shape_are_left_out_and_reported(tmp_path, evaluate, content):
    codes = write_run(tmp_path)
    files.write_npz(tmp_path / "K8/activations.npz", {"paths": np.array(codes.paths), **content})
    done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    assert done.returncode == 0, done.stderr
    assert "activations.npz does not hold 8 float32" in done.stdout


def test_features_that_lack_images_are_left_out_and_reported(tmp_path, evaluate):
    codes = write_run(tmp_path)
    write_features(tmp_path, features_of_codes(codes, np.arange(1, len(codes.paths))))
    done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    assert "lacks 1 of the images, first airplane/00.png" in done.stdout


def test_the_advice_of_every_refusal_gets_further(tmp_path, evaluate, users_mistake):
    codes = write_run(tmp_path, run={"images_dir": str(tmp_path / "gone")})
    write_images(tmp_path / "moved", codes)
    flags = [f"--dump_dir={tmp_path}", "--k=3"]
    users_mistake(evaluate(*flags), "give the folder of the class folders with --images_dir, or --interval=0")
    for advised in (f"--images_dir={tmp_path / 'moved'}", "--interval=0"):
        assert evaluate(*flags, advised).returncode == 0
    write_run(tmp_path, "K8_seed1", seed=1)
    users_mistake(evaluate(*flags), "K8, K8_seed1", "choose one with --run_name, or see all by --table")
    assert evaluate(*flags, "--run_name=K8_seed1", "--interval=0").returncode == 0
    assert evaluate(*flags, "--table").returncode == 0
