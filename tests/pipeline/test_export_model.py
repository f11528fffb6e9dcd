"""`eval.py --export=folder`: a SavedModel that a process with TensorFlow alone turns images into codes with."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPO_ROOT, run_here
from factories import draw_images, separable_features, write_run
from graphs import WIDTH
from PIL import Image

from mhcln.backbone.batches import extract
from mhcln.console import Quiet, UserError
from mhcln.data.splits import stratified_split
from mhcln.pipeline.export_model import next_version, serving_function
from mhcln.pipeline.hasher import Hasher, fit
from mhcln.quiet_tensorflow import tf
from mhcln.storage import layout, runs
from mhcln.storage.coded_images import read_codes
from mhcln.storage.files import read_npz, sha256_of
from mhcln.storage.run_record import TrainConfig
from mhcln.storage.text_files import read_json
from mhcln.training.methods import METHODS
from mhcln.training.trained import read_network

# what a colleague writes who has TensorFlow and the exported folder, nothing of this package
BARE = """
import sys, numpy as np, tensorflow as tf
model, result = sys.argv[1:]
paths = sys.stdin.read().splitlines()
serve = tf.saved_model.load(model).signatures["serving_default"]
contents = [open(path, "rb").read() for path in paths]
found = [serve(images=tf.constant(contents[first:first + 32])) for first in range(0, len(contents), 32)]
assert not [name for name in sys.modules if name.startswith("mhcln")]
np.savez(result, **{name: np.concatenate([part[name] for part in found]) for name in ("codes", "activations")})
"""
README = (REPO_ROOT / "mhcln" / "README.md").read_text(encoding="utf-8")


def served(model: Path, paths: list[Path], folder: Path) -> dict[str, np.ndarray]:
    """What a SavedModel makes of image files in a process of its own, isolated from this repository."""
    command = [sys.executable, "-I", "-c", BARE, model, folder / "served.npz"]
    subprocess.run(command, input="\n".join(map(str, paths)), cwd=folder, check=True, capture_output=True, text=True)
    with np.load(folder / "served.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def exported(pipeline, tmp_path_factory) -> Path:
    """Version 1 of the model of the tests' run."""
    folder = tmp_path_factory.mktemp("exported") / "served"
    console = run_here("eval.py", f"--dump_dir={pipeline / 'dump'}", f"--export={folder}")
    assert (console.said, console.warned) == ([f"K12, encoded images to codes of 12 bits: {folder / '1'}"], [])
    return folder / "1"


def test_a_process_without_this_package_gets_the_codes_of_the_pipeline(exported, pipeline, tmp_path):
    """Of JPEG and PNG files, and of TIFFs that the line of the README turned into JPEG."""
    paths = [path for path in draw_images(tmp_path, 9) if path.suffix != ".tif"]
    line = re.search(r'^Image\.open\("photo\.tif"\).*$', README, re.MULTILINE)[0]
    codes = read_codes(pipeline / "dump" / "K12")
    jpegs = [tmp_path / f"{number}.jpg" for number in range(8)]
    for path, jpeg in zip(codes.paths, jpegs, strict=False):
        named = line.replace("photo.tif", str(pipeline / "images" / path)).replace("photo.jpg", str(jpeg))
        exec(named, {"Image": Image})
    found = served(exported, [*paths, *jpegs], tmp_path)
    hasher = Hasher.load(pipeline / "dump" / "K12")
    np.testing.assert_array_equal(found["codes"], np.concatenate([hasher.encode_images(paths), codes.codes[:8]]))
    vectors, _ = extract(paths, hasher.open_backbone(), Quiet())
    np.testing.assert_allclose(found["activations"][: len(paths)], hasher.activations(vectors), atol=1e-6)


def test_where_the_model_comes_from_stands_beside_it(exported, pipeline):
    run = runs.read_run(pipeline / "dump" / "K12")
    origin = read_json(exported / "assets.extra" / "model.json", "x")
    assert origin == {
        **{"run": "K12", "dataset": run.inputs.dataset, "class_names": run.codes.class_names, "bits": 12},
        **{"loss": "mhcln", "extractor": run.inputs.extractor, "tensorflow": tf.__version__},
        "model_sha256": sha256_of(run.folder / layout.MODEL),
        "codes_sha256": sha256_of(run.folder / layout.CODES),
    }


def test_a_second_export_is_the_next_version_and_leaves_the_first_alone(exported, pipeline, tmp_path, evaluate):
    shutil.copytree(exported, tmp_path / "9")
    (tmp_path / ".mhcln.part.10").mkdir()  # of an export that was killed
    (tmp_path / ".mhcln.part.10" / "saved_model.pb").touch()
    before = {path: path.read_bytes() for path in (tmp_path / "9").rglob("*") if path.is_file()}
    result = evaluate(f"--dump_dir={pipeline / 'dump'}", f"--export={tmp_path}")
    assert (result.returncode, result.stderr) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {".mhcln.lock", "9", "10"}
    assert {path: path.read_bytes() for path in (tmp_path / "9").rglob("*") if path.is_file()} == before
    assert (tmp_path / "10" / "saved_model.pb").is_file()


@pytest.mark.parametrize("loss", METHODS)
def test_the_network_of_every_loss_is_exported(loss, backbone, tmp_path):
    """Trained, saved, read and packed as a run's is; on features of the width of the small backbone."""
    features = separable_features(width=WIDTH)
    split = stratified_split(features.images.paths, features.images.labels, 0.6, 0)
    bits = WIDTH if loss == "sign" else 10
    config = TrainConfig(loss=loss, bits=bits, iterations=20, batch_size=30)
    fit(features, split, config).network.save(tmp_path / layout.MODEL)
    hasher = Hasher(read_network(tmp_path / layout.MODEL, loss, WIDTH, bits), backbone.extractor)
    paths = [path for path in draw_images(tmp_path, 12) if path.suffix == ".jpg"]
    found = serving_function(backbone, hasher)(tf.constant([path.read_bytes() for path in paths]))
    vectors, _ = extract(paths, backbone, Quiet())
    np.testing.assert_allclose(found["activations"].numpy(), hasher.activations(vectors), atol=1e-6)
    np.testing.assert_array_equal(found["codes"].numpy(), hasher.encode(vectors))
    assert found["codes"].dtype == tf.uint8


def test_a_network_of_another_width_than_the_backbone_is_refused(backbone):
    features = separable_features(width=WIDTH + 1)
    split = stratified_split(features.images.paths, features.images.labels, 0.6, 0)
    hasher = fit(features, split, TrainConfig(bits=8, loss="lsh", alpha=0.0, batch_size=0, iterations=0))
    with pytest.raises(UserError, match="gives features of width 12, the model takes 13"):
        serving_function(backbone, hasher)


def test_what_is_no_folder_of_versions_is_left_alone(tmp_path):
    assert next_version(tmp_path / "new") == 1
    for name in ("2", "11", ".mhcln.lock"):
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == 12
    (tmp_path / "K12").mkdir()
    with pytest.raises(UserError, match="holds K12, which is no version of a model; choose another folder"):
        next_version(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file is a file; give a folder, or .* ends in \.faiss"):
        next_version(tmp_path / "file")


def test_export_of_what_has_no_backbone_is_refused(tmp_path, evaluate, users_mistake):
    write_run(tmp_path / "dump", run={})
    flags = (f"--dump_dir={tmp_path / 'dump'}", f"--export={tmp_path / 'served'}")
    users_mistake(evaluate(*flags), "K8 holds no model.keras of its run.json")
    assert not (tmp_path / "served").exists()


def test_how_rasters_were_read_is_said(pipeline, tmp_path, evaluate):
    dump = tmp_path / "dump"
    shutil.copytree(pipeline / "dump" / "K12", dump / "K12")
    record = runs.read_record(dump / "K12")
    inputs = {**vars(record.inputs), "extractor": f"{record.inputs.extractor}; bands=3,2,1; range=0,3000"}
    runs.write_record(dump / "K12", type(record)(type(record.inputs)(**inputs), record.config, record.outcome))
    result = evaluate(f"--dump_dir={dump}", f"--model_dir={pipeline / 'model'}", f"--export={tmp_path / 'served'}")
    how = "bands=3,2,1; range=0,3000; the exported model cannot: give it pictures of 8 bits made so"
    assert (result.returncode, result.stderr) == (0, f"warning: rasters were read with {how}\n")


def test_real_images_have_the_codes_of_the_pipeline(shared, tmp_path):
    images = tmp_path / "images"
    for folder in sorted((shared / "data" / "UCMD").iterdir())[:4]:
        (images / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[:3]:
            (images / folder.name / path.name).symlink_to(path)
    dump = f"--dump_dir={tmp_path / 'dump'}"
    for script, *flags in (
        ("extract_features.py", f"--model_dir={shared / 'models'}", f"--images_dir={images}"),
        ("dataset_generator.py", "--train_test_split=0.6"),
        ("trainer.py", "--HASH_BITS=32", "--BATCH_SIZE=6", "--ITERS=50"),
        ("eval.py", f"--export={tmp_path / 'served'}"),
    ):
        run_here(script, *flags, dump)
    codes = read_codes(tmp_path / "dump" / "K32")
    assert len(codes.paths) == 12
    serve = tf.saved_model.load(tmp_path / "served" / "1").signatures["serving_default"]
    found = serve(images=tf.constant([(images / path).read_bytes() for path in codes.paths]))
    np.testing.assert_array_equal(found["codes"], codes.codes)
    stored = read_npz(tmp_path / "dump" / "K32" / "activations.npz", "")["activations"]
    np.testing.assert_allclose(found["activations"], stored, atol=1e-5)
