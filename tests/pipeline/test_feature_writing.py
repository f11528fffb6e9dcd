"""Features in shards: extraction writes and continues them, and every script reads them as it reads one file."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import RecordingConsole, run_here
from factories import draw_images, separable_features, write_training_inputs
from PIL import Image

import mhcln
from mhcln.console import UserError
from mhcln.data import folders
from mhcln.pipeline import extract as pipeline_extract
from mhcln.pipeline.extract import extract
from mhcln.pipeline.extraction import ExtractOptions
from mhcln.pipeline.feature_batches import ThisProcess
from mhcln.pipeline.opened_run import open_run
from mhcln.storage import files, runs
from mhcln.storage.features import Features, file_of, read_features, shard_sizes, write_features, write_file
from mhcln.storage.file_list import read_list
from mhcln.storage.files import read_npz
from mhcln.storage.saver import MOST_WAITING
from mhcln.storage.split import read_split

COUNT, SIZE = 22, 8


@pytest.fixture
def images_dir(tmp_path) -> Path:
    for name, count in (("port", 12), ("beach", COUNT - 12)):
        (tmp_path / "images" / name).mkdir(parents=True)
        draw_images(tmp_path / "images" / name, count)
    return tmp_path / "images"


class Extraction:
    """Extractions of a folder of images, of which the computed images are counted."""

    def __init__(self, images_dir: Path, backbone) -> None:
        def network(images):
            self.computed += len(images)
            return backbone.network(images)

        self.images_dir, self.computed = images_dir, 0
        self.backbone = dataclasses.replace(backbone, network=network)
        self.console = RecordingConsole()

    def __call__(self, dump: Path, shard_images: int | None = SIZE, skip: bool = False, **scan) -> Features:
        self.computed = 0
        options = ExtractOptions(self.images_dir, dump, batch_size=3, skip_broken=skip, shard_images=shard_images)
        engine = ThisProcess(self.backbone, self.console)
        extract(folders.scan(self.images_dir, **scan), engine, options, self.console)
        assert not (dump / "extract.part").exists()
        found = read_features(dump)
        return dataclasses.replace(found, vectors=found.vectors[:])


@pytest.fixture
def extraction(images_dir, backbone) -> Extraction:
    return Extraction(images_dir, backbone)


def assert_same(found: Features, wanted: Features, but: tuple[str, ...] = ()) -> None:
    assert np.asarray(found.vectors).tobytes() == np.asarray(wanted.vectors).tobytes()
    for name, value in vars(wanted.images).items():
        assert name in but or np.array_equal(getattr(found.images, name), value), name


def test_many_images_go_to_shards_which_hold_what_one_file_does(tmp_path, extraction):
    one = extraction(tmp_path / "one", COUNT)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [".mhcln.lock", "features.npz"]
    several = extraction(tmp_path / "several")
    assert {path.name for path in (tmp_path / "several").iterdir()} == {".mhcln.lock", "features", "features.json"}
    assert shard_sizes(tmp_path / "several") == [8, 8, 6]
    assert_same(several, one)
    assert extraction.console.said[-1] == f"wrote {tmp_path / 'several' / 'features.json'}"


def test_the_same_command_does_nothing_and_another_size_keeps_the_features(tmp_path, extraction):
    dump = tmp_path / "dump"
    wanted = extraction(dump)
    before = (dump / "features.json").stat().st_mtime_ns
    for size in (SIZE, None):
        extraction(dump, size)
        assert extraction.console.said[-1] == f"{dump / 'features.json'} already holds these 22 images; nothing to do"
    assert (dump / "features.json").stat().st_mtime_ns == before
    for size, files_of in ((100, "features.npz"), (5, "features.json"), (SIZE, "features.json")):
        assert_same(extraction(dump, size), wanted)
        assert extraction.computed == 0
        assert extraction.console.said[-1] == f"replaced {dump / files_of}"
        assert (dump / "features").is_dir() == (dump / "features.json").exists() == (files_of == "features.json")
        assert (dump / "features.npz").exists() == (files_of == "features.npz")
    extraction(dump, 100)
    assert (extraction(dump, None).vectors == wanted.vectors).all()
    assert file_of(dump).name == "features.npz"
    assert "nothing to do" in extraction.console.said[-1]


def test_an_added_and_a_changed_image_cost_only_themselves(tmp_path, extraction, images_dir):
    dump = tmp_path / "dump"
    before = extraction(dump)
    for name in ("aaa", "zzz"):
        Image.new("RGB", (20, 20), "red").save(images_dir / "port" / f"{name}.png")
    after = extraction(dump)
    assert extraction.computed == 2
    assert shard_sizes(dump) == [8, 8, 8]
    rows = [after.images.paths.index(path) for path in before.images.paths]
    assert after.vectors[rows].tobytes() == before.vectors[:].tobytes()
    assert_same(extraction(tmp_path / "one", 100), after, but=("inputs", "software"))
    (images_dir / "beach" / "image 00 é.jpg").unlink()
    assert len(extraction(dump).images) == COUNT + 1
    assert extraction.computed == 0


def test_growing_beyond_one_file_and_shrinking_into_one_remove_the_other(tmp_path, extraction, images_dir):
    dump = tmp_path / "dump"
    one = extraction(dump, COUNT)
    Image.new("RGB", (20, 20), "red").save(images_dir / "port" / "zzz.png")
    grown = extraction(dump, COUNT)
    assert extraction.computed == 1
    assert not (dump / "features.npz").exists()
    assert shard_sizes(dump) == [COUNT, 1]
    assert (grown.vectors[:COUNT] == one.vectors).all()
    (images_dir / "port" / "zzz.png").unlink()
    assert_same(extraction(dump, COUNT), one)
    assert sorted(path.name for path in dump.iterdir()) == [".mhcln.lock", "features.npz"]


def test_skipped_images_are_left_out_of_the_shards(tmp_path, extraction, images_dir):
    paths = folders.scan(images_dir).paths
    for path in (paths[3], paths[4], paths[5], paths[20]):  # all images of the second batch
        (images_dir / path).write_bytes(b"no image")
    found = extraction(tmp_path / "several", skip=True)
    assert_same(found, extraction(tmp_path / "one", 100, skip=True))
    assert (found.images.skipped, shard_sizes(tmp_path / "several")) == (4, [5, 8, 5])


class Killed(BaseException):
    """What stands for SIGKILL: nothing of the program handles it."""


def stop_at(monkeypatch, place: int, after: bool) -> None:
    """Stop at the writing of a file, counted from 0, before or after it has its name."""
    counter, real = itertools.count(), files.replacing.__wrapped__

    def replacing(path, alone=True):
        count = next(counter)
        written = real(path, alone)
        part = next(written)
        yield part
        if count == place and not after:
            raise Killed
        next(written, None)
        if count == place:
            raise Killed

    monkeypatch.setattr(files, "replacing", files.contextlib.contextmanager(replacing))


@pytest.mark.parametrize("before", ["nothing", "one file", "shards"])
def test_stopped_at_any_file_the_same_command_goes_on_without_loss(
    tmp_path, extraction, images_dir, monkeypatch, before
):
    start = {"nothing": None, "one file": 100, "shards": 5}[before]
    aside, added = tmp_path / "added", images_dir / "added"
    aside.mkdir()
    draw_images(aside, 7)
    wanted, place, done, stops = None, 0, False, 0
    while not done:
        for after in (False, True):
            dump = tmp_path / f"dump{place}{after}"
            if start:
                extraction(dump, start)
                aside.rename(added)
            wanted = wanted or extraction(tmp_path / "whole")
            with monkeypatch.context() as patch:
                stop_at(patch, place, after)
                try:
                    extraction(dump)
                    done = True
                except Killed:
                    stops += 1
                    if start:
                        assert len(read_features(dump).images) in (COUNT, COUNT + 7)
            computed, unsaved = extraction.computed, 3 * (MOST_WAITING + 1)
            found = extraction(dump)
            again = computed + extraction.computed - (7 if start else COUNT)
            assert extraction.computed == 0 if done else again <= unsaved
            assert_same(found, wanted, but=("software", "device"))
            assert shard_sizes(dump) == ([8, 8, 8, 5] if start else [8, 8, 6])
            assert len(list((dump / "features").iterdir())) == len(shard_sizes(dump))
            assert not (dump / "features.npz").exists()
            if start:
                added.rename(aside)
        place += 1
    assert stops > 20 if before == "nothing" else stops > 10


def test_batches_leave_the_disk_as_shards_are_written(tmp_path, extraction, monkeypatch):
    dump, left = tmp_path / "dump", []

    def watched(path: Path, content: Features) -> None:
        left.append(len(list((dump / "extract.part").glob("batch_*"))))
        write_file(path, content)

    monkeypatch.setattr(pipeline_extract, "write_file", watched)
    extraction(dump)
    assert left == [3, 3, 2]  # of 8, 8 and 6 images, 3 a batch


@pytest.mark.parametrize("how", ["gone", "flipped"])
def test_a_damaged_shard_costs_its_own_images(tmp_path, extraction, how):
    dump = tmp_path / "dump"
    wanted = extraction(dump)
    part = dump / "features" / read_list(dump / "features.json", "")[1].file
    content = bytearray(part.read_bytes())
    content[300] ^= 4
    part.unlink() if how == "gone" else part.write_bytes(content)
    with pytest.raises(UserError, match=rf"{part.name}.*make it again with extract_features\.py"):
        run_here("dataset_generator", f"--dump_dir={dump}")
    found = extraction(dump)
    assert extraction.computed == SIZE
    assert_same(found, wanted)


def test_a_flipped_bit_of_the_vectors_in_one_file_is_mended_by_the_advised_command(tmp_path, extraction):
    wanted = extraction(tmp_path, None)
    content = bytearray((tmp_path / "features.npz").read_bytes())
    content[300] ^= 4
    (tmp_path / "features.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"features\.npz is damaged.*make it again with extract_features\.py"):
        run_here("dataset_generator", f"--dump_dir={tmp_path}")
    assert_same(extraction(tmp_path, None), wanted)


@pytest.fixture(scope="module")
def dumps(tmp_path_factory) -> tuple[Path, Path]:
    """Two dump folders with a run each, of the same features in one file and in shards."""
    made = []
    features = separable_features(classes=3, per_class=20, width=16)
    for name, size in (("one", None), ("several", 7)):
        dump = tmp_path_factory.mktemp(name)
        write_training_inputs(dump, features)
        write_features(dump, features, size)
        (dump / "split.npz").unlink()
        run_here("dataset_generator", f"--dump_dir={dump}", "--train_test_split=0.6")
        flags = ("--HASH_BITS=8", "--ITERS=60", "--BATCH_SIZE=15", f"--dump_dir={dump}")
        for loss in ("mhcln", "orthohash", "itq"):
            some = flags if loss != "itq" else (flags[0], flags[3])
            run_here("trainer", *some, f"--loss={loss}", *(["--validate=0.2"] if loss == "orthohash" else []))
        made.append(dump)
    return made[0], made[1]


@pytest.mark.parametrize("name", ["K8", "K8_orthohash", "K8_itq"])
def test_a_run_on_shards_is_the_run_on_one_file(dumps, name):
    one, several = (runs.read_run(dump / name) for dump in dumps)
    for array in ("codes.npz", "activations.npz"):
        first, second = (read_npz(dump / name / array, "") for dump in dumps)
        assert all((first[key] == second[key]).all() for key in first)
    recorded = several.inputs.features_sha256
    assert recorded == files.sha256_of(dumps[1] / "features.json") != one.inputs.features_sha256
    assert (dumps[0] / "split.npz").read_bytes() == (dumps[1] / "split.npz").read_bytes()


def test_an_evaluation_takes_the_codes_and_leaves_the_shards(dumps):
    results = []
    for dump in dumps:
        console = run_here("eval", f"--dump_dir={dump}", "--run_name=K8", "--k=5", "--interval=0")
        results.append(json.loads((dump / "K8" / "results.json").read_text(encoding="utf-8")))
    assert results[0]["mAP@5"] == results[1]["mAP@5"]
    assert [cost["what"] for cost in results[1]["costs"]] == ["activations", "codes"]
    path = dumps[1] / "features.json"
    assert (
        f"no comparison with the features: {path} lists them in shards, which are too many to compare" in console.said
    )


def test_other_shards_are_another_run(dumps, tmp_path):
    features = read_features(dumps[1])
    write_training_inputs(tmp_path, Features(features.vectors[:], features.images))
    write_features(tmp_path, features, 7)
    train = ("trainer", "--HASH_BITS=8", "--ITERS=5", "--BATCH_SIZE=15", f"--dump_dir={tmp_path}")
    run_here(*train)
    assert "done already" in run_here(*train).said[-1]
    write_features(tmp_path, Features(features.vectors[:] + 1, features.images), 7)
    with pytest.raises(UserError, match=r"holds another run \(features_sha256"):
        run_here(*train)


@pytest.mark.parametrize("form", ["folder", "list"])
def test_features_in_shards_are_taken_added_and_searched_with(dumps, tmp_path, form):
    given = dumps[1] if form == "folder" else dumps[1] / "features.json"
    for _ in range(2):
        run_here("dataset_generator", f"--dump_dir={tmp_path}", f"--features={given}")
    assert_same(read_features(tmp_path), read_features(dumps[0]))
    assert shard_sizes(tmp_path) == shard_sizes(dumps[1])
    with pytest.raises(UserError, match="has other features already"):
        write_features(tmp_path, Features(read_features(dumps[0]).vectors + 1, read_features(dumps[0]).images), 9)
        run_here("dataset_generator", f"--dump_dir={tmp_path}", f"--features={given}")
    added = separable_features(classes=3, per_class=4, width=16, seed=1)
    table = dataclasses.replace(added.images, paths=[f"more/{path}" for path in added.images.paths])
    (tmp_path / "more").mkdir()
    write_features(tmp_path / "more", Features(added.vectors, table), 5)
    more = tmp_path / "more" if form == "folder" else tmp_path / "more" / "features.json"
    console = run_here("eval", f"--dump_dir={dumps[0]}", "--run_name=K8", f"--add={more}", f"--query={more}", "--k=1")
    assert console.said[0].startswith("12 images")
    assert any("12 queries in 72 images" in line for line in console.said)
    archive = open_run(dumps[0], "K8").archive("all")
    assert (archive.parts[1].codes == mhcln.Hasher.load(dumps[0] / "K8").encode(added.vectors)).all()


def test_a_notebook_takes_features_in_shards(dumps):
    features, split = read_features(dumps[1]), read_split(dumps[1] / "split.npz")
    equal = [mhcln.equal_images(read_features(dump).vectors, features.images.paths) for dump in dumps]
    assert (equal[0] == equal[1]).all()
    config = mhcln.TrainConfig(bits=8, iterations=20, batch_size=15)
    codes = [
        (hasher := mhcln.fit(read_features(dump), split, config)).encode_split(read_features(dump), split).codes
        for dump in dumps
    ]
    assert (codes[0] == codes[1]).all()
    assert (hasher.encode(features.vectors) == hasher.encode(features.vectors[:])).all()
