"""Arrays come back from our files and those of NumPy; whatever is not what it claims is refused."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.storage import files, npz

ARRAYS = {
    "features": np.arange(24, dtype=np.float32).reshape(6, 4),
    "paths": np.array(["a/é.tif", "b/x y.jpg"]),
    "skipped": np.array(3),
    "none": np.empty((0, 5, 2)),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


@pytest.fixture
def path(tmp_path) -> Path:
    files.write_npz(tmp_path / "x.npz", ARRAYS)
    return tmp_path / "x.npz"


def refused(path: Path, message: str = "") -> None:
    with pytest.raises(UserError, match=rf"x\.npz is damaged \(.*{message}.*\); make it again with maker$"):
        files.read_npz(path, "maker")


def assert_same(found) -> None:
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


def test_arrays_come_back_and_the_same_arrays_give_the_same_bytes(path, monkeypatch):
    whole = path.read_bytes()
    with np.load(path, allow_pickle=False) as loaded:
        assert set(loaded.files) == {*ARRAYS, "checksum"}
    files.write_npz(path, ARRAYS)
    assert path.read_bytes() == whole
    assert files.read_npz(path, "maker", ["skipped", "absent"]) == {"skipped": 3}
    for save in (files.write_npz, np.savez, np.savez_compressed):
        save(path, ARRAYS) if save is files.write_npz else save(path, **ARRAYS)
        for piece in (2**20, 10):
            monkeypatch.setattr(npz, "PIECE_BYTES", piece)
            assert_same(files.read_npz(path, "maker"))


def test_arrays_that_are_gone_renamed_or_exchanged_are_found(path):
    with zipfile.ZipFile(path) as archive:
        whole = {name: archive.read(name) for name in archive.namelist()}
    changes = [
        {name: data for name, data in whole.items() if name != "skipped.npy"},
        {name.replace("skipped", "skippex"): data for name, data in whole.items()},
        {**whole, "skipped.npy": whole["skipped.npy"].replace(b"\3", b"\0")},
        {**whole, "more.npy": whole["skipped.npy"]},
    ]
    for content in changes:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        refused(path, "its arrays are not those that were written")


def test_objects_are_neither_unpickled_nor_written(path, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    for objects in (np.array([Bomb()]), np.array([(Bomb(), 1)], [("a", object), ("b", int)])):
        np.savez(path, paths=objects)
        refused(path, r"paths\.npy holds Python objects; write text as numpy\.array\(names, str\)")
    path.write_bytes(pickle.dumps(Bomb()))
    refused(path)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        files.write_npz(path, {"paths": np.array(["a", None])})


@pytest.mark.parametrize(
    "shape", ["(6, 5)", "(-6, -4)", "(6, 4.0)", "(10000000000000000,)", "(1, " * 1000 + ")" * 1000, "(0, 9" + "9" * 18]
)
@pytest.mark.parametrize("kind", ["<f4", "<U0", "nothing", "<f4'" + " " * 20_000 + "'"])
def test_headers_that_claim_something_else_are_refused(path, shape, kind):
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("features.npy", b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + bytes(96))
    refused(path)


def test_arrays_are_mapped_where_they_begin_at_whole_64_bytes(path):
    with path.open("wb") as handle:
        npz.write_arrays(handle, ARRAYS, aligned=True)
    assert_same(files.read_npz(path, "maker"))
    with np.load(path) as loaded, path.open("rb") as handle:
        assert set(loaded.files) == {*ARRAYS, "checksum"}
        mapped = npz.map_arrays(handle)
        assert list(npz.map_arrays(handle, ["columns", "absent"])) == ["columns"]
    assert_same(mapped)
    assert not any(array.ctypes.data % npz.ALIGNMENT or array.flags.writeable for array in mapped.values())


def test_only_what_we_wrote_is_mapped(path):
    for save in (np.savez, np.savez_compressed):
        save(path, a=np.arange(3))
        with path.open("rb") as handle, pytest.raises(npz.DamagedError, match="its arrays cannot be mapped"):
            npz.map_arrays(handle)
