"""`--out`, folders that cannot be written to, and readers that leave: the figures are printed in any case."""

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from conftest import REPO_ROOT
from factories import write_images, write_run

from mhcln.console import UserError
from mhcln.storage import layout, text_files
from mhcln.storage.files import NotWritableError, locked
from mhcln.storage.results import read_results

REFUSED = "nothing is written: "


@contextlib.contextmanager
def read_only(root: Path):
    """Opening any file under `root` to write it fails, as on a read-only disk; root may write where others may not."""
    usual = Path.open

    def checked(path, mode="r", *arguments, **named):
        if path.is_relative_to(root) and set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return usual(path, mode, *arguments, **named)

    with mock.patch.object(Path, "open", checked):
        yield


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_an_evaluation_of_a_read_only_run_prints_its_figures_and_out_takes_its_files(tmp_path, evaluate):
    dump, out = tmp_path / "dump", tmp_path / "results" / "mine"
    write_images(tmp_path / "images", write_run(dump, run={"images_dir": str(tmp_path / "images")}))
    flags = [f"--dump_dir={dump}", "--k=3", "--interval=4"]
    before = contents(dump)
    with read_only(dump):
        done = evaluate(*flags)
        advised = evaluate(*flags, f"--out={out}")
    why = f"{dump / 'K8'} cannot be written to (Read-only file system); use --out=folder to write elsewhere"
    assert (done.returncode, done.stderr) == (0, f"warning: {REFUSED}{why}\n")
    assert contents(dump) == before
    assert (advised.returncode, advised.stderr) == (0, "")
    assert done.stdout.splitlines() == advised.stdout.splitlines()[:-2]  # which say where pictures and report are
    assert {path.name for path in out.iterdir()} >= {"results.json", "results.csv", "report.html", "hamming_out"}
    assert read_results(out)["run"] == "K8"
    assert (out / "hamming_out" / "sample_3.png").is_file()
    assert 'src="hamming_out/sample_3.png"' in (out / "report.html").read_text(encoding="utf-8")


def test_the_table_of_a_read_only_dump_folder_is_printed(tmp_path, evaluate):
    dump, out = tmp_path / "dump", tmp_path / "out"
    write_run(dump, run={})
    flags = [f"--dump_dir={dump}", "--k=3", "--table"]
    with read_only(dump):
        done = evaluate(*flags)
        advised = evaluate(*flags, f"--out={out}")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert f"{REFUSED}{dump} cannot be written to" in done.stderr
    assert not (dump / "table.md").exists()
    assert (out / "table.md").read_text(encoding="utf-8").strip() == done.stdout.strip()
    assert f"written to {out / 'table.md'} and {out / 'table.csv'}" in advised.stdout


def test_a_query_in_a_read_only_run_prints_what_it_finds(pipeline, tmp_path, evaluate):
    dump, out = Path(shutil.copytree(pipeline / "dump", tmp_path / "dump")), tmp_path / "out"
    shutil.rmtree(dump / "K12" / "queries", ignore_errors=True)
    flags = [f"--dump_dir={dump}", f"--query={pipeline / 'images/beach/beach0.tif'}", "--k=3"]
    (dump / "K12" / "queries").mkdir()
    with read_only(dump):
        done = evaluate(*flags)
        advised = evaluate(*flags, f"--out={out}")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert f"{REFUSED}{dump / 'K12/queries'} cannot be written to" in done.stderr
    assert "rank  distance" in done.stdout
    assert "1 query in 40 images\n" in done.stdout
    assert advised.returncode == 0, advised.stderr
    assert {path.name for path in (out / "queries").iterdir()} >= {"query_beach0.json", "query_beach0.png"}
    assert not list((dump / "K12" / "queries").iterdir())


def test_out_takes_the_results_of_a_run_that_could_be_written_to(tmp_path, evaluate):
    write_run(tmp_path)
    out = tmp_path / "elsewhere"
    for _ in range(2):  # the second replaces the first
        assert evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0", f"--out={out}").returncode == 0
    assert (out / "results.json").is_file()
    assert {path.name for path in (tmp_path / "K8").iterdir()} == {"codes.npz"}


def test_mistakes_with_out_are_one_line(tmp_path, evaluate, users_mistake):
    write_run(tmp_path)
    write_run(tmp_path, "K8_seed1")
    flags = [f"--dump_dir={tmp_path}", "--run_name=K8", "--k=3", "--interval=0"]
    users_mistake(
        evaluate(*flags, f"--out={tmp_path / 'K8_seed1'}"), "is the folder of another run than", "choose another"
    )
    assert not (tmp_path / "K8_seed1" / "results.json").exists()
    assert evaluate(*flags, f"--out={tmp_path / 'K8'}").returncode == 0
    (tmp_path / "locked").mkdir()
    with read_only(tmp_path / "locked"):
        users_mistake(evaluate(*flags, f"--out={tmp_path / 'locked'}"), "locked cannot be written to", "--out")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_with_what_to_do(tmp_path, evaluate, number):
    write_run(tmp_path)

    def refuse(*_arguments):
        raise OSError(number, os.strerror(number))

    with mock.patch.object(fcntl, "flock", refuse):
        what = rf"{tmp_path} is on a file system that locks no files .*local --dump_dir"
        with pytest.raises(NotWritableError, match=what), locked(tmp_path):
            pass
        done = evaluate(f"--dump_dir={tmp_path}", "--k=3", "--interval=0")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert REFUSED in done.stderr
    assert "mAP@3" in done.stdout


def test_a_folder_that_others_may_write_to_is_named(tmp_path, monkeypatch):
    with locked(tmp_path):
        pass
    monkeypatch.setattr(os, "access", lambda *_: False)  # the lock file, older than the rights, can be opened still
    with (
        pytest.raises(UserError, match=r"cannot be written to .Permission denied.; choose a local --dump_dir"),
        locked(tmp_path),
    ):
        pass


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.EIO])
def test_a_folder_that_cannot_be_synced_is_no_trouble_but_a_failing_disk_is(tmp_path, monkeypatch, number):
    usual = os.fsync

    def sync(handle):
        if Path(f"/proc/self/fd/{handle}").resolve().is_dir():
            raise OSError(number, os.strerror(number))
        usual(handle)

    monkeypatch.setattr(os, "fsync", sync)
    expected = pytest.raises(OSError, match="Input/output") if number == errno.EIO else contextlib.nullcontext()
    with expected:
        text_files.write_text(tmp_path / "x.txt", "x")


def test_a_reader_that_leaves_early_gets_all_files_written(tmp_path):
    """As `eval.py ... 2>&1 | head -1` does."""
    write_images(tmp_path / "images", write_run(tmp_path, run={"images_dir": str(tmp_path / "images")}))
    flags = [f"--dump_dir={tmp_path}", "--k=3", "--interval=4"]
    command = [sys.executable, str(REPO_ROOT / "eval.py"), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        process.stdout.close()
        assert process.wait(60) == 0
    for name in (layout.RESULTS, layout.QUERY_RESULTS, layout.REPORT, "hamming_out/sample_3.png"):
        assert (tmp_path / "K8" / name).is_file()


def test_closed_streams_are_no_trouble(tmp_path):
    write_run(tmp_path)
    command = f"'{sys.executable}' '{REPO_ROOT}/eval.py' '--dump_dir={tmp_path}' --k=3 --interval=0"
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(["bash", "-c", f"{command} {closed}"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("Error")) == (0, 0), done.stderr
        assert read_results(tmp_path / "K8")["k"] == 3
