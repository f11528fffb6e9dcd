"""Extraction: what the features file holds, what interrupts it, what is left out, and that nothing is mixed.

MHCLN_KILLS says how often the script is killed; the default keeps the test short.
"""

import csv
import dataclasses
import itertools
import os
import random
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

from mhcln.backbone.backbone import open_backbone
from mhcln.backbone.describe import describe
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import Terminated, UserError
from mhcln.data import folders
from mhcln.pipeline.extract import ExtractOptions, extract, extract_features
from mhcln.pipeline.feature_batches import ThisProcess
from mhcln.quiet_tensorflow import keras, tf
from mhcln.storage.features import read_features
from mhcln.storage.features_file import Features
from mhcln.storage.layout import PARTIAL_FEATURES as FOLDER
from mhcln.storage.partial_features import PartialFeatures
from mhcln.storage.saver import MOST_WAITING

COUNT = 11
KILLS = int(os.environ.get("MHCLN_KILLS", "2"))


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


def test_every_image_is_described_by_the_network_in_storage_order(tmp_path, images_dir, model_dir, backbone, console):
    content = extracted(images_dir, backbone, tmp_path / "dump", console)
    scan = folders.scan(images_dir)
    assert content.images.paths == scan.paths
    assert content.images.labels.tolist() == scan.labels.tolist()
    assert content.images.class_names == ["beach", "forest"]
    assert content.images.extractor == backbone.extractor
    assert content.images.model_file == str(model_dir / "classify_image_graph_def.pb")
    assert content.images.images_dir == str(images_dir)
    for path, vector in zip(content.images.paths, content.vectors, strict=True):
        image = Image.open(images_dir / path).convert("RGB")
        if path.endswith("tif"):
            image.save(tmp_path / "step.jpg", quality=100)
        step = tmp_path / "step.jpg" if path.endswith("tif") else images_dir / path
        if path.endswith("png"):
            image.save(tmp_path / "step.png")
            pixels = np.asarray(image)
        else:
            pixels = tf.io.decode_jpeg(step.read_bytes(), channels=3)
        wanted = backbone.features(backbone.resize(pixels)[None])[0]
        assert np.linalg.norm(vector - wanted) < 1e-5 * np.linalg.norm(wanted)
    assert any("11 images of 2 classes" in line for line in console.said)


def test_tiff_pixels_differ_from_the_jpeg_step_and_are_recorded(tmp_path, images_dir, model_dir, backbone, console):
    direct = open_backbone(BackboneOptions(model_dir, tiff="pixels"), console)
    a = extracted(images_dir, backbone, tmp_path / "a", console)
    b = extracted(images_dir, direct, tmp_path / "b", console)
    differs = np.abs(a.vectors - b.vectors).max(axis=1) > 1e-6
    assert [path.endswith("tif") for path in a.images.paths] == differs.tolist()
    assert "tiff=pixels" in b.images.extractor


def test_the_batch_size_changes_nothing_but_rounding(tmp_path, images_dir, backbone, console):
    one = extracted(images_dir, backbone, tmp_path / "a", console, batch_size=1)
    all_at_once = extracted(images_dir, backbone, tmp_path / "b", console, batch_size=32)
    assert np.abs(one.vectors - all_at_once.vectors).max() < 1e-5 * np.abs(one.vectors).max()


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
    assert "continuing an interrupted run: 8 of 11 images are done" in console.said
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
    assert (
        4 <= len(computed) <= 4 + 1 + MOST_WAITING + 1
    )  # with the device, waiting to be saved, and one for a slow thread
    assert {"batch_000000.npz", "batch_000002.npz"} <= {path.name for path in (tmp_path / "dump" / FOLDER).iterdir()}


def test_a_device_with_little_memory_gives_the_same_batches(tmp_path, images_dir, backbone, console):
    whole = extracted(images_dir, backbone, tmp_path / "whole", console)
    sizes = []

    def network(images):
        sizes.append(len(images))
        if len(images) > 2:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return backbone.network(images)

    content = extracted(images_dir, dataclasses.replace(backbone, network=network), tmp_path / "dump", console)
    assert console.warned == ["the device has no memory for 4 images at a time; going on with 2"]
    assert sizes == [4, 2, 2, 2, 2, 2, 1]
    assert content.images.inputs == whole.images.inputs
    assert np.abs(content.vectors - whole.vectors).max() < 1e-5 * whole.vectors.max()


def test_the_batch_size_is_chosen_for_the_device(tmp_path, images_dir, backbone, console, monkeypatch):
    whole = extracted(images_dir, backbone, tmp_path / "whole", console, batch_size=None)
    assert (
        extracted(images_dir, backbone, tmp_path / "dump", console, batch_size=32).images.inputs == whole.images.inputs
    )
    monkeypatch.setattr("mhcln.device.uses_gpu", lambda: True)
    on_gpu = extracted(images_dir, backbone, tmp_path / "gpu", console, batch_size=None)
    assert on_gpu.images.inputs != whole.images.inputs
    explicit = extracted(images_dir, backbone, tmp_path / "explicit", console, batch_size=128)
    assert on_gpu.images.inputs == explicit.images.inputs


def interrupted_dump(tmp_path, images_dir, backbone, console) -> Path:
    with pytest.raises(KeyboardInterrupt):
        extracted(images_dir, stopping_after(backbone, 2, KeyboardInterrupt()), tmp_path / "dump", console)
    return tmp_path / "dump"


def test_a_changed_image_is_noticed_and_its_batch_made_again(tmp_path, images_dir, backbone, console):
    dump_dir = interrupted_dump(tmp_path, images_dir, backbone, console)
    changed = images_dir / folders.scan(images_dir).paths[0]
    Image.new("RGB", (9, 9), "red").save(changed)
    extracted(images_dir, backbone, dump_dir, console)
    assert any("1 images are changed, first beach/image 00" in line for line in console.warned)
    assert "continuing an interrupted run: 4 of 11 images are done" in console.said
    extracted(images_dir, backbone, tmp_path / "whole", console)
    assert file_bytes(dump_dir) == file_bytes(tmp_path / "whole")


def test_new_and_gone_images_are_noticed(tmp_path, images_dir, backbone, console):
    dump_dir = interrupted_dump(tmp_path, images_dir, backbone, console)
    first = images_dir / folders.scan(images_dir).paths[0]
    first.rename(first.with_name("zebra.jpg"))
    extracted(images_dir, backbone, dump_dir, console)
    (line,) = [line for line in console.warned if "part-work" in line]
    assert "1 images are gone, first beach/image 00" in line
    assert "1 images are new, first beach/zebra.jpg" in line
    extracted(images_dir, backbone, tmp_path / "whole", console)
    assert file_bytes(dump_dir) == file_bytes(tmp_path / "whole")


def test_another_graph_or_flag_starts_anew_and_says_why(tmp_path, images_dir, model_dir, backbone, console):
    dump_dir = interrupted_dump(tmp_path, images_dir, backbone, console)
    other = open_backbone(BackboneOptions(model_dir, tiff="pixels"), console)
    extracted(images_dir, stopping_after(other, 99, KeyboardInterrupt()), dump_dir, console)
    assert any("the extractor was 'inception-2015-12-05" in line for line in console.warned)
    assert not any("continuing" in line for line in console.said)
    other_dump = interrupted_dump(tmp_path / "second", images_dir, backbone, console)
    content = extracted(images_dir, backbone, other_dump, console, batch_size=3)
    assert any("the batch size was 4, is 3" in line for line in console.warned)
    assert len(content.images.paths) == COUNT


def test_damaged_part_work_is_made_again(tmp_path, images_dir, backbone, console):
    extracted(images_dir, backbone, tmp_path / "whole", console)
    dump_dir = interrupted_dump(tmp_path, images_dir, backbone, console)
    batch = dump_dir / FOLDER / "batch_000000.npz"
    content = bytearray(batch.read_bytes())
    content[len(content) // 2] ^= 1
    batch.write_bytes(content)
    (dump_dir / FOLDER / "settings.npz").write_bytes(b"half")
    extracted(images_dir, backbone, dump_dir, console)
    assert any("its settings are damaged" in line for line in console.warned)
    assert "continuing an interrupted run: 4 of 11 images are done" in console.said
    assert file_bytes(dump_dir) == file_bytes(tmp_path / "whole")


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
        assert "features kept" in console.said[-1]


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
    bad = broken_images(images_dir)
    with pytest.raises(UserError) as caught:
        extracted(images_dir, backbone, tmp_path / "dump", console)
    message = str(caught.value)
    assert message.startswith(f"3 of 11 images cannot be read: {bad[0]} (")
    assert all(path in message for path in bad)
    assert "--on_error=skip" in message
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


def test_skipping_survives_an_interruption(tmp_path, images_dir, backbone, console):
    broken_images(images_dir)
    extracted(images_dir, backbone, tmp_path / "whole", console, skip_broken=True)
    with pytest.raises(KeyboardInterrupt):
        stopping = stopping_after(backbone, 2, KeyboardInterrupt())
        extracted(images_dir, stopping, tmp_path / "dump", console, skip_broken=True)
    extracted(images_dir, backbone, tmp_path / "dump", console, skip_broken=True)
    assert file_bytes(tmp_path / "dump") == file_bytes(tmp_path / "whole")


def test_nothing_but_broken_images_is_an_error(tmp_path, images_dir, backbone, console):
    for path in folders.scan(images_dir).paths:
        (images_dir / path).write_bytes(b"")
    with pytest.raises(UserError, match="none of the 11 images can be read, first beach/image 00"):
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


def test_queries_are_described_as_the_archive_is(tmp_path, images_dir, backbone, console):
    content = extracted(images_dir, backbone, tmp_path / "dump", console, batch_size=COUNT)
    (tmp_path / "no image.jpg").write_bytes(b"hello")
    paths = [images_dir / path for path in content.images.paths]
    vectors, problems = describe([*paths, tmp_path / "no image.jpg"], backbone, console, batch_size=5)
    assert np.abs(vectors[:COUNT] - content.vectors).max() < 1e-5 * content.vectors.max()
    assert not vectors[COUNT].any()
    assert list(problems) == [COUNT]
    assert "not a readable image" in problems[COUNT].reason


def command_of(images_dir: Path, model_dir: Path, dump_dir: Path) -> list[str]:
    script = str(REPO_ROOT / "extract_features.py")
    return [sys.executable, script, "--batch_size=2", f"--images_dir={images_dir}", f"--model_dir={model_dir}",
            f"--dump_dir={dump_dir}"]  # fmt: skip


def started(command: list[str], dump_dir: Path) -> subprocess.Popen:
    """The script, running, once it has saved a batch more than was there before."""
    before = set((dump_dir / FOLDER).glob("batch_*"))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 120
    while process.poll() is None and not set((dump_dir / FOLDER).glob("batch_*")) - before:
        assert time.monotonic() < limit
        time.sleep(0.005)
    return process


def test_killed_at_random_moments_the_same_command_ends_the_same(tmp_path, images_dir, model_dir):
    draw(images_dir, 400)
    subprocess.run(command_of(images_dir, model_dir, tmp_path / "whole"), check=True, capture_output=True)
    moments = random.Random(0)
    kills, dump_dir = 0, tmp_path / "dump"
    command = command_of(images_dir, model_dir, dump_dir)
    while kills < KILLS:
        process = started(command, dump_dir)
        time.sleep(moments.random() * 0.4)
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            assert file_bytes(dump_dir) == file_bytes(tmp_path / "whole")
            (dump_dir / "features.npz").unlink()
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    # the last kill may have come when all was done but the process still there
    assert "continuing an interrupted run" in ended.stdout or "nothing to do" in ended.stdout
    assert file_bytes(dump_dir) == file_bytes(tmp_path / "whole")
    assert sorted(path.name for path in dump_dir.iterdir()) == [".lock", "features.npz"]


def test_sigterm_and_ctrl_c_save_and_leave_with_their_status(tmp_path, images_dir, model_dir):
    draw(images_dir, 400)
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = started(command_of(images_dir, model_dir, tmp_path / "dump"), tmp_path / "dump")
        process.send_signal(number)
        _, errors = process.communicate()
        assert process.returncode == status, errors
        assert errors.splitlines() == [f"stopped by {'SIGTERM' if status == 143 else 'Ctrl-C'}"]
        assert not (tmp_path / "dump" / "features.npz").exists()
        assert not list((tmp_path / "dump" / FOLDER).glob(".part.*"))


def test_mistakes_are_one_line(tmp_path, run_script, users_mistake, images_dir, model_dir):
    script = "extract_features.py"
    images, dump = f"--images_dir={images_dir}", f"--dump_dir={tmp_path / 'dump'}"
    users_mistake(run_script(script, dump), "--images_dir")
    users_mistake(run_script(script, f"--images_dir={tmp_path / 'nowhere'}", dump), "nowhere is not a folder")
    users_mistake(run_script(script, images, dump, f"--model_dir={tmp_path}"), "holds no backbone")
    users_mistake(run_script(script, images, dump, "--unlabelled", "--dataset=UCMD"), "--unlabelled")
    (tmp_path / "file").touch()
    users_mistake(run_script(script, images, f"--dump_dir={tmp_path / 'file'}", f"--model_dir={model_dir}"), "file")


def test_unlabelled_images_are_described_without_classes(tmp_path, run_script, images_dir, model_dir):
    dump_dir = tmp_path / "dump"
    ended = run_script(
        "extract_features.py", "--unlabelled", "--images_dir", images_dir, "--dump_dir", dump_dir,
        "--model_dir", model_dir, "--views=8", "--precision=bfloat16", "--tiff=pixels", "--layers=mixed,mixed_10",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    content = read_features(dump_dir)
    assert set(content.images.labels.tolist()) == {-1}
    assert content.vectors.shape[1] == 10 + graphs.WIDTH
    assert content.images.extractor.startswith("inception-2015-12-05 mixed+mixed_10; sha256=")
    assert content.images.extractor.endswith("tiff=pixels; precision=bfloat16; views=8")


def test_a_layer_that_is_not_there_is_one_line(tmp_path, run_script, images_dir, model_dir):
    flags = ("--images_dir", images_dir, "--dump_dir", tmp_path, "--model_dir", model_dir, "--layers=mixed_11")
    ended = run_script("extract_features.py", *flags)
    assert ended.returncode == 2
    assert ended.stderr == "error: the backbone has no layer 'mixed_11'; choose from pool_3, mixed, mixed_10\n"


@pytest.mark.parametrize("batch_size", [1, 32])
def test_golden_pool_3_of_the_2015_graph(tmp_path, shared, run_script, batch_size):
    golden = np.load(shared / "golden" / "pool3_2015_graph.npz")
    wanted = {
        Path(path).name: vector for path, vector in zip(golden["paths"].tolist(), golden["features"], strict=True)
    }
    for path in golden["paths"].tolist():
        folder = tmp_path / "images" / Path(path).parent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / Path(path).name).symlink_to(shared / "data" / path)
    flags = ("--images_dir", tmp_path / "images", "--dump_dir", tmp_path / "dump", "--batch_size", batch_size)
    ended = run_script("extract_features.py", "--model_dir", shared / "models", *flags)
    assert ended.returncode == 0, ended.stderr
    content = read_features(tmp_path / "dump")
    assert len(content.images.paths) == len(wanted) == 27
    for path, vector in zip(content.images.paths, content.vectors, strict=True):
        golden_vector = wanted[Path(path).name]
        assert np.linalg.norm(vector - golden_vector) <= 1e-4 * np.linalg.norm(golden_vector), path
