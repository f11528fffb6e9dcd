"""`eval.py` as a user runs it: what it writes, what it says, what it refuses."""

import csv
import dataclasses
import io
import json
import re
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mhcln import artifacts, assessment, datasets, files, hamming
from mhcln.artifacts import Codes, Features
from mhcln.errors import UserError

HOUSE = Path(__file__).resolve().parent.parent
CLASSES = ["airplane", "beach", "mysite"]


@pytest.fixture
def evaluate(monkeypatch, capsys):
    """`eval.py` in this process, from the flags to the exit status: a start of Python for each test takes long."""

    def run(*flags: object) -> subprocess.CompletedProcess:
        monkeypatch.setattr(sys, "argv", ["eval.py", *map(str, flags)])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(HOUSE / "eval.py"), run_name="__main__")
        told = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, left.value.code, told.out, told.err)

    before = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, before)


def made_codes(bits=8, per_class=6, seed=0, train=2) -> Codes:
    """Three classes, noisy class codes, the first `train` images of each class for training."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3, dtype=np.int32), per_class)
    centres = random.integers(0, 2, (3, bits))
    codes = centres[labels] ^ (random.random((len(labels), bits)) < 0.2)
    split = ["train" if row % per_class < train else "test" for row in range(len(labels))]
    paths = [f"{CLASSES[label]}/{row:02}.png" for row, label in enumerate(labels)]
    return Codes(hamming.pack(codes), bits, labels, paths, split, CLASSES)


def made_run(dump_dir, name="K8", run=None, **choices) -> Codes:
    folder = dump_dir / name
    folder.mkdir(parents=True)
    codes = made_codes(**choices)
    artifacts.write_codes(folder, codes)
    if run is not None:
        base = {"dataset": "mine", "bits": codes.bits, "loss": "mhcln", "contaminated": 0, "done": True}
        artifacts.write_run(folder, {**base, **run})
    return codes


def made_images(folder, codes: Codes) -> None:
    for path, label in zip(codes.paths, codes.labels, strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), ("red", "lime", "blue")[label]).save(folder / path)


def results(folder) -> dict:
    return artifacts.read_results(folder)


def test_the_published_codes_give_the_published_figure(tmp_path, shared, run_script):
    golden = np.load(shared / "golden/published_code_ucmd_k32.npz")
    labels = golden["test_labels"].astype(np.int32)
    paths = [f"{label}/{row}.tif" for row, label in enumerate(labels)]
    names = [str(label) for label in range(21)]
    (tmp_path / "K32").mkdir()
    codes = Codes(hamming.pack(golden["test_embeddings"]), 32, labels, paths, ["test"] * 840, names)
    artifacts.write_codes(tmp_path / "K32", codes)
    done = run_script("eval.py", "--dump_dir", tmp_path, "--k=20", "--interval=10")
    assert done.returncode == 0, done.stderr
    values = results(tmp_path / "K32")
    assert values["mAP@20"] == pytest.approx(float(golden["map20"]), abs=1e-9)
    assert values["mAP@20"] == pytest.approx(0.9412490361311401, abs=1e-9)
    assert values["mAP@20_worst"] < values["mAP@20"] < values["mAP@20_best"]
    assert values["distinct_codes"] == len(np.unique(golden["test_embeddings"], axis=0))
    assert "nothing tells where the images are" in done.stderr


def test_says_where_pictures_and_report_are_and_why_there_are_none(tmp_path, evaluate):
    made_images(tmp_path / "images", made_run(tmp_path))
    flags = [f"--dump_dir={tmp_path}", "--k=3"]
    done = evaluate(*flags, "--interval=3", f"--images_dir={tmp_path / 'images'}")
    assert f"4 pictures: {tmp_path / 'K8/hamming_out'}" in done.stdout
    assert f"report: {tmp_path / 'K8/report.html'}" in done.stdout
    assert "4 pictures of an earlier evaluation removed" in evaluate(*flags, "--interval=0").stdout
    without = evaluate(*flags, "--interval=3")
    assert without.returncode == 0
    assert "nothing tells where the images are" in without.stderr


def test_nothing_of_an_earlier_evaluation_stands_beside_new_results(tmp_path, evaluate, monkeypatch):
    made_run(tmp_path)
    flags = [f"--dump_dir={tmp_path}", "--interval=0"]
    evaluate(*flags, "--k=3")

    def stopped(*_values):
        raise UserError("stopped here")

    monkeypatch.setattr(assessment, "_each_query", stopped)
    assert evaluate(*flags, "--k=4").returncode == 2
    assert results(tmp_path / "K8")["k"] == 4
    assert not (tmp_path / "K8/report.html").exists()
    assert not (tmp_path / "K8/results.csv").exists()


def test_a_known_data_set_is_recognised_by_its_class_names(tmp_path, evaluate):
    known = datasets.known()["UCMD"]
    codes = made_codes()
    (tmp_path / "K8").mkdir()
    artifacts.write_codes(tmp_path / "K8", dataclasses.replace(codes, class_names=list(known.class_names)))
    assert evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0").returncode == 0
    assert results(tmp_path / "K8")["dataset"] == "UCMD"
    assert "Baseball Diamond" in (tmp_path / "K8/report.html").read_text()


def test_writes_results_with_their_setup_and_pictures(tmp_path, evaluate):
    images = tmp_path / "my images"
    run = {"images_dir": str(images), "seed": 3, "split_rule": "stratified", "seconds": 4.5, "extractor": "x"}
    codes = made_run(tmp_path, run=run)
    made_images(images, codes)
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


def test_pictures_of_two_evaluations_never_mix(tmp_path, evaluate):
    codes = made_run(tmp_path)
    made_images(tmp_path / "images", codes)
    flags = [f"--dump_dir={tmp_path}", "--k=3", f"--images_dir={tmp_path / 'images'}"]
    folder = tmp_path / "K8/hamming_out"
    assert evaluate(*flags, "--interval=2").returncode == 0
    assert len(list(folder.iterdir())) == 6
    assert evaluate(*flags, "--interval=5").returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == ["sample_4.png", "sample_9.png"]
    assert evaluate(*flags, "--interval=0").returncode == 0
    assert not list(folder.iterdir())


def test_what_is_searched_is_a_choice(tmp_path, evaluate):
    made_run(tmp_path)
    for archive, searched in (("test", 11), ("train", 6), ("all", 17)):
        done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0", f"--archive={archive}")
        assert done.returncode == 0, done.stderr
        values = results(tmp_path / "K8")
        assert (values["archive"], values["searched"]) == (archive, searched)


def test_contaminated_results_say_so_everywhere(tmp_path, evaluate):
    made_run(tmp_path, run={"contaminated": 7, "split_rule": "published-aid"})
    done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    values = results(tmp_path / "K8")
    assert values["contaminated"] == 7
    for text in (values["stamp"], done.stdout):
        assert "CONTAMINATED: 7 of 12 test images were also trained on (split rule published-aid)" in text


def test_singletons_are_counted_and_said(tmp_path, evaluate):
    codes = made_codes()
    split = [part if label else "train" for part, label in zip(codes.split, codes.labels, strict=True)]
    split[0] = "test"
    (tmp_path / "K8").mkdir()
    artifacts.write_codes(tmp_path / "K8", Codes(**{**vars(codes), "split": split}))
    done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    assert "1 queries have no other image of their class" in done.stdout
    assert results(tmp_path / "K8")["queries_left_out"] == 1
    assert results(tmp_path / "K8")["per_class"].keys() == {"beach", "mysite"}


def test_finds_the_images_and_names_of_codes_without_a_run(tmp_path, evaluate):
    codes = made_run(tmp_path)
    made_images(tmp_path / "images", codes)
    vectors = np.zeros((len(codes.paths), 4), np.float32)
    images = str(tmp_path / "images")
    artifacts.write_features(tmp_path, Features(vectors, codes.labels, codes.paths, CLASSES, "mine", images, "x"))
    done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=12")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "K8/hamming_out/sample_11.png").is_file()
    assert results(tmp_path / "K8")["dataset"] == "mine"


def test_asks_which_run(tmp_path, evaluate, users_mistake):
    for name in ("K8", "K8_seed1"):
        made_run(tmp_path, name)
    flags = [f"--dump_dir={tmp_path}", "--k=3", "--interval=0"]
    users_mistake(evaluate(*flags), "K8, K8_seed1", "--run_name")
    assert evaluate(*flags, "--run_name=K8_seed1").returncode == 0
    assert (tmp_path / "K8_seed1/results.json").is_file()
    assert not (tmp_path / "K8/results.json").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--k=0"], ["--k", "whole number"]),
        (["--k=12"], ["--k=12 is more than the 11 images"]),
        (["--k=7", "--archive=train"], ["--k=7 is more than the 6 images"]),
        (["--interval=-1"], ["--interval"]),
        (["--archive=everything"], ["--archive"]),
        (["--run_name=K9"], ["K9", "there are K8"]),
        (["--run_name=../K8"], ["../K8"]),
        (["--images_dir=nowhere"], ["nowhere", "--images_dir"]),
    ],
)
def test_refuses(tmp_path, evaluate, users_mistake, flags, words):
    made_run(tmp_path)
    users_mistake(evaluate(f"--dump_dir={tmp_path}", *flags), *words)
    assert not (tmp_path / "K8/results.json").exists()


def test_refuses_runs_that_cannot_be_right(tmp_path, evaluate, users_mistake):
    def evaluated(name):
        return evaluate(f"--dump_dir={tmp_path}", "--interval=0", "--k=3", f"--run_name={name}")

    made_run(tmp_path, "half", run={"done": False})
    users_mistake(evaluated("half"), "not trained to the end", "trainer.py")
    made_run(tmp_path, "other_bits", run={"bits": 16})
    users_mistake(evaluated("other_bits"), "8 bits", "16")
    made_run(tmp_path, "changed", run={"files": {"codes.npz": "00"}})
    users_mistake(evaluated("changed"), "codes.npz is not the one")
    made_run(tmp_path, "damaged")
    whole = (tmp_path / "damaged/codes.npz").read_bytes()
    (tmp_path / "damaged/codes.npz").write_bytes(whole[:-40])
    users_mistake(evaluated("damaged"), "codes.npz is damaged", "trainer.py")
    users_mistake(evaluate(f"--dump_dir={tmp_path / 'empty'}"), "no finished training run", "trainer.py")


def test_missing_images_are_told_after_the_figures_are_written(tmp_path, evaluate, users_mistake):
    codes = made_run(tmp_path, run={"images_dir": str(tmp_path / "images")})
    flags = [f"--dump_dir={tmp_path}", "--k=3", "--interval=2"]
    users_mistake(evaluate(*flags), "no pictures", str(tmp_path / "images"), "--images_dir")
    assert results(tmp_path / "K8")["k"] == 3
    made_images(tmp_path / "images", codes)
    shutil.rmtree(tmp_path / "images/beach")
    users_mistake(evaluate(*flags), "no pictures", "beach")


def test_a_report_stands_beside_the_results_even_without_images(tmp_path, evaluate):
    codes = made_run(tmp_path, run={"images_dir": str(tmp_path / "images")})
    (tmp_path / "K8/history.csv").write_text(
        "iteration,total,active,validation\n100,0.2,1,\n200,0.1,0.5,0.8\n300,0.1,0.5,0.9\n"
    )
    report = tmp_path / "K8/report.html"
    assert evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=2").returncode == 2
    assert "No pictures were drawn" in report.read_text()
    made_images(tmp_path / "images", codes)
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


def test_a_damaged_history_is_told(tmp_path, evaluate, users_mistake):
    made_run(tmp_path)
    (tmp_path / "K8/history.csv").write_text("iteration,total\n100,zero\n")
    users_mistake(evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0"), "history.csv", "trainer.py")


def test_every_query_is_a_line_of_results_csv(tmp_path, evaluate):
    codes = made_run(tmp_path)
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
    bits = hamming.unpack(codes.codes, 8)[[part == "test" for part in codes.split]]
    assert int(lines[0]["farthest"]) == sorted((bits[1:] != bits[0]).sum(axis=1))[2]


def made_features(dump_dir, codes: Codes, order=None) -> None:
    """Features whose cosines rank as the codes do: +1 and -1 for each bit."""
    vectors = hamming.unpack(codes.codes, codes.bits).astype(np.float32) * 2 - 1
    rows = np.arange(len(codes.paths)) if order is None else order
    paths = [codes.paths[row] for row in rows]
    features = Features(vectors[rows], codes.labels[rows], paths, CLASSES, "mine", "nowhere", "x")
    artifacts.write_features(dump_dir, features)


def test_what_hashing_costs(tmp_path, evaluate):
    codes = made_codes()
    made_features(tmp_path, codes, order=np.arange(len(codes.paths))[::-1])
    digest = files.sha256_of(tmp_path / "features.npz")
    made_run(tmp_path, run={"features_sha256": digest})
    activations = hamming.unpack(codes.codes, 8).astype(np.float32)
    files.write_npz(tmp_path / "K8/activations.npz", {"activations": activations, "paths": np.array(codes.paths)})
    done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    values = results(tmp_path / "K8")
    told = [(row["what"], row["stored"], row["bytes_per_image"]) for row in values["costs"]]
    assert told == [("features", "8 floats", 32), ("activations", "8 floats", 32), ("codes", "8 bits", 1)]
    # The features stand in another order in their file: matched by path they rank just as the codes do.
    features, _, own = values["costs"]
    assert {name: features[name] for name in ("mAP@3", "mAP", "mAP@3_tie_aware", "tied_at_k")} == pytest.approx(
        {name: own[name] for name in ("mAP@3", "mAP", "mAP@3_tie_aware", "tied_at_k")}
    )
    assert own["mAP@3"] == values["mAP@3"]
    assert "8 floats" in done.stdout


def test_features_made_since_the_training_are_left_out_and_said(tmp_path, evaluate):
    codes = made_run(tmp_path, run={"features_sha256": "00"})
    made_features(tmp_path, codes)
    done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    assert done.returncode == 0, done.stderr
    assert [row["what"] for row in results(tmp_path / "K8")["costs"]] == ["codes"]
    assert "features.npz has changed since the training" in done.stdout


@pytest.mark.parametrize("name", ["activations.npz", "history.csv"])
def test_files_that_the_trainer_did_not_write_are_refused(tmp_path, evaluate, users_mistake, name):
    made_run(tmp_path, run={"files": {name: "00"}})
    (tmp_path / "K8" / name).write_bytes(b"other")
    users_mistake(evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0"), f"{name} is not the one that run.json")


@pytest.mark.parametrize(
    "content", [{}, {"activations": np.zeros((18, 7), np.float32)}, {"activations": np.zeros((18, 8))}]
)
def test_activations_of_another_shape_are_left_out_and_said(tmp_path, evaluate, content):
    codes = made_run(tmp_path)
    files.write_npz(tmp_path / "K8/activations.npz", {"paths": np.array(codes.paths), **content})
    done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    assert done.returncode == 0, done.stderr
    assert "activations.npz does not hold 8 float32" in done.stdout


def test_bits_that_fill_no_whole_byte_cost_the_next_one(tmp_path, evaluate):
    made_run(tmp_path, bits=10)
    evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    assert [row["bytes_per_image"] for row in results(tmp_path / "K8")["costs"]] == [2]


def test_features_that_lack_images_are_left_out_and_said(tmp_path, evaluate):
    codes = made_run(tmp_path)
    made_features(tmp_path, codes, order=np.arange(1, len(codes.paths)))
    done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    assert "lacks 1 of the images, first airplane/00.png" in done.stdout


def test_the_table_over_all_runs(tmp_path, evaluate):
    for seed in (0, 1):
        made_run(tmp_path, f"K8_seed{seed}", seed=seed, run={"seed": seed, "iterations": 5, "dataset": "UCMD"})
    made_run(tmp_path, "leaky", seed=2, run={"contaminated": 5, "dataset": "UCMD"})
    made_run(tmp_path, "copy", seed=0, run={"seed": 0, "iterations": 5, "dataset": "UCMD"})
    made_run(tmp_path, "half", seed=3, run={"done": False})
    flags = [f"--dump_dir={tmp_path}", "--k=5", "--table"]
    done = evaluate(*flags)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "table.md").read_text().strip() in done.stdout
    lines = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    counts = {(line["split"], line["count"]) for line in lines if line["metric"] == "mAP@5"}
    assert counts == {("clean", "2"), ("CONTAMINATED", "1")}
    assert "copy has the very codes of K8_seed0" in done.stderr
    assert "half is not trained to the end" in done.stderr
    assert f"written to {tmp_path / 'table.md'} and {tmp_path / 'table.csv'}" in done.stdout
    # Without results there are none afterwards: the table writes nothing into the runs.
    assert not list(tmp_path.glob("*/results.json"))


def test_the_table_keeps_each_data_set_together(tmp_path, evaluate):
    for name, dataset in (("a", "AID"), ("b", "UCMD")):
        made_run(tmp_path, name, seed=len(name + dataset), per_class=12, run={"dataset": dataset})
    evaluate(f"--dump_dir={tmp_path}", "--table")
    order = [line["dataset"] for line in csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text()))]
    assert order == sorted(order)
    assert {"AID", "UCMD"} == set(order)


def test_the_table_holds_the_published_figures_at_their_cut_off_only(tmp_path, evaluate):
    made_run(tmp_path, run={"dataset": "UCMD"}, per_class=12)
    assert "as published" in evaluate(f"--dump_dir={tmp_path}", "--table").stdout
    assert "as published" not in evaluate(f"--dump_dir={tmp_path}", "--table", "--k=5").stdout


def test_the_table_takes_results_that_answer_the_same_question(tmp_path, evaluate):
    made_run(tmp_path, run={"dataset": "mine"})
    flags = [f"--dump_dir={tmp_path}", "--k=5"]
    evaluate(*flags, "--interval=0")
    content = results(tmp_path / "K8")
    marked = {**content, "mAP@5": 0.123456}
    artifacts.write_results(tmp_path / "K8", marked)
    assert "0.1235 (1)" in evaluate(*flags, "--table").stdout
    for change in ({"codes_sha256": "00"}, {"archive": "all"}, {"k": 3}, {"seed": 9}):
        artifacts.write_results(tmp_path / "K8", {**marked, **change})
        assert f"{content['mAP@5']:.4f} (1)" in evaluate(*flags, "--table").stdout


def test_the_table_refuses(tmp_path, evaluate, users_mistake):
    flags = [f"--dump_dir={tmp_path}", "--table"]
    users_mistake(evaluate(*flags), "no finished training run")
    made_run(tmp_path)
    users_mistake(evaluate(*flags, "--run_name=K8"), "--run_name")
    users_mistake(evaluate(*flags, "--k=12"), "K8", "--k=12")
    files.write_json(tmp_path / "K8/results.json", {"mAP@20": 0.5, "format": 0})
    users_mistake(evaluate(*flags, "--k=3"), "results.json", "another format", "eval.py")
    assert not (tmp_path / "table.md").exists()


def test_needs_no_tensorflow(tmp_path, run_script, monkeypatch):
    made_run(tmp_path, run={"images_dir": "nowhere"})
    (tmp_path / "traps").mkdir()
    for name in ("tensorflow", "keras"):
        (tmp_path / f"traps/{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "traps"))
    assert run_script("eval.py", f"--dump_dir={tmp_path}", "--k=3", "--interval=0").returncode == 0


def test_results_are_plain_json(tmp_path, evaluate):
    made_run(tmp_path)
    evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    content = json.loads((tmp_path / "K8/results.json").read_text())
    assert content["format"] == artifacts.FORMAT
    assert sys.float_info.max > content["mAP@3"] > 0
