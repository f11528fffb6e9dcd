"""Every reader of the dump folder against files that are missing, cut, changed, or hold something else.

MHCLN_CAMPAIGN, set to anything, changes every byte in turn; without it some 200 of each file.
"""

import os
import shutil

import numpy as np
import pytest
from dump_files import READERS, plain, write_dump

from mhcln.console import UserError
from mhcln.storage import files, text_files

WHOLE = bool(os.environ.get("MHCLN_CAMPAIGN"))
OF_ARRAYS = [name for name, reader in READERS.items() if reader.optional is not None]
OF_JSON = [name for name in READERS if name.endswith(".json")]
OTHERS = [
    np.array(3.5),
    np.zeros((2, 2, 2)),
    np.array(["a", "b"]),
    np.array([["a"], ["b"]]),
    np.array("x"),
    np.arange(3),
    np.zeros((0, 2), np.float32),
    np.array([b"a", b"b"]),
    np.zeros(3, [("x", "<i4")]),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    write_dump(folder)
    return folder


@pytest.fixture
def dump(written, tmp_path):
    return shutil.copytree(written, tmp_path / "dump")


def refused(name: str, dump) -> str:
    """The one line that the file is refused in, which names it and what to do."""
    with pytest.raises(UserError) as caught:
        READERS[name].read(dump)
    line = str(caught.value)
    assert name.split("/")[-1] in line
    assert READERS[name].made_by in line
    assert line.isprintable()
    return line


def is_value(name: str, dump) -> bool:
    """Whether the file is read; if not, it must be refused in one line."""
    try:
        READERS[name].read(dump)
    except UserError:
        return not refused(name, dump)
    return True


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_missing_or_cut_is_refused(dump, name):
    path, whole = dump / name, (dump / name).read_bytes()
    for length in (0, 1, len(whole) // 3, len(whole) - 2):
        path.write_bytes(whole[:length])
        refused(name, dump)
    path.unlink()
    if READERS[name].may_be_missing:
        READERS[name].read(dump)
    else:
        assert "is missing" in refused(name, dump)


@pytest.mark.parametrize("name", READERS)
def test_a_changed_bit_changes_nothing_or_is_refused(dump, name):
    path, whole, read = dump / name, (dump / name).read_bytes(), READERS[name].read
    right, found = plain(read(dump)), 0
    for position in range(0, len(whole), 1 if WHOLE else len(whole) // 200 + 1):
        changed = bytes([whole[position] ^ 1 << position % 8])
        path.write_bytes(whole[:position] + changed + whole[position + 1 :])
        try:
            assert plain(read(dump)) == right, f"byte {position}"
        except UserError:
            refused(name, dump)
            found += 1
    assert found > 20


@pytest.mark.parametrize("name", OF_ARRAYS)
def test_arrays_that_are_missing_or_something_else_are_refused(dump, name):
    path, optional = dump / name, READERS[name].optional
    arrays = files.read_npz(path, "")
    for array, right in arrays.items():
        files.write_npz(path, {key: value for key, value in arrays.items() if key != array})
        if array in optional:
            READERS[name].read(dump)
        else:
            refused(name, dump)
        for other in OTHERS:
            if (other.ndim, other.dtype.kind) != (right.ndim, right.dtype.kind) and array not in optional:
                files.write_npz(path, {**arrays, array: other})
                refused(name, dump)


@pytest.mark.parametrize("name", [name for name in OF_ARRAYS if "part" not in name and "checkpoints" not in name])
def test_another_format_of_arrays_is_refused(dump, name):
    files.write_npz(dump / name, {**files.read_npz(dump / name, ""), "format": 3})
    assert "is of another format than" in refused(name, dump)


@pytest.mark.parametrize("name", OF_JSON)
def test_json_of_another_format_or_that_lacks_something_is_refused(dump, name):
    content = text_files.read_json(dump / name, "")
    text_files.write_json(dump / name, {**content, "format": 3})
    assert "is of another format than" in refused(name, dump)
    required = 0
    for key in content:
        for other in ({}, {key: None}, {key: "x"}, {key: [1.5]}, {key: {"x": True}}):
            changed = {old: value for old, value in content.items() if old != key} | other
            text_files.write_json(dump / name, changed)
            required += not is_value(name, dump)
    assert required > 4
