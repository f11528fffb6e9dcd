"""Extraction: what the features file holds, what interrupts it, what is left out, and that nothing is mixed."""

import csv
import dataclasses
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import graphs
import numpy as np
import pytest
from conftest import REPO_ROOT
from factories import draw_images
from PIL import Image

from mhcln.backbone import batches
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import Terminated, UserError
from mhcln.data import folders
from mhcln.pipeline.extract import extract, extract_features
from mhcln.pipeline.extraction import ExtractOptions
from mhcln.pipeline.feature_batches import ThisProcess
from mhcln.quiet_tensorflow import keras, tf
from mhcln.storage.features import Features, read_features
from mhcln.storage.layout import PARTIAL_FEATURES as FOLDER
from mhcln.storage.partial_features import PartialFeatures
from mhcln.storage.saver import MOST_WAITING

COUNT = 11


def draw(images_dir: Path, count: int = COUNT) -> Path:
    folders_of = [images_dir / name for name in ("beach", "forest")]
    for folder in folders_of:
        folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(draw_images(images_dir, count)):
        path.rename(folders_of[number % 2] / path.name)
    return images_dir


@pytest.fixture
def images_dir(tmp_path) -> Path:
    return draw(tmp_path / "images")


@pytest.fixture(params=["processor", "GPU"])
def device(request, monkeypatch) -> None:
    """What extraction believes to run on: with a GPU, a batch starts before the one before it is fetched."""
    monkeypatch.setattr("mhcln.device.uses_gpu", lambda: request.param == "GPU")


def extracted(images_dir, backbone, dump_dir, console, batch_size=4, skip_broken=False) -> Features:
    options = ExtractOptions(images_dir, dump_dir, batch_size=batch_size, skip_broken=skip_broken)
    extract(folders.scan(images_dir), ThisProcess(backbone, console), options, console)
    return read_features(dump_dir)


def file_bytes(dump_dir: Path) -> bytes:
    return (dump_dir / "features.npz").read_bytes()


def stopping_after(backbone, calls: int, error: BaseException):
    """The backbone, but with an error at the call after so many."""
    counter = itertools.count()

    def network(images):
        if next(counter) == calls:
            raise error
        return backbone.network(images)

    return dataclasses.replace(backbone, network=network)


def test_every_image_is_extracted_in_storage_order_as_a_query_is(tmp_path, images_dir, model_dir, backbone, console):
    content = extracted(images_dir, backbone, tmp_path / "dump", console)
    scan = folders.scan(images_dir)
    assert content.images.paths == scan.paths
    assert content.images.labels.tolist() == scan.labels.tolist()
    assert content.images.class_names == ["beach", "forest"]
    assert content.images.extractor == backbone.extractor
    assert content.images.model_file == str(model_dir / "classify_image_graph_def.pb")
    assert content.images.images_dir == str(images_dir)
    vectors, _ = batches.extract([images_dir / path for path in content.images.paths], backbone, console, batch_size=5)
    assert np.abs(vectors - content.vectors).max() < 1e-5 * content.vectors.max()
    assert any("11 images of 2 classes" in line for line in console.said)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Terminated(), OSError(28, "No space left on device")])
def test_an_interrupted_run_continues_to_the_same_bytes(tmp_path, images_dir, backbone, console, error):
    extracted(images_dir, backbone, tmp_path / "whole", console)
    dump_dir = tmp_path / "dump"
    for calls in (1, 1):
        with pytest.raises(type(error)):
            extracted(images_dir, stopping_after(backbone, calls, error), dump_dir, console)
        assert not (dump_dir / "features.npz").exists()
    calls = []
    counted = dataclasses.replace(
        backbone, network=lambda images: calls.append(len(images)) or backbone.network(images)
    )
    extracted(images_dir, counted, dump_dir, console)
    assert calls == [3]
    assert "continuing an interrupted extraction: 8 of 11 images are done" in console.said
    assert file_bytes(dump_dir) == file_bytes(tmp_path / "whole")
    assert not (dump_dir / FOLDER).exists()


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_stops_after_what_was_started_is_saved(tmp_path, images_dir, backbone, console, number, error):
    computed = []

    def network(images):
        computed.append(len(images))
        if len(computed) == 2:
            os.kill(os.getpid(), number)
        return backbone.network(images)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(error):
        extracted(images_dir, dataclasses.replace(backbone, network=network), tmp_path / "dump", console, batch_size=2)
    assert signal.getsignal(signal.SIGTERM) == before
    assert computed == [2, 2]
    assert len(list((tmp_path / "dump" / FOLDER).glob("batch_*"))) == 2


@pytest.mark.usefixtures("device")
def test_a_full_disk_stops_the_run_at_once(tmp_path, images_dir, backbone, console, monkeypatch):
    draw(images_dir, 60)
    computed, save = [], PartialFeatures.save

    def full_after_three(self, batch, features, findings):
        if batch == 3:
            raise OSError(28, "No space left on device")
        save(self, batch, features, findings)

    def network(images):
        computed.append(len(images))
        time.sleep(0.02)
        return backbone.network(images)

    monkeypatch.setattr(PartialFeatures, "save", full_after_three)
    counted = dataclasses.replace(backbone, network=network)
    with pytest.raises(OSError, match="No space left"):
        extracted(images_dir, counted, tmp_path / "dump", console, batch_size=2)
    # with the device, waiting to be saved, and one for a slow thread
    assert 4 <= len(computed) <= 4 + 1 + MOST_WAITING + 1
    assert {"batch_000000.npz", "batch_000002.npz"} <= {path.name for path in (tmp_path / "dump" / FOLDER).iterdir()}


def test_the_batch_size_is_chosen_for_the_device(tmp_path, images_dir, backbone, console, monkeypatch):
    def inputs(batch_size: int | None) -> str:
        return extracted(images_dir, backbone, tmp_path / "dump", console, batch_size=batch_size).images.inputs

    on_processor = inputs(None)
    assert on_processor == inputs(32)
    monkeypatch.setattr("mhcln.device.uses_gpu", lambda: True)
    assert on_processor != inputs(None) == inputs(128)


DROPPED = "part-work of other images or settings is dropped: {} files"


def interrupted_dump(tmp_path, images_dir, backbone, console) -> Path:
    with pytest.raises(KeyboardInterrupt):
        extracted(images_dir, stopping_after(backbone, 2, KeyboardInterrupt()), tmp_path / "dump", console)
    return tmp_path / "dump"


def change_image(image: Path, _dump_dir: Path) -> None:
    Image.new("RGB", (9, 9), "red").save(image)


def rename_image(image: Path, _dump_dir: Path) -> None:
    image.rename(image.with_name("zebra.jpg"))


def damage_batch(_image: Path, dump_dir: Path) -> None:
    batch = dump_dir / FOLDER / "batch_000000.npz"
    batch.write_bytes(batch.read_bytes()[:-9])


@pytest.mark.parametrize(("change", "dropped"), [(change_image, 1), (rename_image, 2), (damage_batch, 1)])
def test_part_work_that_is_not_of_these_images_or_damaged_is_made_again(
    tmp_path, images_dir, backbone, console, change, dropped
):
    dump_dir = interrupted_dump(tmp_path, images_dir, backbone, console)
    change(images_dir / folders.scan(images_dir).paths[0], dump_dir)
    extracted(images_dir, backbone, dump_dir, console)
    assert DROPPED.format(dropped) in console.said
    continued = "continuing an interrupted extraction: 4 of 11 images are done" in console.said
    assert continued == (dropped == 1)
    extracted(images_dir, backbone, tmp_path / "whole", console)
    assert file_bytes(dump_dir) == file_bytes(tmp_path / "whole")


def test_another_graph_or_flag_starts_anew_and_says_so(tmp_path, images_dir, model_dir, backbone, console):
    dump_dir = interrupted_dump(tmp_path, images_dir, backbone, console)
    other = graphs.opened(model_dir, tiff="pixels")
    extracted(images_dir, stopping_after(other, 99, KeyboardInterrupt()), dump_dir, console)
    assert DROPPED.format(2) in console.said
    assert not any("continuing" in line for line in console.said)
    other_dump = interrupted_dump(tmp_path / "second", images_dir, backbone, console)
    content = extracted(images_dir, backbone, other_dump, console, batch_size=3)
    assert console.said.count(DROPPED.format(2)) == 2
    assert len(content.images.paths) == COUNT


def test_the_same_command_again_does_nothing_and_another_replaces(tmp_path, images_dir, backbone, console):
    extracted(images_dir, backbone, tmp_path / "dump", console)
    before = (tmp_path / "dump" / "features.npz").stat().st_mtime_ns
    (tmp_path / "dump" / FOLDER).mkdir()
    extracted(images_dir, stopping_after(backbone, 0, AssertionError()), tmp_path / "dump", console)
    assert not (tmp_path / "dump" / FOLDER).exists()
    assert console.said[-1].endswith("already holds these 11 images; nothing to do")
    assert (tmp_path / "dump" / "features.npz").stat().st_mtime_ns == before
    (images_dir / folders.scan(images_dir).paths[0]).unlink()
    content = extracted(images_dir, backbone, tmp_path / "dump", console)
    assert len(content.images.paths) == COUNT - 1
    assert console.said[-1].startswith("replaced ")


def test_the_same_images_under_other_classes_keep_their_features_but_not_their_labels(
    tmp_path, images_dir, backbone, console
):
    dump_dir, never = tmp_path / "dump", stopping_after(backbone, 0, AssertionError())
    options = ExtractOptions(images_dir, dump_dir, batch_size=4)
    extract(folders.scan_unlabelled(images_dir), ThisProcess(backbone, console), options, console)
    unlabelled = read_features(dump_dir)
    for scan in (folders.scan(images_dir), folders.scan(images_dir, "Mine"), folders.scan_unlabelled(images_dir)):
        extract(scan, ThisProcess(never, console), options, console)
        found = read_features(dump_dir)
        assert found.images.labels.tolist() == scan.labels.tolist()
        assert (found.images.dataset, found.images.class_names) == (scan.dataset.name, list(scan.dataset.class_names))
        assert (found.vectors == unlabelled.vectors).all()
        assert "11 of 11 images are extracted already" in console.said


def test_features_name_what_computed_them(tmp_path, images_dir, model_dir, console):
    options = ExtractOptions(images_dir, tmp_path / "dump", backbone=BackboneOptions(model_dir))
    extract_features(options, console)
    images = read_features(tmp_path / "dump").images
    assert images.device == "CPU"
    assert images.software == f"tensorflow={tf.__version__}; keras={keras.__version__}"
    assert re.fullmatch(r"device: CPU, \d+ threads, float32", console.said[0])


def broken_images(images_dir: Path) -> list[str]:
    paths = folders.scan(images_dir).paths
    for path in (paths[1], paths[6]):
        content = (images_dir / path).read_bytes()
        (images_dir / path).write_bytes(content[: len(content) // 2])
    (images_dir / paths[7]).write_bytes(b"")
    return [paths[1], paths[6], paths[7]]


@pytest.mark.usefixtures("device")
def test_broken_images_stop_the_run_with_their_list(tmp_path, images_dir, backbone, console):
    listed = r" \(.*".join(map(re.escape, broken_images(images_dir)))
    with pytest.raises(UserError, match=rf"^3 of 11 images cannot be read: {listed} \(.*--on_error=skip"):
        extracted(images_dir, backbone, tmp_path / "dump", console)
    assert not (tmp_path / "dump" / "features.npz").exists()


@pytest.mark.usefixtures("device")
def test_nothing_is_computed_after_the_first_broken_image(tmp_path, images_dir, backbone, console):
    path = folders.scan(images_dir).paths[5]
    (images_dir / path).write_bytes(b"")
    computed = []
    counted = dataclasses.replace(
        backbone, network=lambda images: computed.append(len(images)) or backbone.network(images)
    )
    with pytest.raises(UserError, match=f"1 of 11 images cannot be read: {path}"):
        extracted(images_dir, counted, tmp_path / "dump", console, batch_size=2)
    assert computed == [2, 2]
    assert len(list((tmp_path / "dump" / FOLDER).glob("batch_*"))) == 2


def test_broken_images_are_skipped_and_listed(tmp_path, images_dir, backbone, console):
    whole = extracted(images_dir, backbone, tmp_path / "whole", console)
    bad = broken_images(images_dir)
    content = extracted(images_dir, backbone, tmp_path / "dump", console, skip_broken=True)
    assert content.images.skipped == 3
    assert content.images.paths == [path for path in whole.images.paths if path not in bad]
    kept = [row for row, path in enumerate(whole.images.paths) if path not in bad]
    assert content.images.labels.tolist() == whole.images.labels[kept].tolist()
    assert np.abs(content.vectors - whole.vectors[kept]).max() < 1e-5 * whole.vectors.max()
    with pytest.raises(KeyboardInterrupt):
        stopping = stopping_after(backbone, 2, KeyboardInterrupt())
        extracted(images_dir, stopping, tmp_path / "stopped", console, skip_broken=True)
    extracted(images_dir, backbone, tmp_path / "stopped", console, skip_broken=True)
    assert file_bytes(tmp_path / "stopped") == file_bytes(tmp_path / "dump")
    with (tmp_path / "dump" / "skipped.csv").open(encoding="utf-8") as handle:
        table = list(csv.DictReader(handle))
    assert [line["path"] for line in table] == bad
    assert table[2]["reason"] == "empty file"
    assert any("3 of 11 images were skipped" in line for line in console.warned)
    with pytest.raises(UserError, match="3 of 11 images cannot be read"):
        extracted(images_dir, backbone, tmp_path / "dump", console)
    for path in bad:
        (images_dir / path).unlink()
    assert extracted(images_dir, backbone, tmp_path / "dump", console).images.skipped == 0
    assert not (tmp_path / "dump" / "skipped.csv").exists()


def test_nothing_but_broken_images_is_an_error(tmp_path, images_dir, backbone, console):
    for path in folders.scan(images_dir).paths:
        (images_dir / path).write_bytes(b"")
    message = "11 of 11 images cannot be read: beach/image 00.* and 1 more; repair or remove them$"
    with pytest.raises(UserError, match=message):
        extracted(images_dir, backbone, tmp_path / "dump", console, skip_broken=True)


@pytest.mark.usefixtures("device")
def test_a_network_that_returns_nan_is_reported_for_the_first_such_image(tmp_path, images_dir, backbone, console):
    calls = itertools.count()

    def network(images):
        features = backbone.network(images).numpy()
        if next(calls) > 0:
            features[2:] = np.nan
        return tf.constant(features)

    row_6 = folders.scan(images_dir).paths[6]
    with pytest.raises(UserError, match=f"the network gives {row_6} numbers that are not finite in float32"):
        extracted(images_dir, dataclasses.replace(backbone, network=network), tmp_path / "dump", console)
    assert [path.name for path in (tmp_path / "dump" / FOLDER).glob("batch_*")] == ["batch_000000.npz"]


def test_ctrl_c_saves_and_leaves_with_its_status(tmp_path, images_dir, model_dir):
    draw(images_dir, 400)
    flags = (f"--images_dir={images_dir}", f"--model_dir={model_dir}", f"--dump_dir={tmp_path}", "--batch_size=2")
    command = [sys.executable, REPO_ROOT / "extract_features.py", *flags]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        limit = time.monotonic() + 120
        while process.poll() is None and not list((tmp_path / FOLDER).glob("batch_*")):
            assert time.monotonic() < limit
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "stopped by Ctrl-C\n")
    assert not (tmp_path / "features.npz").exists()
    assert not list((tmp_path / FOLDER).glob(".mhcln.part.*"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "required: --images_dir"),
        (("--images_dir={root}/nowhere",), "nowhere is not a folder"),
        (("--images_dir={root}/images", "--model_dir={root}"), "holds no backbone"),
        (("--images_dir={root}/images", "--unlabelled", "--dataset=UCMD"), "--unlabelled"),
        (("--images_dir={root}/images", "--model_dir={model}", "--dump_dir={root}/file"), "/file: "),
        (
            ("--images_dir={root}/images", "--model_dir={model}", "--layers=mixed_11"),
            "choose from pool_3, mixed, mixed_10",
        ),
    ],
)
@pytest.mark.usefixtures("images_dir")
def test_mistakes_are_one_line(tmp_path, run_in_process, users_mistake, model_dir, flags, words):
    (tmp_path / "file").touch()
    filled = [flag.format(root=tmp_path, model=model_dir) for flag in flags]
    users_mistake(run_in_process("extract_features.py", f"--dump_dir={tmp_path / 'dump'}", *filled), words)


def test_unlabelled_images_are_extracted_without_classes(tmp_path, run_in_process, images_dir, model_dir):
    flags = ("--views=8", "--precision=bfloat16", "--tiff=pixels", "--layers=mixed,mixed_10", "--unlabelled")
    folders_of = ("--images_dir", images_dir, "--dump_dir", tmp_path / "dump", "--model_dir", model_dir)
    ended = run_in_process("extract_features.py", *folders_of, *flags)
    assert ended.returncode == 0, ended.stderr
    content = read_features(tmp_path / "dump")
    assert set(content.images.labels.tolist()) == {-1}
    assert content.vectors.shape[1] == 10 + graphs.WIDTH
    assert content.images.extractor.startswith("inception-2015-12-05 mixed+mixed_10; sha256=")
    assert content.images.extractor.endswith("tiff=pixels; precision=bfloat16; views=8")


def test_golden_pool_3_of_the_2015_graph(tmp_path, shared, run_in_process):
    golden = np.load(shared / "golden" / "pool3_2015_graph.npz")
    paths = golden["paths"].tolist()
    wanted = {Path(path).name: vector for path, vector in zip(paths, golden["features"], strict=True)}
    for path in paths:
        folder = tmp_path / "images" / Path(path).parent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / Path(path).name).symlink_to(shared / "data" / path)
    # a batch of 26 images, and the last image alone
    flags = ("--images_dir", tmp_path / "images", "--dump_dir", tmp_path / "dump", "--batch_size=26")
    ended = run_in_process("extract_features.py", "--model_dir", shared / "models", *flags)
    assert ended.returncode == 0, ended.stderr
    content = read_features(tmp_path / "dump")
    assert len(content.images.paths) == len(wanted) == 27
    for path, vector in zip(content.images.paths, content.vectors, strict=True):
        golden_vector = wanted[Path(path).name]
        assert np.linalg.norm(vector - golden_vector) <= 1e-4 * np.linalg.norm(golden_vector), path
