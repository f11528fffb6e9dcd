"""`extract_features.py --hash_with`: the same codes as by way of features, continued where it was stopped."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import RecordingConsole, run_here

from mhcln.backbone.recipe import BackboneOptions, Inference
from mhcln.console import UserError
from mhcln.demo.scenes import draw_scene
from mhcln.hamming.codes import unpack
from mhcln.pipeline import extraction
from mhcln.pipeline import hash_images as pipeline_hash_images
from mhcln.pipeline.add_images import add_images
from mhcln.pipeline.additions import ArchiveWriter
from mhcln.pipeline.extract import extract_features as extract
from mhcln.pipeline.extraction import ExtractOptions
from mhcln.pipeline.hash_images import hash_images
from mhcln.pipeline.opened_run import open_run
from mhcln.pipeline.search import SearchOptions, search
from mhcln.pipeline.workers import ClusterOptions
from mhcln.storage import layout, runs
from mhcln.storage.archive import Archive
from mhcln.storage.coded_images import read_codes, write_codes
from mhcln.storage.files import locked
from mhcln.storage.partial_features import PartialFeatures


@pytest.fixture
def dump(pipeline, tmp_path) -> Path:
    return shutil.copytree(pipeline / "dump", tmp_path / "dump")


@pytest.fixture
def chips(pipeline, tmp_path) -> Path:
    """A folder of 12 images without classes."""
    return shutil.copytree(
        pipeline / "images",
        tmp_path / "chips",
        ignore=lambda _, names: [name for name in names if name.endswith(".tif") and name[-5] > "2"],
    )


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(pipeline_hash_images, "PART_IMAGES", 5)


def options_of(dump: Path, chips: Path, **changes) -> ExtractOptions:
    return dataclasses.replace(ExtractOptions(chips, dump, unlabelled=True, batch_size=2, device="cpu"), **changes)


def hashed(dump: Path, chips: Path, **changes) -> RecordingConsole:
    console = RecordingConsole()
    hash_images(dump / "K12", options_of(dump, chips, **changes), console)
    return console


def archive_of(dump: Path) -> Archive:
    return open_run(dump, "K12").archive("all")


def added(dump: Path) -> list[str]:
    return [path for part in archive_of(dump).parts[1:] for path in part.paths]


def paths_in(chips: Path) -> list[str]:
    return sorted(path.relative_to(chips).as_posix() for path in chips.rglob("*.*"))


@pytest.mark.usefixtures("small_parts")
def test_codes_are_those_of_the_way_by_features_and_no_features_are_kept(dump, chips, pipeline, tmp_path):
    before = sorted(path.name for path in dump.iterdir())
    flags = [f"--hash_with={dump / 'K12'}", f"--images_dir={chips}", "--unlabelled", f"--dump_dir={dump}"]
    console = run_here("extract_features.py", *flags)
    assert sorted(path.name for path in dump.iterdir()) == before
    assert console.said[-1] == f"12 images in {dump / 'K12' / 'archives'}, chips"
    straight = archive_of(dump)

    other = shutil.copytree(pipeline / "dump", tmp_path / "other")
    model = BackboneOptions(pipeline / "model")
    extract(options_of(tmp_path / "features", chips, backbone=model), RecordingConsole())
    add_images(runs.read_run(other / "K12"), tmp_path / "features", "cpu", RecordingConsole())
    by_features = archive_of(other)

    assert list(straight.parts[1].paths) == list(by_features.parts[1].paths) == paths_in(chips)
    np.testing.assert_array_equal(straight.parts[1].codes, by_features.parts[1].codes)
    np.testing.assert_array_equal(straight.parts[1].labels, -1)
    np.testing.assert_array_equal(straight.parts[1].stamps, by_features.parts[1].stamps)
    levels = [each.parts[1].unsorted().levels.astype(int) for each in (straight, by_features)]
    assert np.abs(levels[0] - levels[1]).max() <= 1
    np.testing.assert_array_equal(levels[0] > 127, unpack(straight.parts[1].codes, 12))
    # images added by way of features are known, and not extracted again
    assert "12 of 12 images are in the archive already" in hashed(other, chips).said


def test_an_added_image_is_found_by_its_path_and_by_its_file(dump, chips):
    draw_scene("runway", 9).resize((96, 96)).save(chips / "new.tif")
    hashed(dump, chips)
    for query in ("new.tif", str(chips / "new.tif")):
        console = RecordingConsole()
        search(open_run(dump, "K12"), SearchOptions(query=query, k=53, device="cpu"), console)
        assert console.said[-2] == f"1 query in 53 images, results in {dump / 'K12' / layout.QUERIES}"
        (line,) = (line for line in console.said if line.endswith("  new.tif"))
        assert line.split()[1:] == ["0", "-", "new.tif"]


@pytest.mark.usefixtures("small_parts")
def test_it_goes_on_where_it_was_stopped(dump, chips, monkeypatch):
    commit, commits = ArchiveWriter.commit, []

    def stopped(writer):
        commits.append(commit(writer))
        if len(commits) == 2:  # the first one removes what a killed process left
            raise KeyboardInterrupt

    monkeypatch.setattr(ArchiveWriter, "commit", stopped)
    with pytest.raises(KeyboardInterrupt):
        hashed(dump, chips)
    assert added(dump) == paths_in(chips)[:5]
    save, saved = PartialFeatures.save, []

    def killed(partial, batch, *content):
        saved.append(batch)
        if len(saved) == 3:
            raise OSError(5, "killed here")
        save(partial, batch, *content)

    monkeypatch.setattr(PartialFeatures, "save", killed)
    with pytest.raises(OSError, match="killed here"):
        hashed(dump, chips)
    assert added(dump) == paths_in(chips)[:5]
    monkeypatch.setattr(PartialFeatures, "save", save)
    console = hashed(dump, chips)
    assert console.said[1:4] == [
        "5 of 12 images are in the archive already",
        "continuing an interrupted extraction: 4 of 5 images are done",
        "10 of 12 images are done",
    ]
    assert added(dump) == paths_in(chips)
    assert not (dump / layout.PARTIAL_FEATURES).exists()


@pytest.mark.usefixtures("small_parts")
def test_part_work_of_images_that_were_added_is_dropped_without_a_warning(dump, chips, monkeypatch):
    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(PartialFeatures, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        hashed(dump, chips)
    assert added(dump) == paths_in(chips)[:5]
    assert (dump / layout.PARTIAL_FEATURES).is_dir()
    monkeypatch.undo()
    monkeypatch.setattr(pipeline_hash_images, "PART_IMAGES", 5)
    assert hashed(dump, chips).warned == []
    assert added(dump) == paths_in(chips)


def test_a_folder_that_changed_is_followed(dump, chips, monkeypatch):
    hashed(dump, chips)
    codes = {path: archive_of(dump).parts[1].codes[row] for row, path in enumerate(added(dump))}
    first, second, *rest = paths_in(chips)
    (chips / first).unlink()
    draw_scene("runway", 9).resize((96, 96)).save(chips / second)
    draw_scene("forest", 9).resize((96, 96)).save(chips / "new.tif")
    console = hashed(dump, chips)
    assert "10 of 12 images are in the archive already" in console.said
    assert added(dump) == [*rest, "new.tif", second]
    part = archive_of(dump).parts[1]
    assert all((part.codes[row] == codes[path]).all() for row, path in enumerate(rest))
    os.chmod(chips / second, 0o600)  # noqa: PTH101, changes the time of status change alone
    extracted = []
    monkeypatch.setattr(extraction, "compute_missing", lambda *_: extracted.append(1))
    hashed(dump, chips)
    assert not extracted


def test_classes_are_kept_and_a_lost_shard_is_made_again(dump, chips):
    hashed(dump, chips, unlabelled=False, dataset="mine")
    archive = archive_of(dump)
    assert [archive.class_of(row) for row in range(40, 52)] == [path.split("/")[0] for path in paths_in(chips)]
    (shard,) = (dump / "K12" / layout.ARCHIVES / layout.ARCHIVE_SHARDS).iterdir()
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"was listed; add the images of 'chips' in .* again with extract_features\.py"):
        archive_of(dump)
    hashed(dump, chips)
    assert added(dump) == paths_in(chips)


@pytest.mark.usefixtures("small_parts")
def test_images_that_cannot_be_read_stop_it_or_are_left_out(dump, chips):
    broken = paths_in(chips)[6]
    (chips / broken).write_bytes(b"II*\0")
    with pytest.raises(UserError, match=f"1 of 12 images cannot be read: {broken} .*--on_error=skip"):
        hashed(dump, chips)
    assert added(dump) == paths_in(chips)[:5]
    console = hashed(dump, chips, skip_broken=True)
    assert added(dump) == [path for path in paths_in(chips) if path != broken]
    assert broken in (dump / layout.SKIPPED).read_text(encoding="utf-8")
    assert f"1 of 12 images were skipped, see {dump / layout.SKIPPED}" in console.warned
    shutil.rmtree(chips)
    chips.mkdir()
    (chips / "only.tif").write_bytes(b"II*\0")
    with pytest.raises(UserError, match=r"1 of 1 images cannot be read: only\.tif .*; repair or remove them$"):
        hashed(dump, chips, skip_broken=True)


def test_the_backbone_must_be_the_run_s_own(dump, chips, pipeline):
    flags = BackboneOptions(pipeline / "model", inference=Inference(rotations=8))
    with pytest.raises(UserError, match=r"the backbone is '.*views=8', .*K12 was trained on '.*views=1'; leave out"):
        hashed(dump, chips, backbone=flags)
    with pytest.raises(UserError, match=r"the backbone is '.*seed=3"):
        hashed(dump, chips, backbone=BackboneOptions(random_seed=3))
    as_it_was = BackboneOptions(pipeline / "model", inference=Inference(tiff="jpeg"))
    hashed(dump, chips, backbone=as_it_was)
    codes, record = read_codes(dump / "K12"), runs.read_record(dump / "K12")
    for gone, words in (("/gone.pb", r"its file /gone\.pb is gone"), ("", "its file is not known")):
        write_codes(dump / "K12", dataclasses.replace(codes, model_file=gone))
        runs.finish(dump / "K12", record, record.outcome)
        with pytest.raises(UserError, match=f"{words}; give its folder as --model_dir"):
            hashed(dump, chips)
    with pytest.raises(
        UserError, match=r"--hash_with=.*nowhere is not the folder of a run; train one with trainer\.py"
    ):
        hash_images(dump / "nowhere", options_of(dump, chips), RecordingConsole())


def test_two_that_write_and_a_flag_of_features_are_refused(dump, chips):
    for folder in (dump, dump / "K12" / layout.ARCHIVES):
        with locked(folder), pytest.raises(UserError, match=f"{folder}: another process is writing here"):
            hashed(dump, chips)
    with pytest.raises(UserError, match="--shard_images is for features, and --hash_with keeps none"):
        hashed(dump, chips, shard_images=5)


@pytest.mark.usefixtures("small_parts")
def test_workers_hash_part_after_part(dump, chips, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_worker_niceness", "0")
    alone = shutil.copytree(dump, tmp_path / "alone")
    hashed(alone, chips)
    hashed(dump, chips, cluster=ClusterOptions(workers=1))
    first, second = (archive_of(each).parts[1] for each in (alone, dump))
    assert list(first.paths) == list(second.paths) == paths_in(chips)
    np.testing.assert_array_equal(first.codes, second.codes)
