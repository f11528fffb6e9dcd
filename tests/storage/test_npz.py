"""What an `.npz` claims is compared with what it holds: names, sizes, kinds; whatever else it claims is refused."""

import itertools
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.storage import files, npz, zip_members

ARRAYS = {
    "features": np.arange(24, dtype=np.float32).reshape(6, 4),
    "paths": np.array(["a/é.tif", "b/x y.jpg"]),
    "skipped": 3,
}
HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 4), }"


@pytest.fixture
def path(tmp_path) -> Path:
    files.write_npz(tmp_path / "x.npz", ARRAYS)
    return tmp_path / "x.npz"


def refused(path: Path, names=None, message: str = "") -> None:
    with pytest.raises(UserError, match=rf"x\.npz is damaged \(.*{message}.*make it again with maker"):
        files.read_npz(path, "maker", names)


def changed(path: Path, old: bytes, new: bytes, which: int = 0) -> None:
    """Replace the occurrence number `which` of some bytes."""
    parts = path.read_bytes().split(old)
    path.write_bytes(old.join(parts[: which + 1]) + new + old.join(parts[which + 1 :]))


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    length = (len(header) + 1).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + b"\n" + bytes(data)


@pytest.mark.parametrize("name", [*ARRAYS, "checksum"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_flipped_name_is_found_in_both_places(path, name, place):
    whole, text = path.read_bytes(), f"{name}.npy".encode()
    assert whole.count(text) == 2  # before the array, and in the directory
    start = whole.index(text) if place == 0 else whole.rindex(text)
    for position in range(start, start + len(text)):
        for bit in range(8):
            flipped = bytes([whole[position] ^ 1 << bit])
            path.write_bytes(whole[:position] + flipped + whole[position + 1 :])
            refused(path, ["features", "skipped"])


def test_arrays_that_are_gone_renamed_or_exchanged_are_found(path):
    whole = members(path)
    without = {name: data for name, data in whole.items() if name != "skipped.npy"}
    renamed = {name.replace("skipped", "skippex"): data for name, data in whole.items()}
    another = {**whole, "skipped.npy": whole["skipped.npy"].replace(b"\3", b"\0")}
    for content in (without, renamed, another, {**whole, "more.npy": whole["skipped.npy"]}):
        packed(path, content)
        refused(path, ["features", "skipped"], "not those that were written")
    packed(path, dict(sorted(whole.items())))  # the order says nothing
    assert files.read_npz(path, "maker", ["skipped"]) == {"skipped": 3}


def test_files_of_earlier_versions_and_other_programs_are_read(path):
    for save in (np.savez, np.savez_compressed):
        save(path, **ARRAYS)
        back = files.read_npz(path, "maker")
        assert back.keys() == ARRAYS.keys()
        np.testing.assert_array_equal(back["features"], ARRAYS["features"])


def test_other_programs_read_our_files(path):
    with np.load(path, allow_pickle=False) as content:
        assert set(content.files) == {*ARRAYS, "checksum"}
        np.testing.assert_array_equal(content["paths"], ARRAYS["paths"])


def test_files_beyond_4_gib_are_read(path, monkeypatch):
    whole = path.read_bytes()
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)  # above which sizes and offsets stand in fields of 64 bits
    files.write_npz(path, ARRAYS)
    assert b"PK\6\6" in path.read_bytes()
    assert len(path.read_bytes()) > len(whole)
    back = files.read_npz(path, "maker")
    np.testing.assert_array_equal(back["features"], ARRAYS["features"])
    changed(path, b"PK\6\6", b"PK\6\5")
    refused(path)


DIRECTORY = (  # where a field of an entry begins, its bytes, what is put there, what is said of it
    (8, "<H", 0x1, "neither stored nor deflated"),  # encrypted
    (8, "<H", 0x8, "neither stored nor deflated"),  # sizes behind the data
    (10, "<H", 14, "neither stored nor deflated"),  # LZMA
    (10, "<H", 12, "neither stored nor deflated"),  # bzip2
    (10, "<H", 99, "neither stored nor deflated"),
    (10, "<H", 8, "not where its directory says"),  # deflated, it is not
    (20, "<I", 2**31, "is stored in"),
    (24, "<I", 2**31, "is stored in"),
    (24, "<I", 0xFFFFFFFF, "lacks a size"),
    (28, "<H", 65_535, "not one"),
    (34, "<H", 1, "not one"),  # on another disk
    (42, "<I", 7, "not where its directory says"),
    (42, "<I", 2**31, "beyond the end"),
)


@pytest.mark.parametrize(("at", "kind", "value", "message"), DIRECTORY)
def test_a_directory_that_claims_something_else_is_refused(path, at, kind, value, message):
    whole = bytearray(path.read_bytes())
    struct.pack_into(kind, whole, whole.index(b"PK\1\2") + at, value)
    path.write_bytes(whole)
    refused(path, None, message)


@pytest.mark.parametrize(
    ("at", "kind", "value"), [(8, "<H", 3), (10, "<H", 5), (12, "<I", 2**31), (16, "<I", 2**31), (20, "<H", 1)]
)
def test_an_end_that_claims_another_directory_is_refused(path, at, kind, value):
    whole = bytearray(path.read_bytes())
    struct.pack_into(kind, whole, whole.index(b"PK\5\6") + at, value)
    path.write_bytes(whole)
    refused(path, None, "directory")


def test_a_terabyte_is_refused_before_memory_is_taken(path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    files.write_npz(path, ARRAYS)
    size = len(members(path)["features.npy"])
    whole = path.read_bytes()
    found = whole.index(struct.pack("<QQ", size, size), whole.index(b"PK\1\2"))
    for sizes, message in (((10**12, size), "is stored in"), ((10**12, 10**12), "more than the file has")):
        path.write_bytes(whole[:found] + struct.pack("<QQ", *sizes) + whole[found + 16 :])
        refused(path, None, message)


def test_arrays_over_one_another_are_refused(path):
    packed(path, {"inner.npy": npy(HEADER, bytes(96))})
    inside = np.frombuffer(path.read_bytes(), np.uint8)  # an archive in an array
    np.savez(path, outer=inside, inner=ARRAYS["features"])
    whole = bytearray(path.read_bytes())
    entry = whole.index(b"PK\1\2", whole.rindex(b"outer.npy"))
    struct.pack_into("<2I", whole, entry + 20, *[len(npy(HEADER, bytes(96)))] * 2)
    struct.pack_into("<I", whole, entry + 16, zlib.crc32(npy(HEADER, bytes(96))))
    struct.pack_into("<I", whole, entry + 42, whole.index(inside.tobytes()))
    path.write_bytes(whole)
    refused(path, None, "lies over another array")


def test_a_directory_of_more_fewer_or_equal_names_is_refused(path):
    whole = path.read_bytes()
    for count in (3, 5):
        changed_bytes = bytearray(whole)
        struct.pack_into("<2H", changed_bytes, whole.index(b"PK\5\6") + 8, count, count)
        path.write_bytes(changed_bytes)
        refused(path, None, f"does not hold {count} different arrays")
    packed(path, {"one.npy": npy(HEADER, bytes(96)), "two.npy": npy(HEADER, bytes(96))})
    path.write_bytes(path.read_bytes().replace(b"two.npy", b"one.npy"))
    refused(path, None, "does not hold 2 different arrays")


def test_a_directory_of_very_many_arrays_is_refused(path, monkeypatch):
    monkeypatch.setattr(zip_members, "DIRECTORY_BYTES", 100)
    refused(path, None, "not where it should be")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.replace("(6, 4)", "(6, 5)"), "does not hold"),
        (HEADER.replace("(6, 4)", "(True, 24)"), "plain numbers or text"),
        (HEADER.replace("(6, 4)", "(-6, -4)"), "plain numbers or text"),
        (HEADER.replace("(6, 4)", "(6, 4.0)"), "plain numbers or text"),
        (HEADER.replace("(6, 4)", "(1" + "0" * 17 + ",)"), "does not hold"),
        (HEADER.replace("(6, 4)", "(1, " * 1000 + ")" * 1000), "plain numbers or text"),
        (HEADER + " " * 20_000, "has a header of 20[0-9]* bytes"),
        (HEADER.replace("(6, 4)", "(1, 1, 1, 1, 1, 1, 1, 6, 4)"), "9 dimensions"),
        (HEADER.replace("'<f4'", "[('a', '<f4')]"), "plain numbers or text"),
        (HEADER.replace("'<f4'", "[('a', [('b', '<f4')], (2,))]"), "plain numbers or text"),
        (HEADER.replace("<f4", "|O"), "Python objects"),
        (HEADER.replace("<f4", "|b2"), "'|b2'"),
        (HEADER.replace("<f4", "<f16"), "holds '<f16'"),
        (HEADER.replace("<f4", "|V4"), "holds '|V4'"),
        (HEADER.replace("<f4", "<c8"), "holds '<c8'"),
        (HEADER.replace("<f4", "<M8[s]"), "holds"),
        (HEADER.replace("<f4", "|S4"), "holds"),
        (HEADER.replace("<f4", "<U0"), "does not hold"),
        (HEADER.replace("<f4", "<U99999999999"), "holds"),
        ("[" * 9000, "plain numbers or text"),
        ("__import__('os').mkdir('ran')", "plain numbers or text"),
        ("", "plain numbers or text"),
    ],
)
def test_arrays_of_another_kind_are_refused(path, header, message):
    for version in (1, 2):
        packed(path, {"features.npy": npy(header, bytes(96), version)})
        refused(path, None, message)


def test_empty_arrays_have_sides_that_numpy_can_count(path):
    for sides, right in (("0, 2048", True), ("0, " + "9" * 18 + ", " + "9" * 18, False)):
        packed(path, {"features.npy": npy(HEADER.replace("6, 4", sides))})
        if right:
            assert files.read_npz(path, "maker")["features"].shape == (0, 2048)
        else:
            refused(path, None, "does not hold")


@pytest.mark.parametrize("level", [0, 1, 9])
def test_deflated_arrays_of_any_length_are_read(path, level, monkeypatch):
    for piece, length in itertools.product((1, 64), (*range(1, 80), 640)):
        monkeypatch.setattr(zip_members, "PIECE_BYTES", piece)
        values = np.random.default_rng(0).integers(0, 9, length).astype(np.uint8)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
            archive.writestr(
                "x.npy", npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({length},), }}", values)
            )
        np.testing.assert_array_equal(files.read_npz(path, "maker")["x"], values)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\3\0" + bytes(200), b"\x93NUMPY\2\0" + b"\xff" * 8])
def test_what_is_no_array_is_refused(path, content):
    packed(path, {"features.npy": content})
    refused(path)


def test_bombs_of_many_arrays_are_refused(path):
    zeros = npy(HEADER.replace("(6, 4)", "(4194304,)"), bytes(2**24))
    packed(path, {f"a{number}.npy": zeros for number in range(5)}, zipfile.ZIP_DEFLATED)
    refused(path, None, "claims 83886[0-9]* bytes out of")
    assert files.read_npz(path, "maker", ["a3"])["a3"].nbytes == 2**24


def test_deflated_arrays_that_are_cut_or_hold_more_are_refused(path):
    array = npy(HEADER, np.arange(24, dtype=np.float32).tobytes())
    for content in (array, array + bytes(10), array + b"x", array[:-1]):
        compress = zlib.compressobj(wbits=-15)
        data = compress.compress(content) + compress.flush()
        for stored in (data, data[:-3], b"\xff" + data):
            packed(path, {"features.npy": stored})
            whole = bytearray(path.read_bytes())
            for mark, method, crc, size in ((b"PK\3\4", 8, 14, 22), (b"PK\1\2", 10, 16, 24)):
                start = whole.index(mark)
                struct.pack_into("<H", whole, start + method, 8)
                struct.pack_into("<I", whole, start + crc, zlib.crc32(array))
                struct.pack_into("<I", whole, start + size, len(array))
            path.write_bytes(whole)
            if (content, stored) == (array, data):
                np.testing.assert_array_equal(files.read_npz(path, "maker")["features"], ARRAYS["features"])
            else:
                refused(path)


def test_objects_are_not_written(path):
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        files.write_npz(path, {"paths": np.array(["a", None])})
    assert path.read_bytes() == before


def test_other_files_are_refused(path):
    for content in (b"PK\5\6" + bytes(17), b"PK\5\6" + bytes(18) + b"x", bytes(100), b"\x93NUMPY\1\0" + bytes(90)):
        path.write_bytes(content)
        refused(path)
    path.write_bytes(b"PK\5\6" + bytes(18))  # an archive of nothing
    assert files.read_npz(path, "maker") == {}


def test_arrays_are_mapped_where_they_begin_at_whole_64_bytes(tmp_path):
    path = tmp_path / "mapped.npz"
    arrays = {
        "codes": np.arange(12, dtype=np.uint8).reshape(3, 4),
        "a longer name": np.arange(5, dtype=np.int64),
        "none": np.empty((0, 5, 2)),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    with path.open("wb") as handle:
        npz.write_arrays(handle, arrays, aligned=True)
    with path.open("rb") as handle:
        mapped = npz.map_arrays(handle)
    read = files.read_npz(path, "a test")
    assert mapped.keys() == read.keys() == arrays.keys()
    with np.load(path) as loaded:
        for name, array in arrays.items():
            for each in (mapped[name], read[name], loaded[name]):
                assert (each.dtype, each.shape) == (array.dtype, array.shape)
                np.testing.assert_array_equal(each, array)
            assert mapped[name].ctypes.data % npz.ALIGNMENT == 0
            assert not mapped[name].flags.writeable


def test_only_what_we_wrote_is_mapped(tmp_path):
    path = tmp_path / "other.npz"
    for save in (np.savez, np.savez_compressed):
        save(path, a=np.arange(3))
        with path.open("rb") as handle, pytest.raises(zip_members.DamagedError, match="its arrays cannot be mapped"):
            npz.map_arrays(handle)
