"""Features in shards: they come back as they were, and a list that names something else is one line."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from factories import image_table

from mhcln.console import UserError
from mhcln.storage import files, shard_writing, shards
from mhcln.storage.features import file_of, read_features, read_image_table, read_intact, write_features
from mhcln.storage.features_file import Features, ImageTable
from mhcln.storage.mapped import MappedArray, MappedVectors, state_of
from mhcln.storage.source import write_json_content
from mhcln.storage.zip_members import DamagedError

COUNT, WIDTH, SIZE = 10, 6, 4
VECTORS = np.random.default_rng(0).normal(size=(COUNT, WIDTH)).astype(np.float32)
TABLE = image_table(
    [f"airplane/{row:02} é.tif" for row in range(COUNT)],
    np.arange(COUNT) % 3,
    stamps=np.arange(3 * COUNT).reshape(-1, 3),
    lonlat=np.where(np.arange(COUNT)[:, None, None] % 2, np.nan, np.ones((COUNT, 5, 2))),
    inputs="of these images",
    skipped=2,
)
CONTENT = Features(VECTORS, TABLE)


def same(found: ImageTable, wanted: ImageTable) -> bool:
    for name, value in vars(wanted).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(found, name), value)
        else:
            assert getattr(found, name) == value
    return True


@pytest.fixture
def dump(tmp_path) -> Path:
    write_features(tmp_path, CONTENT, SIZE)
    return tmp_path


def names(dump: Path) -> list[str]:
    return sorted(str(path.relative_to(dump)) for path in dump.rglob("*") if path.is_file())


def test_shards_come_back_as_the_features_that_were_written(dump):
    assert names(dump) == ["features.json", *(f"features/part-0000{number}.npz" for number in range(3))]
    found = read_features(dump)
    assert same(found.images, TABLE)
    assert same(read_image_table(dump), TABLE)
    assert found.sha256 == files.sha256_of(dump / "features.json")
    assert (found.vectors.shape, found.vectors.dtype, len(found.vectors)) == ((COUNT, WIDTH), np.float32, COUNT)
    assert (np.asarray(found.vectors) == VECTORS).all()
    for rows in (slice(None), slice(3, 9), slice(8, 2, -2), slice(5, 5), [9, 0, 4, 4, 3], np.array([], np.int64)):
        part = found.vectors[rows]
        assert type(part) is np.ndarray
        np.testing.assert_array_equal(part, VECTORS[rows], strict=True)
    for rows in ([COUNT], [-1]):
        with pytest.raises(IndexError):
            found.vectors[rows]
    for place in (dump / "features.json", str(dump)):
        assert read_features(place).sha256 == found.sha256


def test_a_shard_is_a_file_of_features_of_its_own(dump):
    part = read_features(dump / "features" / "part-00001.npz")
    assert part.images.paths == TABLE.paths[4:8]
    with np.load(dump / "features" / "part-00002.npz") as arrays:
        assert (arrays["features"] == VECTORS[8:]).all()


def test_so_many_images_are_one_file_and_more_are_shards(tmp_path):
    for name, shard_images in (("a", COUNT), ("b", None)):
        (tmp_path / name).mkdir()
        write_features(tmp_path / name, CONTENT, shard_images)
    assert names(tmp_path / "a") == ["features.npz"]
    assert (tmp_path / "a/features.npz").read_bytes() == (tmp_path / "b/features.npz").read_bytes()
    write_features(tmp_path / "a", CONTENT, COUNT - 1)
    assert names(tmp_path / "a") == ["features.json", "features/part-00000.npz", "features/part-00001.npz"]


def test_where_both_are_the_one_file_counts_and_a_writer_removes_the_other(dump):
    other = dataclasses.replace(CONTENT, vectors=VECTORS + 1)
    (dump / "other").mkdir()
    write_features(dump / "other", other)
    shutil.move(dump / "other/features.npz", dump)
    assert file_of(dump).name == "features.npz"
    assert (read_features(dump).vectors == VECTORS + 1).all()
    write_features(dump, CONTENT, SIZE)
    assert file_of(dump).name == "features.json"
    assert not (dump / "features.npz").exists()
    write_features(dump, other)
    assert names(dump) == ["features.npz"]
    assert not (dump / "features").exists()


def test_old_shards_stay_until_the_new_list_is_there(dump):
    def read(rows: np.ndarray) -> np.ndarray:
        if rows[0]:
            raise KeyboardInterrupt
        return VECTORS[rows] + 1

    with pytest.raises(KeyboardInterrupt):
        shard_writing.write_shards(dump, TABLE, read, 5)
    assert (read_features(dump).vectors[:] == VECTORS).all()
    assert "features/part-00003.npz" in names(dump)
    assert shard_writing.held_images(dump, TABLE, 5) == 5
    assert shard_writing.held_images(dump, dataclasses.replace(TABLE, inputs="of others"), 5) == 0
    assert shard_writing.held_images(dump, TABLE, 6) == 0
    (dump / "features" / "of the user.txt").touch()
    shard_writing.write_shards(dump, TABLE, lambda rows: VECTORS[rows] + 1, 5)
    assert (read_features(dump).vectors[:] == VECTORS + 1).all()
    assert names(dump) == ["features.json", "features/of the user.txt", *(f"features/part-0000{n}.npz" for n in (3, 4))]


def test_features_of_shards_replace_themselves(dump):
    write_features(dump, dataclasses.replace(read_features(dump), images=TABLE), 3)
    assert (read_features(dump).vectors[:] == VECTORS).all()
    assert [shard.images for shard in shards.read_list(dump / "features.json")] == [3, 3, 3, 1]


def damage(dump: Path, how: str) -> None:
    part = dump / "features" / "part-00001.npz"
    if how == "missing":
        part.unlink()
    elif how == "changed":
        content = bytearray(part.read_bytes())
        content[400] ^= 1
        part.write_bytes(content)
    elif how == "another":
        shutil.copy(dump / "features" / "part-00000.npz", part)
    elif how == "cut":
        part.write_bytes(part.read_bytes()[:-100])
    else:
        files.write_npz(part, {**files.read_npz(part, ""), "more": 1})


@pytest.mark.parametrize("how", ["missing", "changed", "another", "cut", "written again"])
def test_a_shard_that_is_not_what_was_written_is_one_line_and_the_others_are_kept(dump, how):
    damage(dump, how)
    with pytest.raises(UserError, match=r"part-00001\.npz.*make it again with extract_features\.py") as caught:
        read_features(dump)
    assert "\n" not in str(caught.value)
    if how in ("missing", "cut", "another"):
        with pytest.raises(UserError, match=r"make it (again )?with extract_features\.py"):
            read_image_table(dump)
    left = read_intact(dump)
    assert left.images.paths == TABLE.paths[:4] + TABLE.paths[8:]
    assert left.images.inputs == ""
    assert (left.vectors[:] == np.concatenate([VECTORS[:4], VECTORS[8:]])).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "../features/part-00000.npz"}, r"it lists '\.\./features"),
        ({"file": "features/part-00000.npz"}, "does not list different shards"),
        ({"file": "features/part-00009.npz"}, r"part-00009\.npz is missing, which features\.json lists"),
        ({"images": 3}, "the images of its shards are not its own"),
        ({"images": 0}, "it lists 0 images"),
        ({"images": "4"}, "images is 4"),
        ({"sha256": "00"}, r"part-00001\.npz is not the one that features\.json lists"),
        ({"sha256": 3}, "sha256 is 3"),
    ],
)
def test_a_list_of_something_else_is_refused(dump, change, message):
    entries = [vars(shard) for shard in shards.read_list(dump / "features.json")]
    entries[1] = {**entries[1], **change}
    write_json_content(dump / "features.json", {"images": COUNT, "shards": entries})
    with pytest.raises(UserError, match=rf"{message}.*make it again with extract_features\.py"):
        read_features(dump)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": 0, "shards": []}, "does not list different shards"),
        ({"images": 1, "shards": ["features/part-00000.npz"]}, "not described by an object"),
        ({"images": 1, "shards": [{"file": "features/part-00000.npz"}]}, "does not say 'images'"),
        ({"images": 1}, "does not say 'shards'"),
        ({"images": 1, "shards": 3}, "shards is 3"),
    ],
)
def test_a_list_without_shards_is_refused(dump, content, message):
    write_json_content(dump / "features.json", content)
    with pytest.raises(UserError, match=rf"features\.json.*{message}"):
        read_features(dump)
    assert read_intact(dump) is None


def test_a_list_that_was_changed_by_hand_is_refused(dump):
    text = (dump / "features.json").read_text(encoding="utf-8")
    (dump / "features.json").write_text(text.replace('"images": 10', '"images": 11'), encoding="utf-8")
    with pytest.raises(UserError, match="was changed after it was written"):
        read_features(dump)


def test_counts_and_widths_are_those_of_the_shards(dump):
    for number, images, width in ((1, 2, WIDTH), (1, 4, WIDTH - 1)):
        entries = [vars(shard) for shard in shards.read_list(dump / "features.json")]
        part = dump / entries[number]["file"]
        (dump / "x").mkdir(exist_ok=True)
        rows = slice(4, 4 + images)
        write_features(dump / "x", Features(VECTORS[rows, :width], TABLE.part(rows)))
        shutil.move(dump / "x/features.npz", part)
        entries[number]["sha256"] = files.sha256_of(part)
        write_json_content(dump / "features.json", {"images": COUNT, "shards": entries})
        what = "has 2 images, features.json lists 4" if images == 2 else "shards are of 2 widths"
        with pytest.raises(UserError, match=what):
            read_features(dump)


def test_a_shard_that_is_replaced_while_it_is_read_is_noticed(dump):
    vectors = read_features(dump).vectors
    assert (vectors[4:6] == VECTORS[4:6]).all()
    part = dump / "features" / "part-00001.npz"
    content = part.read_bytes()
    part.unlink()
    with pytest.raises(UserError, match=r"part-00001\.npz was replaced while it was being read; run the command again"):
        vectors[4:6]
    part.write_bytes(content)
    with pytest.raises(UserError, match="was replaced"):
        vectors[4:6]
    assert (vectors[:4] == VECTORS[:4]).all()


def test_one_file_is_mapped_too_where_that_can_be(tmp_path):
    assert read_intact(tmp_path) is None
    write_features(tmp_path, CONTENT)
    mapped = read_intact(tmp_path)
    assert isinstance(mapped.vectors, MappedVectors)
    assert (mapped.vectors[:] == VECTORS).all()
    assert same(mapped.images, TABLE)
    by_hand = {**vars(TABLE), "features": VECTORS.astype(np.float16), "format": 1}
    np.savez(tmp_path / "features.npz", **by_hand)
    assert (read_intact(tmp_path).vectors == VECTORS.astype(np.float16)).all()
    write_features(tmp_path, CONTENT)
    content = bytearray((tmp_path / "features.npz").read_bytes())
    content[300] ^= 1  # within the vectors
    (tmp_path / "features.npz").write_bytes(content)
    assert read_intact(tmp_path) is None


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
