"""Shards of a run's archive: filled, replaced, taken over from earlier versions, refused when they are not right."""

import dataclasses
import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from factories import noisy_codes, write_old_addition

from mhcln.console import UserError
from mhcln.hamming.codes import binarise, pack
from mhcln.hamming.ordered import OrderedIndex, point_of, quantise
from mhcln.pipeline import additions
from mhcln.pipeline.additions import ArchiveWriter, Hashed, laid_out
from mhcln.storage import layout
from mhcln.storage.archive import load_archive
from mhcln.storage.archive_shards import read_entries, read_shard
from mhcln.storage.files import PART
from mhcln.storage.formats import Addition
from mhcln.storage.run_record import Outcome, RunInputs, TrainConfig
from mhcln.storage.runs import Run

BITS = 12


@pytest.fixture
def run(tmp_path) -> Run:
    (tmp_path / layout.ARCHIVES).mkdir()
    codes = noisy_codes(bits=BITS)
    inputs = RunInputs(images_dir="/images", extractor="x")
    outcome = Outcome(1.0, "CPU", "2.21", files={layout.MODEL: "00"})
    return Run(tmp_path, codes, "", inputs, TrainConfig(bits=BITS), outcome)


def activations(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([0.02, 0.45, 0.6, 0.9], np.float32), (n, BITS))


def images(paths: list[str], seed: int = 0, **changes) -> Hashed:
    values = activations(seed, len(paths))
    labels = np.arange(len(paths), dtype=np.int32) % 2
    stamps = np.arange(3 * len(paths)).reshape(-1, 3) + seed
    lonlat = np.full((len(paths), 5, 2), 7.5)
    content = Hashed(pack(binarise(values)), quantise(values), labels, paths, ["a", "b"], stamps, lonlat)
    return dataclasses.replace(content, **changes)


def added(run: Run) -> list[str]:
    parts = load_archive(run, "all", run.codes.class_names).parts[1:]
    return [f"{part.images_dir}/{path}" for part in parts for path in part.paths]


def shards(run: Run) -> list[Path]:
    return sorted((run.folder / layout.ARCHIVES / layout.ARCHIVE_SHARDS).iterdir())


def add(run: Run, name: str, paths: list[str], images_dir: str = "/more", **changes) -> None:
    writer = ArchiveWriter(run)
    writer.append(name, images_dir, images(paths, **changes))
    writer.commit()


def test_images_are_searched_from_shards_as_from_memory(run, monkeypatch):
    monkeypatch.setattr(additions, "SHARD_IMAGES", 7)
    paths = [f"{row:02}é.tif" for row in range(40)]
    for start in range(0, 40, 5):
        add(run, "more", paths[start : start + 5], seed=start)
    assert [entry.images for entry in read_entries(run)] == [7, 7, 7, 7, 7, 5]
    assert len(shards(run)) == 6
    archive = load_archive(run, "all", run.codes.class_names)
    assert [archive.path_of(row) for row in range(18, 58)] == paths
    assert archive.rows_of("23é.tif") == [18 + 23]
    assert (archive.class_of(18 + 6), archive.file_of(18 + 6)) == ("b", Path("/more/06é.tif"))
    assert archive.lonlat_of(20).tolist() == [[7.5, 7.5]] * 5
    assert archive.lonlat_of(0) is None
    values = np.concatenate([activations(start, 5) for start in range(0, 40, 5)])
    index = OrderedIndex([laid_out(part) for part in archive.parts[1:]])
    levels, bits = quantise(values).astype(int), binarise(values)
    for query in activations(99, 20):
        found = index.search(point_of(query), 9)
        apart = np.abs(levels - quantise(query[None])[0].astype(int)).sum(axis=1)
        distance = (bits != binarise(query)).sum(axis=1)
        expected = np.lexsort((np.arange(40), apart, distance))[:9]
        assert found.rows.tolist() == expected.tolist()
        assert found.distances.tolist() == distance[expected].tolist()
        assert found.tied == np.count_nonzero(distance == distance[expected[-1]])


def test_more_shards_than_open_files_are_allowed_for(run, monkeypatch):
    monkeypatch.setattr(additions, "SHARD_IMAGES", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    here = len(list(Path("/dev/fd").iterdir()))
    add(run, "more", [f"{row:03}.tif" for row in range(60)])
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (here + 20, hard))
        archive = load_archive(run, "all", run.codes.class_names)
        assert len(archive.parts) == 61
        assert archive.path_of(len(archive) - 1) == "059.tif"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    with pytest.raises(UserError, match=r"has 60 shards, .* this process may not open 316 files at a time; raise that"):
        load_archive(run, "all", run.codes.class_names)


def test_images_of_other_classes_or_without_activations_are_in_shards_of_their_own(run):
    add(run, "more", ["1", "2"])
    add(run, "more", ["3"], levels=None)
    add(run, "more", ["4"], class_names=["b", "c"])
    add(run, "more", ["5"], class_names=["b", "c"], stamps=np.empty((0, 3), np.int64), lonlat=np.empty((0, 5, 2)))
    add(run, "less", ["6"])
    assert [(entry.source, entry.images) for entry in read_entries(run)] == [
        *(("less", 1), ("more", 2), ("more", 1), ("more", 2))
    ]
    archive = load_archive(run, "all", run.codes.class_names)
    assert [archive.class_of(row) for row in range(18, 24)] == ["a", "a", "b", "a", "b", "b"]
    assert archive.lonlat_of(22) is not None
    assert archive.lonlat_of(23) is None
    assert [laid_out(part).levels is None for part in archive.parts[1:]] == [False, False, True, False]


def test_nothing_counts_before_it_is_committed_and_what_a_killed_process_left_goes(run):
    add(run, "more", ["1", "2"])
    before = (run.folder / layout.ARCHIVES / layout.ARCHIVE_MANIFEST).read_bytes()
    writer = ArchiveWriter(run)
    writer.remove("more")
    writer.append("more", "/more", images(["3"]))
    assert added(run) == ["/more/1", "/more/2"]
    assert (run.folder / layout.ARCHIVES / layout.ARCHIVE_MANIFEST).read_bytes() == before
    assert len(shards(run)) == 2
    writer = ArchiveWriter(run)  # of another process: the first was killed
    assert len(shards(run)) == 1
    writer.append("more", "/more", images(["4"]))
    writer.commit()
    assert added(run) == ["/more/1", "/more/2", "/more/4"]


def test_images_that_are_there_are_known_by_path_and_stamp_and_removed_by_path(run):
    add(run, "a", ["1", "2", "3"])
    add(run, "b", ["4"])
    add(run, "c", ["5"], "/other")
    writer = ArchiveWriter(run)
    stamps = {"1": (0, 1, 2), "2": (3, 4, 6), "4": (0, 1, 2), "5": (0, 1, 2)}
    assert writer.unchanged("/more", stamps) == {"1", "4"}
    writer.remove_images("/more", {"2", "4", "5"}.__contains__)
    writer.commit()
    assert added(run) == ["/more/1", "/more/3", "/other/5"]
    assert writer.unchanged("/more", {"3": (6, 7, 8)}) == {"3"}
    assert writer.name_of_folder("new", "/more") == "a"
    assert writer.name_of_folder("a", "/new") == "a_2"


OLD = Addition(
    codes=pack(binarise(activations(0, 2))),
    bits=BITS,
    labels=np.array([1, 0], np.int32),
    paths=["x.tif", "ü.tif"],
    class_names=["c", "b"],
    images_dir="/old",
    extractor="x",
    model_sha256="00",
    activations=activations(0, 2),
)


def write_old(run: Run, name: str, **changes) -> Path:
    path = run.folder / layout.ARCHIVES / name
    write_old_addition(path, dataclasses.replace(OLD, **changes))
    return path


def test_additions_of_earlier_versions_are_read_and_taken_over_at_the_next_one(run):
    old, unknown = write_old(run, "b.npz"), write_old(run, "c.npz", activations=OLD.activations[:0, :0])
    before = load_archive(run, "all", run.codes.class_names)
    add(run, "a", ["1"])
    assert not old.exists()
    assert not unknown.exists()
    after = load_archive(run, "all", run.codes.class_names)
    assert [part.images_dir for part in after.parts] == ["/images", "/more", "/old", "/old"]
    for then, now in zip(before.parts[1:], after.parts[2:], strict=True):
        assert list(then.paths) == list(now.paths)
        old_parts, new_parts = laid_out(then), laid_out(now)
        for name in ("codes", "distinct", "first", "rows"):
            np.testing.assert_array_equal(getattr(old_parts, name), getattr(new_parts, name))
        np.testing.assert_array_equal(old_parts.levels, new_parts.levels)
    assert [after.class_of(row) for row in (19, 20)] == ["b", "c"]
    # killed between the manifest and the removal of what it replaces: not twice
    write_old(run, "b.npz")
    assert len(load_archive(run, "all", run.codes.class_names)) == len(after)
    ArchiveWriter(run).commit()
    assert not old.exists()


def test_an_unusable_addition_of_an_earlier_version_stays_until_it_is_replaced(run):
    damaged, other = write_old(run, "b.npz"), write_old(run, "c.npz", model_sha256="01")
    damaged.write_bytes(b"PK")
    add(run, "a", ["1"])
    with pytest.raises(UserError, match=r"b\.npz is damaged"):
        added(run)
    writer = ArchiveWriter(run)
    assert writer.name_of("b", "/old") == "b"
    assert writer.name_of("c", "/new") == "c_2"
    writer.append("b", "/old", images(["2"]))
    writer.commit()
    assert not damaged.exists()
    with pytest.raises(UserError, match=r"c\.npz holds codes of another model"):
        added(run)
    other.unlink()
    assert added(run) == ["/more/1", "/old/2"]


def test_a_shard_that_is_missing_changed_or_of_another_model_is_one_line_and_nothing_is_lost(run):
    add(run, "a", ["1", "2"])
    add(run, "b", ["3"], "/b")
    path = shards(run)[0]
    whole = path.read_bytes()
    advice = "add the images of 'a' in /more again with extract_features.py --hash_with or eval.py --add$"
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=f"{path} is not the file that archive.json tells of; {advice}"):
        added(run)
    changed = bytearray(whole)
    changed[200] ^= 1
    path.write_bytes(changed)
    with pytest.raises(UserError, match=f"{path} is not the file that archive.json tells of; {advice}"):
        added(run)
    path.write_bytes(whole)  # at another time: read and compared
    assert added(run) == ["/more/1", "/more/2", "/b/3"]
    path.unlink()
    with pytest.raises(UserError, match=f"{path} is missing; {advice}"):
        added(run)
    for change, words in (
        ({"files": {layout.MODEL: "01"}}, "holds codes of another model than that of"),
        ({"extractor": "y"}, "holds codes of features of 'x', .* was trained on 'y'"),
    ):
        inputs = dataclasses.replace(run.inputs, extractor=change.get("extractor", "x"))
        outcome = dataclasses.replace(run.outcome, files=change.get("files", run.outcome.files))
        other = dataclasses.replace(run, inputs=inputs, outcome=outcome)
        with pytest.raises(UserError, match=f"{words}.*; {advice}"):
            added(other)
    writer = ArchiveWriter(run)
    writer.append("b", "/b", images(["4"]))
    writer.remove_images("/more", lambda _: True)
    writer.commit()  # which leaves what it cannot read
    with pytest.raises(UserError, match=f"{path} is missing"):
        added(run)
    path.write_bytes(whole)
    assert added(run) == ["/more/1", "/more/2", "/b/3", "/b/4"]
    path.unlink()
    writer = ArchiveWriter(run)
    writer.remove_images("/more", lambda _: True, unreadable=True)
    writer.commit()
    assert added(run) == ["/b/3", "/b/4"]


def test_a_manifest_that_is_gone_or_changed_is_one_line(run):
    add(run, "a", ["1"])
    path = run.folder / layout.ARCHIVES / layout.ARCHIVE_MANIFEST
    content = path.read_text(encoding="utf-8")
    path.write_text(content.replace("/more", "/less"), encoding="utf-8")
    again = f"make it again with extract_features.py --hash_with or eval.py --add once {path.parent} is deleted"
    with pytest.raises(UserError, match=f"{path} was changed after it was written; {again}"):
        added(run)
    path.unlink()
    with pytest.raises(UserError, match=f"{path} is missing; {again.replace(' again', '')}"):
        added(run)
    with pytest.raises(UserError, match="is missing"):
        ArchiveWriter(run)
    assert len(shards(run)) == 1


def test_a_copy_is_searched_and_a_half_written_shard_is_not(run, tmp_path_factory):
    add(run, "a", ["1", "2"])
    folder = tmp_path_factory.mktemp("copy") / "K12"
    shutil.copytree(run.folder, folder, copy_function=shutil.copyfile)  # of another time
    copy = dataclasses.replace(run, folder=folder)
    os.utime(shards(copy)[0], ns=(0, 0))
    (shards(copy)[0].parent / f"{PART}00000002.npz").write_bytes(b"PK")
    assert added(copy) == ["/more/1", "/more/2"]
    add(copy, "b", ["3"])
    assert [path.name for path in shards(copy)] == ["00000001.npz", "00000002.npz"]


def test_a_reader_that_a_writer_overtakes_reads_again(run, monkeypatch):
    add(run, "a", ["1", "2"])
    manifest = run.folder / layout.ARCHIVES / layout.ARCHIVE_MANIFEST
    old = manifest.read_text(encoding="utf-8")
    add(run, "a", ["3"])  # which replaces the shard
    new = manifest.read_text(encoding="utf-8")
    manifest.write_text(old, encoding="utf-8")

    def overtaken(run, entry):
        manifest.write_text(new, encoding="utf-8")
        return read_shard(run, entry)

    monkeypatch.setattr("mhcln.storage.archive.read_shard", overtaken)
    assert added(run) == ["/more/1", "/more/2", "/more/3"]


def test_what_another_program_reads_of_a_shard(run):
    add(run, "a", ["b/é.tif", "a.tif"])
    (entry,) = json.loads((run.folder / layout.ARCHIVES / layout.ARCHIVE_MANIFEST).read_text(encoding="utf-8"))[
        "shards"
    ]
    with np.load(shards(run)[0]) as stored:
        assert {name for name in stored if stored[name].ctypes.data} >= {"codes", "levels", "path_bytes", "stamps"}
        assert stored["path_bytes"].tobytes().decode() == "b/é.tifa.tif"
        np.testing.assert_array_equal(stored["codes"], pack(binarise(activations(0, 2))))
    shard = read_shard(run, read_entries(run)[0])
    assert all(array.ctypes.data % 64 == 0 for array in vars(shard).values())
    assert (entry["images"], entry["size"]) == (2, shards(run)[0].stat().st_size)
