"""Files are whole or absent, damage is found, and two writers never meet."""

import csv
import errno
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import REPO_ROOT

from mhcln.console import UserError
from mhcln.storage import files, layout, text_files, zip_members

ARRAYS = {"codes": np.arange(24, dtype=np.uint8).reshape(6, 4), "paths": np.array(["a/é.tif", "b/x y.jpg"]), "bits": 32}


def test_npz_comes_back_as_it_was(tmp_path):
    files.write_npz(tmp_path / "x.npz", ARRAYS)
    back = files.read_npz(tmp_path / "x.npz", "maker")
    assert set(back) == set(ARRAYS)
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(back[name], value)
        assert back[name].dtype == np.asarray(value).dtype
    assert list(tmp_path.iterdir()) == [tmp_path / "x.npz"]


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    for name in "ab":
        files.write_npz(tmp_path / name, ARRAYS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_fortran_order_and_deflate_are_read(tmp_path):
    matrix = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    np.savez_compressed(tmp_path / "x.npz", matrix=matrix)
    np.testing.assert_array_equal(files.read_npz(tmp_path / "x.npz", "maker")["matrix"], matrix)


def test_every_flipped_byte_is_found_or_harmless(tmp_path):
    path = tmp_path / "x.npz"
    files.write_npz(path, ARRAYS)
    whole = path.read_bytes()
    found = 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x41]) + whole[position + 1 :])
        try:
            back = files.read_npz(path, "maker")
        except UserError as error:
            assert str(path) in str(error)
            assert "maker" in str(error)
            found += 1
            continue
        for name in set(back) & set(ARRAYS):
            np.testing.assert_array_equal(back[name], ARRAYS[name])
    assert found > len(whole) / 3  # most other bytes are dates, attributes and alignment


@pytest.mark.parametrize("length", [0, 1, 40, 200])
def test_a_cut_file_is_reported(tmp_path, length):
    files.write_npz(tmp_path / "x.npz", ARRAYS)
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:length])
    with pytest.raises(UserError, match=r"x\.npz is damaged .*make it again with maker"):
        files.read_npz(tmp_path / "x.npz", "maker")


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(UserError, match="is missing; make it with maker"):
        files.read_npz(tmp_path / "x.npz", "maker")


def test_objects_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.savez(tmp_path / "x.npz", paths=np.array([Bomb()], dtype=object))
    with pytest.raises(UserError, match="Python objects"):
        files.read_npz(tmp_path / "x.npz", "maker")
    (tmp_path / "y.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="damaged"):
        files.read_npz(tmp_path / "y.npz", "maker")
    assert not (tmp_path / "ran").exists()


def write_member(path: Path, header: str, data: bytes, method: int = zipfile.ZIP_STORED) -> None:
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("features.npy", start + data)


def test_an_impossible_size_is_refused_before_memory_is_taken(tmp_path):
    write_member(
        tmp_path / "x.npz", "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 2048)}\n", b"12"
    )
    with pytest.raises(UserError, match="does not hold"):
        files.read_npz(tmp_path / "x.npz", "maker")


def test_texts_of_no_letters_take_no_memory(tmp_path):
    # NumPy makes room for a letter each, which the size of the file says nothing of
    write_member(tmp_path / "x.npz", "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}\n", b"")
    with pytest.raises(UserError, match="does not hold"):
        files.read_npz(tmp_path / "x.npz", "maker")


def test_arrays_of_several_pieces_come_back_and_a_late_flip_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(zip_members, "PIECE_BYTES", 100)
    values = np.random.default_rng(0).integers(1 << 62, size=(5, 7))
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", values=values)
        np.testing.assert_array_equal(files.read_npz(tmp_path / "x.npz", "maker")["values"], values)
    np.savez(tmp_path / "x.npz", values=values)
    whole = (tmp_path / "x.npz").read_bytes()
    last = whole.index(values[-1, -1:].tobytes())
    (tmp_path / "x.npz").write_bytes(whole[:last] + bytes([whole[last] ^ 1]) + whole[last + 1 :])
    with pytest.raises(UserError, match=r"damaged .*CRC"):
        files.read_npz(tmp_path / "x.npz", "maker")


def test_a_decompression_bomb_is_refused(tmp_path):
    shape = 2**27
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape},)}}\n"
    write_member(tmp_path / "x.npz", header, bytes(shape), zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="claims"):
        files.read_npz(tmp_path / "x.npz", "maker")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.npz"
    files.write_npz(path, ARRAYS)
    before = path.read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    for function in ("fsync", "open"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
            patch.setattr(os, function, full)
            files.write_npz(path, {"codes": np.zeros(3)})
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


def test_json_comes_back_and_a_changed_digit_is_found(tmp_path):
    path = tmp_path / "r.json"
    text_files.write_json(path, {"mAP@20": 0.904, "name": "Größe"})
    assert text_files.read_json(path, "maker") == {"mAP@20": 0.904, "name": "Größe"}
    path.write_text(path.read_text(encoding="utf-8").replace("0.904", "0.994"), encoding="utf-8")
    with pytest.raises(UserError, match="was changed"):
        text_files.read_json(path, "maker")


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, "\xff", '{"a": 1}'])
def test_json_of_other_programs_is_refused(tmp_path, text):
    (tmp_path / "r.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"r\.json .*maker"):
        text_files.read_json(tmp_path / "r.json", "maker")


def test_a_second_writer_is_refused_and_a_dead_one_leaves_no_trace(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from mhcln.storage import files\n"
        f"with files.locked(Path({str(tmp_path)!r})):\n"
        f"    Path({str(tmp_path)!r}, files.PART + 'x.npz').touch(); print('held', flush=True); time.sleep(60)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPO_ROOT)
    try:
        assert writer.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is writing here"), files.locked(tmp_path):
            pass
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    assert list(tmp_path.glob(files.PART + "*"))
    with files.locked(tmp_path):
        assert not list(tmp_path.glob(files.PART + "*"))


def test_a_path_that_is_not_utf_8_comes_back_from_every_file(tmp_path):
    path = os.fsdecode(b"caf\xe9/1.tif")
    with pytest.raises(UnicodeEncodeError):
        path.encode()
    files.write_npz(tmp_path / "x.npz", {"paths": np.array([path])})
    assert files.read_npz(tmp_path / "x.npz", "maker")["paths"].tolist() == [path]
    text_files.write_json(tmp_path / "x.json", {path: [path, "ü"]})
    assert text_files.read_json(tmp_path / "x.json", "maker") == {path: [path, "ü"]}
    text_files.write_csv(tmp_path / "x.csv", ["path"], [[path]])
    assert (tmp_path / "x.csv").read_text(encoding="utf-8") == "path\ncaf\\udce9/1.tif\n"
    text_files.write_text(tmp_path / "x.html", f"<p>{path}</p>")
    assert (tmp_path / "x.html").read_text(encoding="utf-8") == "<p>caf\\udce9/1.tif</p>"


def test_text_in_a_csv_file_is_no_formula_and_numbers_are_numbers(tmp_path):
    link = '=HYPERLINK("http://evil","x")'
    formulas = [link, "=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "-", "a;=1+1"]
    numbers = [-0.5, "-0.5", "+1e-7", "-inf", np.float32(-2), -3, None, ""]
    text_files.write_csv(tmp_path / "x.csv", ["a", "=b"], [*zip(formulas, formulas, strict=True), numbers])
    text = (tmp_path / "x.csv").read_bytes().decode()
    assert text.startswith('a,"\'=b"\n"\'=HYPERLINK(""http://evil"",""x"")",')
    assert text.endswith("\n-0.5,-0.5,+1e-7,-inf,-2.0,-3,,\n")
    assert '"a;=1+1"' in text  # a spreadsheet of another language would begin a cell there
    back = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[0] for row in back[1:-1]] == [f"'{formula}" for formula in formulas[:-1]] + formulas[-1:]


def test_cells_of_a_csv_file_come_back(tmp_path):
    cells = ["", "a", "a,b", 'a"b', "a;b", "a\nb", "a\rb", " a ", "ü|x", 3, 0.1, "a=b", "a/-b.tif"]
    text_files.write_csv(tmp_path / "x.csv", cells, [cells, cells])
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as handle:
        assert list(csv.reader(handle)) == [[str(cell) for cell in cells]] * 3


def test_names_of_files_made_of_other_names_keep_what_can_be_printed():
    for kept in ("land\u00a0use", "東\u3000京", "a b", "Größe"):
        assert layout.stem(kept) == kept
    changed = {"a/b\\c": "a_b_c", ".hidden": "_hidden", "x\ny\x85": "x_y_", "caf\udce9": "caf_", "": "_"}
    assert {name: layout.stem(name) for name in changed} == changed
    assert layout.stem("ü" * 120) == "ü" * 100
