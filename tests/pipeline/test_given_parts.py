"""A tree `train/<class>` + `test/<class>` through the four commands."""

import json
import shutil

from mhcln.storage import formats


def test_a_data_set_that_comes_split_goes_through_the_four_commands(pipeline, tmp_path, run_script, users_mistake):
    root, dump = tmp_path / "parts", f"--dump_dir={tmp_path / 'dump'}"
    for folder in (pipeline / "images").iterdir():
        for place, image in enumerate(sorted(folder.iterdir())):
            part = root / ("test" if place < 4 else "train") / folder.name
            part.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, part / f"{place % 4}{place}.tif")
    for leftover in ("__MACOSX/train/beach", "lost+found", "train/empty"):
        (root / leftover).mkdir(parents=True)
    made = run_script("extract_features.py", f"--model_dir={pipeline / 'model'}", f"--images_dir={root}", dump)
    assert made.returncode == 0, made.stderr
    assert "comes with a split, which dataset_generator.py takes with --rule=folders: test 16, train 24" in made.stderr
    split = run_script("dataset_generator.py", "--rule=folders", dump)  # as advised
    assert split.returncode == 0, split.stderr
    assert "24 training and 16 test images of 4 classes, folders" in split.stdout
    for script, *flags in (
        ("trainer.py", "--HASH_BITS=8", "--ITERS=30", "--BATCH_SIZE=6"),
        ("eval.py", "--k=3", "--interval=8"),
    ):
        done = run_script(script, *flags, dump)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    codes = formats.read_codes(tmp_path / "dump" / "K8")
    sides = {(path.split("/")[0], side) for path, side in zip(codes.paths, codes.split, strict=True)}
    assert sides == {("train", "train"), ("test", "test")}
    results = json.loads((tmp_path / "dump" / "K8" / "results.json").read_text(encoding="utf-8"))
    assert (results["split_rule"], results["queries"], results["contaminated"]) == ("folders", 16, 0)
    assert len(list((tmp_path / "dump" / "K8" / "hamming_out").iterdir())) == 2
    drawn = run_script("dataset_generator.py", "--rule=folders", "--seed=1", dump)
    users_mistake(drawn, "--rule=folders takes the split that is there; leave --train_test_split and --seed out")
