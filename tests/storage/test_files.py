"""Files are whole or absent, two writers never meet, and text files say what they are given."""

import csv
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPO_ROOT

from mhcln.console import UserError
from mhcln.storage import files, layout, text_files


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


def test_files_of_other_programs_stay_in_a_folder_of_the_users(tmp_path):
    (tmp_path / ".part.download").touch()
    (tmp_path / ".part.folder").mkdir()
    (tmp_path / (files.PART + "folder")).mkdir()
    (tmp_path / (files.PART + "folder") / "inner").touch()
    with files.locked(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {".part.download", ".part.folder", files.LOCK}
    assert all(name.startswith(".mhcln.") for name in (files.PART, files.LOCK))


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
