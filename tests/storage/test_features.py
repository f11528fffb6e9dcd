"""Features in one file and in shards: they come back as they were, and a list of other files is one line."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from factories import image_table

from mhcln.console import UserError
from mhcln.storage import files
from mhcln.storage.features import (
    Features,
    file_of,
    read_features,
    read_image_table,
    read_intact,
    shard_sizes,
    write_features,
)
from mhcln.storage.file_list import read_list
from mhcln.storage.image_table import ImageTable
from mhcln.storage.mapped import MappedArray, state_of
from mhcln.storage.npz import DamagedError
from mhcln.storage.source import write_json_content

COUNT, WIDTH, SIZE = 10, 6, 4
VECTORS = np.random.default_rng(0).normal(size=(COUNT, WIDTH)).astype(np.float32)
TABLE = image_table(
    [f"airplane/{row:02} é.tif" for row in range(COUNT)],
    np.arange(COUNT) % 3,
    stamps=np.arange(3 * COUNT).reshape(-1, 3),
    checksums=np.arange(COUNT),
    lonlat=np.where(np.arange(COUNT)[:, None, None] % 2, np.nan, np.ones((COUNT, 5, 2))),
    inputs="of these images",
)
CONTENT = Features(VECTORS, TABLE)


def assert_same(found: ImageTable, wanted: ImageTable) -> None:
    for name, value in vars(wanted).items():
        np.testing.assert_array_equal(getattr(found, name), value)


@pytest.fixture
def dump(tmp_path) -> Path:
    write_features(tmp_path, CONTENT, SIZE)
    return tmp_path


def parts(dump: Path) -> list[Path]:
    """The shards, in the order of the list."""
    return [dump / "features" / entry.file for entry in read_list(dump / "features.json", "")]


def names(dump: Path) -> list[str]:
    return sorted(str(path.relative_to(dump)) for path in dump.rglob("*") if path.is_file())


def test_features_without_classes_and_folder_come_back(tmp_path):
    table = ImageTable(np.full(COUNT, -1, np.int32), TABLE.paths, class_names=[])
    write_features(tmp_path, Features(VECTORS, table))
    assert_same(read_features(tmp_path).images, table)


def test_shards_come_back_as_the_features_that_were_written(dump):
    assert (shard_sizes(dump), len(parts(dump))) == ([4, 4, 2], 3)
    found = read_features(dump)
    assert_same(found.images, TABLE)
    assert_same(read_image_table(dump), TABLE)
    assert found.sha256 == files.sha256_of(dump / "features.json")
    assert (found.vectors.shape, found.vectors.dtype, len(found.vectors)) == ((COUNT, WIDTH), np.float32, COUNT)
    assert (np.asarray(found.vectors) == VECTORS).all()
    for rows in (slice(None), slice(3, 9), slice(8, 2, -2), slice(5, 5), [9, 0, 4, 4, 3], np.array([], np.int64)):
        np.testing.assert_array_equal(found.vectors[rows], VECTORS[rows], strict=True)
    for rows in ([COUNT], [-1]):
        with pytest.raises(IndexError):
            found.vectors[rows]
    for place in (dump / "features.json", str(dump)):
        assert read_features(place).sha256 == found.sha256
    assert read_features(parts(dump)[1]).images.paths == TABLE.paths[4:8]  # a file of features of its own


def test_where_both_are_the_one_file_counts_and_a_writer_removes_the_other(dump):
    other = dataclasses.replace(CONTENT, vectors=VECTORS + 1)
    (dump / "other").mkdir()
    write_features(dump / "other", other, COUNT)
    shutil.move(dump / "other/features.npz", dump)
    (dump / "other").rmdir()
    assert file_of(dump).name == "features.npz"
    assert (read_features(dump).vectors == VECTORS + 1).all()
    (dump / "features" / "of the user.txt").touch()
    write_features(dump, CONTENT, SIZE)
    assert (file_of(dump).name, (dump / "features.npz").exists()) == ("features.json", False)
    write_features(dump, other)
    assert names(dump) == ["features.npz", "features/of the user.txt"]


def test_features_of_shards_replace_themselves(dump):
    write_features(dump, read_features(dump), 3)
    assert (read_features(dump).vectors[:] == VECTORS).all()
    assert (shard_sizes(dump), len(names(dump))) == ([3, 3, 3, 1], 5)


@pytest.mark.parametrize("how", ["missing", "changed", "another", "cut", "written again"])
def test_a_shard_that_is_not_the_written_one_is_one_line_and_the_others_are_kept(dump, how):
    first, part, _ = parts(dump)
    if how == "missing":
        part.unlink()
    elif how == "changed":
        content = bytearray(part.read_bytes())
        content[400] ^= 1
        part.write_bytes(content)
    elif how == "another":
        shutil.copy(first, part)
    elif how == "cut":
        part.write_bytes(part.read_bytes()[:-100])
    else:
        files.write_npz(part, {**files.read_npz(part, ""), "more": 1})
    with pytest.raises(UserError, match=rf"{part.name}.*make it again with extract_features\.py") as caught:
        read_features(dump)
    assert "\n" not in str(caught.value)
    left = read_intact(dump)
    assert left.images.paths == TABLE.paths[:4] + TABLE.paths[8:]
    assert left.images.inputs == ""
    assert (left.vectors[:] == np.concatenate([VECTORS[:4], VECTORS[8:]])).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "../x.npz"}, r"it lists '\.\./x\.npz'"),
        ({"file": "the first"}, "it lists a file twice"),
        ({"file": "part-9.npz"}, r"part-9\.npz is missing"),
        ({"images": 3}, "its rows, its paths and its entry differ in number"),
        ({"images": "4"}, "images is 4"),
        ({"sha256": "00"}, r"part-[0-9a-f]{32}\.npz is not the file that was listed"),
        ({"sha256": 3}, "sha256 is 3"),
    ],
)
def test_a_list_of_something_else_is_refused(dump, change, message):
    entries = [dict(vars(entry)) for entry in read_list(dump / "features.json", "")]
    change = {name: entries[0][name] if value == "the first" else value for name, value in change.items()}
    write_json_content(dump / "features.json", {"files": [entries[0], {**entries[1], **change}, entries[2]]})
    with pytest.raises(UserError, match=rf"{message}.*make it again with extract_features\.py"):
        read_features(dump)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"files": []}, "it lists no file"),
        ({"files": ["part-00000000.npz"]}, "files is "),
        ({"files": [{"file": "part-00000000.npz"}]}, "does not say 'images'"),
        ({"images": 1, "shards": []}, "files is None"),  # an earlier version
    ],
)
def test_a_list_without_shards_is_refused(dump, content, message):
    write_json_content(dump / "features.json", content)
    with pytest.raises(UserError, match=rf"features\.json.*{message}.*with extract_features\.py"):
        read_features(dump)
    assert read_intact(dump) is None


def test_shards_of_two_widths_are_refused(dump):
    entries = [dict(vars(entry)) for entry in read_list(dump / "features.json", "")]
    write_features(dump / "x", Features(VECTORS[4:8, 1:], TABLE.at(range(4, 8))))
    shutil.move(dump / "x/features.npz", parts(dump)[1])
    entries[1] |= {"sha256": files.sha256_of(parts(dump)[1]), "size": parts(dump)[1].stat().st_size}
    write_json_content(dump / "features.json", {"files": entries})
    with pytest.raises(UserError, match="shards are of 2 widths"):
        read_features(dump)


def test_a_shard_that_is_replaced_while_it_is_read_is_noticed(dump):
    vectors, part = read_features(dump).vectors, parts(dump)[1]
    assert (vectors[4:6] == VECTORS[4:6]).all()
    content = part.read_bytes()
    part.unlink()
    line = rf"{part.name} was replaced while it was being read; run the command again"
    with pytest.raises(UserError, match=line):
        vectors[4:6]
    part.write_bytes(content)
    with pytest.raises(UserError, match=line):
        vectors[4:6]
    assert (vectors[:4] == VECTORS[:4]).all()


@pytest.mark.parametrize(
    "array", [np.asfortranarray(VECTORS), VECTORS.astype(">f4"), VECTORS.astype(np.float64), VECTORS[:, :0], VECTORS[0]]
)
def test_only_float32_that_lie_row_by_row_are_mapped(tmp_path, array):
    path = tmp_path / "x.npz"
    files.write_npz(path, {"features": array, "other": VECTORS})
    for name in ("features", "missing"):
        with pytest.raises(DamagedError):
            MappedArray.find(path, name, state_of(path))
    assert MappedArray.find(path, "other", state_of(path)).rows == COUNT
    np.savez_compressed(path, features=VECTORS)
    with pytest.raises(DamagedError):
        MappedArray.find(path, "features", state_of(path))


def test_tables_are_joined_and_taken_apart():
    nothing = image_table(["x.tif"], [0], device="A100", skipped=1, skipped_paths=["y"], skipped_reasons=["cut"])
    found = ImageTable.joined([dataclasses.replace(TABLE, device="CPU and A100"), nothing])
    assert (found.device, found.skipped, found.skipped_paths) == ("CPU and A100", 1, ["y"])
    assert found.stamps[-1].tolist() == [-2] * 3  # not known
    assert np.isnan(found.lonlat[-1]).all()
    assert_same(
        found.at(range(COUNT)), dataclasses.replace(found, **{name: getattr(TABLE, name) for name in TABLE.PER_IMAGE})
    )
    assert found.rows_of(["x.tif", TABLE.paths[3]]).tolist() == [3, COUNT]
