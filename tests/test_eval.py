"""`eval.py` as a user runs it: what it writes, what it says, what it refuses."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from mhcln import artifacts, hamming
from mhcln.artifacts import Codes, Features

CLASSES = ["airplane", "beach", "mysite"]


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


def test_writes_results_with_their_setup_and_pictures(tmp_path, run_script):
    images = tmp_path / "my images"
    run = {"images_dir": str(images), "seed": 3, "split_rule": "stratified", "seconds": 4.5, "extractor": "x"}
    codes = made_run(tmp_path, run=run)
    made_images(images, codes)
    done = run_script("eval.py", f"--dump_dir={tmp_path}", "--k=7", "--interval=5")
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


def test_pictures_of_two_evaluations_never_mix(tmp_path, run_script):
    codes = made_run(tmp_path)
    made_images(tmp_path / "images", codes)
    flags = [f"--dump_dir={tmp_path}", "--k=3", f"--images_dir={tmp_path / 'images'}"]
    folder = tmp_path / "K8/hamming_out"
    assert run_script("eval.py", *flags, "--interval=2").returncode == 0
    assert len(list(folder.iterdir())) == 6
    assert run_script("eval.py", *flags, "--interval=5").returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == ["sample_4.png", "sample_9.png"]
    assert run_script("eval.py", *flags, "--interval=0").returncode == 0
    assert not list(folder.iterdir())


def test_what_is_searched_is_a_choice(tmp_path, run_script):
    made_run(tmp_path)
    for archive, searched in (("test", 11), ("train", 6), ("all", 17)):
        done = run_script("eval.py", f"--dump_dir={tmp_path}", "--k=3", "--interval=0", f"--archive={archive}")
        assert done.returncode == 0, done.stderr
        values = results(tmp_path / "K8")
        assert (values["archive"], values["searched"]) == (archive, searched)


def test_contaminated_results_say_so_everywhere(tmp_path, run_script):
    made_run(tmp_path, run={"contaminated": 7, "split_rule": "published-aid"})
    done = run_script("eval.py", f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    values = results(tmp_path / "K8")
    assert values["contaminated"] == 7
    for text in (values["stamp"], done.stdout):
        assert "CONTAMINATED: 7 of 12 test images were also trained on (split rule published-aid)" in text


def test_singletons_are_counted_and_said(tmp_path, run_script):
    codes = made_codes()
    split = [part if label else "train" for part, label in zip(codes.split, codes.labels, strict=True)]
    split[0] = "test"
    (tmp_path / "K8").mkdir()
    artifacts.write_codes(tmp_path / "K8", Codes(**{**vars(codes), "split": split}))
    done = run_script("eval.py", f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    assert "1 queries have no other image of their class" in done.stdout
    assert results(tmp_path / "K8")["queries_left_out"] == 1
    assert results(tmp_path / "K8")["per_class"].keys() == {"beach", "mysite"}


def test_finds_the_images_and_names_of_codes_without_a_run(tmp_path, run_script):
    codes = made_run(tmp_path)
    made_images(tmp_path / "images", codes)
    vectors = np.zeros((len(codes.paths), 4), np.float32)
    images = str(tmp_path / "images")
    artifacts.write_features(tmp_path, Features(vectors, codes.labels, codes.paths, CLASSES, "mine", images, "x"))
    done = run_script("eval.py", f"--dump_dir={tmp_path}", "--k=3", "--interval=12")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "K8/hamming_out/sample_11.png").is_file()
    assert results(tmp_path / "K8")["dataset"] == "mine"


def test_asks_which_run(tmp_path, run_script, users_mistake):
    for name in ("K8", "K8_seed1"):
        made_run(tmp_path, name)
    flags = [f"--dump_dir={tmp_path}", "--k=3", "--interval=0"]
    users_mistake(run_script("eval.py", *flags), "K8, K8_seed1", "--run_name")
    assert run_script("eval.py", *flags, "--run_name=K8_seed1").returncode == 0
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
def test_refuses(tmp_path, run_script, users_mistake, flags, words):
    made_run(tmp_path)
    users_mistake(run_script("eval.py", f"--dump_dir={tmp_path}", *flags), *words)
    assert not (tmp_path / "K8/results.json").exists()


def test_refuses_runs_that_cannot_be_right(tmp_path, run_script, users_mistake):
    def evaluated(name):
        return run_script("eval.py", f"--dump_dir={tmp_path}", "--interval=0", "--k=3", f"--run_name={name}")

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
    users_mistake(run_script("eval.py", f"--dump_dir={tmp_path / 'empty'}"), "no finished training run", "trainer.py")


def test_missing_images_are_told_after_the_figures_are_written(tmp_path, run_script, users_mistake):
    codes = made_run(tmp_path, run={"images_dir": str(tmp_path / "images")})
    flags = [f"--dump_dir={tmp_path}", "--k=3", "--interval=2"]
    users_mistake(run_script("eval.py", *flags), "no pictures", str(tmp_path / "images"), "--images_dir")
    assert results(tmp_path / "K8")["k"] == 3
    made_images(tmp_path / "images", codes)
    shutil.rmtree(tmp_path / "images/beach")
    users_mistake(run_script("eval.py", *flags), "no pictures", "beach")


def test_needs_no_tensorflow(tmp_path, run_script, monkeypatch):
    made_run(tmp_path, run={"images_dir": "nowhere"})
    (tmp_path / "traps").mkdir()
    for name in ("tensorflow", "keras"):
        (tmp_path / f"traps/{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "traps"))
    assert run_script("eval.py", f"--dump_dir={tmp_path}", "--k=3", "--interval=0").returncode == 0


def test_results_are_plain_json(tmp_path, run_script):
    made_run(tmp_path)
    run_script("eval.py", f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    content = json.loads((tmp_path / "K8/results.json").read_text())
    assert content["format"] == artifacts.FORMAT
    assert sys.float_info.max > content["mAP@3"] > 0
