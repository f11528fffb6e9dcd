"""`eval.py --export=codes.faiss`: an index whose neighbours are ours, and which image each id is."""

import csv
import shutil
import sys

import faiss
import numpy as np
import pytest
from factories import write_run

from mhcln.hamming.index import Index
from mhcln.storage.features import read_features
from mhcln.storage.files import locked


def rows_of(path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines))


@pytest.mark.parametrize("bits", [8, 12, 64])
def test_neighbours_in_the_index_are_those_of_our_search(tmp_path, evaluate, bits):
    codes = write_run(tmp_path / "dump", run={"bits": bits}, bits=bits, per_class=30)
    target = tmp_path / "out" / "codes.faiss"
    result = evaluate(f"--dump_dir={tmp_path / 'dump'}", f"--export={target}", "--images_dir", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"90 codes of {bits} bits: {target}; the image of each id: {target.with_name('ids.csv')}\n"
    index = faiss.read_index_binary(str(target))
    np.testing.assert_array_equal(faiss.vector_to_array(index.xb).reshape(index.ntotal, index.code_size), codes.codes)
    far, ids = index.search(codes.codes, 90)
    rows, distances, _ = Index(codes.codes).search(codes.codes, 90)
    order = np.lexsort((ids, far))  # FAISS does not say in which order it returns equals
    np.testing.assert_array_equal(np.take_along_axis(ids, order, 1), rows)
    np.testing.assert_array_equal(np.take_along_axis(far, order, 1), distances)
    names = [codes.class_names[label] for label in codes.labels]
    assert rows_of(target.with_name("ids.csv")) == [
        ["id", "path", "class", "images_dir"],
        *(
            [str(row), path, name, str(tmp_path)]
            for row, (path, name) in enumerate(zip(codes.paths, names, strict=True))
        ),
    ]


def test_the_archive_may_be_a_part(tmp_path, evaluate):
    codes = write_run(tmp_path / "dump", run={})
    result = evaluate(f"--dump_dir={tmp_path / 'dump'}", f"--export={tmp_path / 'x.faiss'}", "--archive=test")
    assert result.returncode == 0
    tests = [path for path, split in zip(codes.paths, codes.split, strict=True) if split == "test"]
    assert [row[1] for row in rows_of(tmp_path / "ids.csv")[1:]] == tests
    assert faiss.read_index_binary(str(tmp_path / "x.faiss")).ntotal == len(tests)


def test_an_older_index_is_replaced_and_other_files_are_not(tmp_path, evaluate, users_mistake):
    write_run(tmp_path / "dump", run={})
    target, ids = tmp_path / "x.faiss", tmp_path / "ids.csv"
    flags = (f"--dump_dir={tmp_path / 'dump'}", f"--export={target}")
    assert evaluate(*flags, "--archive=test").returncode == 0
    assert evaluate(*flags).returncode == 0
    assert (faiss.read_index_binary(str(target)).ntotal, len(rows_of(ids))) == (18, 19)
    refused = evaluate(flags[0], f"--export={tmp_path / 'y.faiss'}")
    users_mistake(refused, f"{ids} holds the ids of x.faiss and would be replaced; export into another folder")
    target.unlink()
    ids.write_text("id,name\n7,mine\n", encoding="utf-8")
    users_mistake(evaluate(*flags), f"{ids} is not of an export and would be replaced; export into another folder")
    assert ids.read_text(encoding="utf-8") == "id,name\n7,mine\n"
    ids.unlink()
    target.mkdir()
    users_mistake(evaluate(*flags), "x.faiss is a folder; give the name of a file in it")


def test_an_export_that_fails_leaves_the_older_files(tmp_path, evaluate, users_mistake, monkeypatch):
    write_run(tmp_path / "dump", run={})
    flags = (f"--dump_dir={tmp_path / 'dump'}", f"--export={tmp_path / 'x.faiss'}")
    assert evaluate(*flags, "--archive=test").returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mhcln.pipeline.export_index.write_csv", full)
    users_mistake(evaluate(*flags), "No space left on device")
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_two_exports_to_one_folder_do_not_meet(tmp_path, evaluate, users_mistake):
    write_run(tmp_path / "dump", run={})
    with locked(tmp_path / "out"):
        result = evaluate(f"--dump_dir={tmp_path / 'dump'}", f"--export={tmp_path / 'out' / 'x.faiss'}")
    users_mistake(result, "another process is writing here")


def test_without_faiss_there_is_one_line(tmp_path, evaluate, users_mistake, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    write_run(tmp_path / "dump", run={})
    result = evaluate(f"--dump_dir={tmp_path / 'dump'}", f"--export={tmp_path / 'x.faiss'}")
    users_mistake(result, "--export to a .faiss file needs faiss; pip install faiss-cpu")
    assert not (tmp_path / "x.faiss").exists()


def test_images_that_were_added_have_ids_too(pipeline, tmp_path, evaluate):
    shutil.copytree(pipeline / "dump" / "K12", tmp_path / "dump" / "K12")
    dump = f"--dump_dir={tmp_path / 'dump'}"
    assert evaluate(dump, "--add", pipeline / "dump").returncode == 0
    assert evaluate(dump, f"--export={tmp_path / 'x.faiss'}").returncode == 0
    index = faiss.read_index_binary(str(tmp_path / "x.faiss"))
    ids = rows_of(tmp_path / "ids.csv")[1:]
    paths = read_features(pipeline / "dump").images.paths
    assert [row[1] for row in ids[40:]] == paths
    added = faiss.vector_to_array(index.xb).reshape(80, 2)[40:]
    own = {row[1]: code for row, code in zip(ids, faiss.vector_to_array(index.xb).reshape(80, 2)[:40], strict=False)}
    np.testing.assert_array_equal(added, [own[path] for path in paths])
