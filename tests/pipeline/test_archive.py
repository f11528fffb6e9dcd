"""The archive of a run: shards of added images are filled, replaced, and refused when they are not right."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from factories import image_table, noisy_codes

from mhcln.console import Quiet, UserError
from mhcln.data.reading import AS_THEY_ARE
from mhcln.hamming.codes import binarise, points_of, quantise
from mhcln.pipeline import additions
from mhcln.pipeline.additions import ArchiveWriter, coded
from mhcln.pipeline.opened_run import OpenedRun, index_of
from mhcln.storage import layout
from mhcln.storage.archive import Archive, read_entries, read_shard
from mhcln.storage.coded_images import CodedImages
from mhcln.storage.files import PART
from mhcln.storage.run_record import Outcome, RunInputs, TrainConfig
from mhcln.storage.runs import Run
from mhcln.storage.vectors import write_activations

BITS, OWN = 12, 18


@pytest.fixture
def run(tmp_path) -> Run:
    (tmp_path / layout.ARCHIVES).mkdir()
    inputs = RunInputs(images_dir="/images", extractor="x")
    outcome = Outcome(1.0, "CPU", "2.21", files={layout.MODEL: "00"})
    return Run(tmp_path, noisy_codes(bits=BITS), "", inputs, TrainConfig(bits=BITS), outcome)


def opened(run: Run, which: str = "all") -> Archive:
    return OpenedRun(run, run.codes.class_names, AS_THEY_ARE, "/images").archive(which)


def activations(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([0.02, 0.45, 0.6, 0.9], np.float32), (n, BITS))


def images(paths: list[str], images_dir: str = "/more", seed: int = 0, **changes) -> CodedImages:
    values = {
        "class_names": ["a", "b"],
        "stamps": np.arange(3 * len(paths)).reshape(-1, 3),
        "lonlat": np.full((len(paths), 5, 2), 7.5),
        **changes,
    }
    table = image_table(paths, np.arange(len(paths)) % 2, images_dir=images_dir, **values)
    return coded(table, activations(seed, len(paths)))


def added(run: Run) -> list[str]:
    return [f"{part.images_dir}/{path}" for part in opened(run).parts[1:] for path in part.paths]


def shards(run: Run) -> list[Path]:
    return sorted((run.folder / layout.ARCHIVES / layout.ARCHIVE_SHARDS).iterdir())


def add(run: Run, name: str, paths: list[str], images_dir: str = "/more", **changes) -> None:
    writer = ArchiveWriter(run)
    writer.append(name, images(paths, images_dir, **changes))
    writer.commit()


def test_images_are_searched_from_shards_as_from_memory(run, monkeypatch):
    monkeypatch.setattr(additions, "ARCHIVE_SHARD_IMAGES", 7)
    paths = [f"{row:02}é.tif" for row in range(40)]
    for start in range(0, 40, 5):
        add(run, "more", paths[start : start + 5], seed=start)
    assert [entry.images for entry in read_entries(run)] == [7, 7, 7, 7, 7, 5]
    assert len(shards(run)) == 6
    archive = opened(run)
    assert [archive.path_of(row) for row in range(OWN, OWN + 40)] == paths
    assert archive.rows_of("23é.tif") == [OWN + 23]
    assert archive.rows_of("a path longer than any of the archive.tif") == archive.rows_of("23") == []
    assert (archive.class_of(OWN + 6), archive.file_of(OWN + 6)) == ("b", Path("/more/06é.tif"))
    assert archive.lonlat_of(20).tolist() == [[7.5, 7.5]] * 5
    assert archive.lonlat_of(0) is None
    values = np.concatenate([activations(start, 5) for start in range(0, 40, 5)])
    index = index_of(Archive(archive.parts[1:], BITS), Quiet())
    levels, bits = quantise(values).astype(int), binarise(values)
    for query in activations(99, 20):
        points = points_of(query[None])
        rows, distances, tied = index.search(points.codes, 9, points.levels)
        apart = np.abs(levels - quantise(query[None])[0].astype(int)).sum(axis=1)
        distance = (bits != binarise(query)).sum(axis=1)
        expected = np.lexsort((np.arange(40), apart, distance))[:9]
        assert rows[0].tolist() == expected.tolist()
        assert distances[0].tolist() == distance[expected].tolist()
        assert tied[0] == np.count_nonzero(distance == distance[expected[-1]])


def test_images_of_other_classes_are_in_shards_of_their_own(run):
    add(run, "more", ["1", "2"])
    add(run, "more", ["4"], class_names=["b", "c"])
    add(run, "more", ["5"], class_names=["b", "c"], stamps=np.empty((0, 3), np.int64), lonlat=np.empty((0, 5, 2)))
    add(run, "less", ["6"])
    assert [(entry.source, entry.images) for entry in read_entries(run)] == [("less", 1), ("more", 2), ("more", 2)]
    archive = opened(run)
    assert [archive.class_of(row) for row in range(OWN, OWN + 5)] == ["a", "a", "b", "b", "b"]
    assert archive.lonlat_of(OWN + 3) is not None
    assert archive.lonlat_of(OWN + 4) is None
    labels, names = archive.classes()
    assert [names[label] for label in labels[OWN:]] == ["a", "a", "b", "b", "b"]


def test_nothing_counts_before_it_is_committed_and_what_a_killed_process_left_goes(run):
    add(run, "more", ["1", "2"])
    before = (run.folder / layout.ARCHIVES / layout.ARCHIVE_LIST).read_bytes()
    writer = ArchiveWriter(run)
    writer.remove("more")
    writer.append("more", images(["3"]))
    assert added(run) == ["/more/1", "/more/2"]
    assert (run.folder / layout.ARCHIVES / layout.ARCHIVE_LIST).read_bytes() == before
    assert len(shards(run)) == 2
    writer = ArchiveWriter(run)  # of another process: the first was killed
    assert len(shards(run)) == 1
    writer.append("more", images(["4"]))
    writer.commit()
    assert added(run) == ["/more/1", "/more/2", "/more/4"]


def test_images_are_removed_by_path_and_additions_named_by_folder(run):
    add(run, "a", ["1", "2", "3"])
    add(run, "b", ["4"])
    add(run, "c", ["5"], "/other")
    writer = ArchiveWriter(run)
    writer.remove_images("/more", {"2", "4", "5"}.__contains__)
    writer.commit()
    assert added(run) == ["/more/1", "/more/3", "/other/5"]
    ((_, left),) = writer.parts_of("/more")
    assert left.stamps.tolist() == [[0, 1, 2], [6, 7, 8]]
    assert (writer.name_of_folder("/more"), writer.name_of_folder("/new")) == ("a", None)
    assert [writer.name_of("a", folder) for folder in ("/more", "/new")] == ["a", "a_2"]
    writer.append("a_2", images(["6"], "/february"))
    assert [writer.name_of("a", folder) for folder in ("/february", "/march")] == ["a_2", "a_3"]
    assert [writer.remove(name) for name in ("a", "b", "a_2")] == [True, False, True]


def test_a_shard_that_is_missing_changed_or_of_another_model_is_one_line_and_nothing_is_lost(run):
    add(run, "a", ["1", "2"])
    add(run, "b", ["3"], "/b")
    path = shards(run)[0]
    whole = path.read_bytes()
    advice = "add the images of 'a' in /more again with extract_features.py --hash_with or eval.py --add$"
    changed = bytearray(whole)
    changed[200] ^= 1
    for content in (whole[:-1], changed):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{path} is not the file that was listed; {advice}"):
            added(run)
    path.write_bytes(whole)  # at another time: read and compared
    assert added(run) == ["/more/1", "/more/2", "/b/3"]
    path.unlink()
    with pytest.raises(UserError, match=f"{path} is missing; {advice}"):
        added(run)
    assert len(opened(run, "train")) == 6  # in which nothing added is searched
    for change, words in (
        ({"files": {layout.MODEL: "01"}}, "holds codes of another model than"),
        ({"extractor": "y"}, "holds codes of features of 'x', .* was trained on 'y'"),
    ):
        path.write_bytes(whole)
        inputs = dataclasses.replace(run.inputs, extractor=change.get("extractor", "x"))
        outcome = dataclasses.replace(run.outcome, files=change.get("files", run.outcome.files))
        with pytest.raises(UserError, match=f"{words}.*; {advice}"):
            added(dataclasses.replace(run, inputs=inputs, outcome=outcome))
    with pytest.raises(UserError, match=r"holds codes of 12 bits, .* has codes of 8"):
        added(dataclasses.replace(run, codes=noisy_codes(bits=8)))
    path.unlink()
    writer = ArchiveWriter(run)
    writer.append("b", images(["4"], "/b"))
    writer.remove_images("/more", lambda _: True)
    writer.commit()  # which leaves what it cannot read
    with pytest.raises(UserError, match=f"{path} is missing"):
        added(run)
    path.write_bytes(whole)
    assert added(run) == ["/more/1", "/more/2", "/b/3", "/b/4"]
    path.unlink()
    writer = ArchiveWriter(run)
    writer.remove_images("/more", lambda _: True, damaged=True)
    writer.commit()
    assert added(run) == ["/b/3", "/b/4"]


def test_a_list_that_is_gone_or_changed_and_images_of_an_earlier_version_are_one_line(run):
    add(run, "a", ["1"])
    folder = run.folder / layout.ARCHIVES
    path, again = (
        folder / layout.ARCHIVE_LIST,
        f"again with extract_features.py --hash_with or eval.py --add once {folder}",
    )
    content = path.read_text(encoding="utf-8")
    path.write_text(content.replace("/more", "/less"), encoding="utf-8")
    with pytest.raises(UserError, match=f"{path} was changed after it was written; make it {again} is deleted"):
        added(run)
    path.unlink()
    for call in (added, ArchiveWriter):
        with pytest.raises(UserError, match=f"{path} is missing; make it with "):
            call(run)
    path.write_text(content, encoding="utf-8")
    (folder / "more.npz").touch()
    with pytest.raises(UserError, match=f"{folder} holds images that an earlier version added; add them {again}"):
        added(run)
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
    path = run.folder / layout.ARCHIVES / layout.ARCHIVE_LIST
    old = path.read_text(encoding="utf-8")
    add(run, "a", ["3"])  # which replaces the shard
    new = path.read_text(encoding="utf-8")
    path.write_text(old, encoding="utf-8")

    def overtaken(run, entry):
        path.write_text(new, encoding="utf-8")
        return read_shard(run, entry)

    monkeypatch.setattr("mhcln.storage.archive.read_shard", overtaken)
    assert added(run) == ["/more/1", "/more/2", "/more/3"]


def test_a_shard_has_the_arrays_of_codes_and_a_sort_order_that_are_mapped(run):
    add(run, "a", ["b/é.tif", "a.tif"])
    wanted = images(["b/é.tif", "a.tif"])
    with np.load(shards(run)[0]) as stored:
        for name in ("codes", "bits", "labels", "paths", "class_names", "images_dir", "extractor", "stamps"):
            np.testing.assert_array_equal(stored[name], getattr(wanted, name))
        assert stored["path_order"].tolist() == [1, 0]
    shard = read_shard(run, read_entries(run)[0])
    for name in ("codes", "levels", "rows", "paths", "lonlat"):
        assert getattr(shard, name).ctypes.data % 64 == 0
    np.testing.assert_array_equal(shard.unsorted().levels, wanted.levels)


def test_an_empty_archive_is_refused_and_activations_are_used_where_they_are(run, console):
    empty = dataclasses.replace(run, codes=run.codes.at([]))
    with pytest.raises(UserError, match="has no images in --archive=test; choose another --archive"):
        opened(empty, "test")
    with pytest.raises(UserError, match=r"has no images in --archive=all; add images with eval\.py --add"):
        opened(empty)
    add(run, "a", ["1"])
    assert len(opened(empty)) == 1
    index_of(opened(run), console)
    assert console.warned[0].startswith(f"{OWN} of {OWN + 1} images have no activations")
    values = activations(5, OWN)
    write_activations(run.folder, values[::-1].copy(), run.codes.paths[::-1])
    np.testing.assert_array_equal(opened(run).parts[0].levels, quantise(values))
    np.testing.assert_array_equal(opened(run, "test").parts[0].levels, quantise(values)[run.codes.rows_of_part("test")])
