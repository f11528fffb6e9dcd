"""Exit statuses and messages, as a shell sees them; and what is said by a Python that cannot run the scripts."""

import argparse
import ast
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from conftest import REPO_ROOT

from mhcln import cli
from mhcln.cli import TRACEBACK, folder_name, fraction, margin, names, whole_number, whole_numbers
from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.features import read_image_table

SCRIPTS = ("extract_features.py", "dataset_generator.py", "trainer.py", "eval.py")


def parser_of(script: str) -> cli.Parser:
    return runpy.run_path(str(REPO_ROOT / script))["parser"]()


def refusal(parser: cli.Parser, flags: list[str], capsys: pytest.CaptureFixture) -> str:
    """The one line with which flags are refused."""
    with pytest.raises(SystemExit) as left:
        parser.parse_args(flags)
    printed = capsys.readouterr().err
    assert (left.value.code, printed.count("\n")) == (2, 1), printed
    return printed


@pytest.fixture
def end(monkeypatch, capsys):
    """A function that runs `cli.run` on a function that raises an error, and returns exit status and stderr."""
    monkeypatch.setattr(sys, "argv", ["test.py"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run(error: BaseException | None) -> tuple[object, str]:
        def main(_flags, console):
            console.say("fine")
            if error is not None:
                raise error

        with warnings.catch_warnings(), pytest.raises(SystemExit) as left:
            cli.run(cli.Parser("test"), main)
        out, err = capsys.readouterr()
        assert out == "fine\n"
        return left.value.code, err

    return run


def test_each_end_has_its_exit_status_and_one_line(end, monkeypatch):
    assert end(None) == (0, "")
    assert end(UserError("no such folder\n in here")) == (2, "error: no such folder in here\n")
    assert end(KeyboardInterrupt()) == (130, "stopped by Ctrl-C\n")
    missing = FileNotFoundError(2, "No such file or directory", "/nonexistent/file")
    line = "error: /nonexistent/file: No such file or directory; nothing half-written was left under a final name\n"
    assert end(missing) == (2, line)
    monkeypatch.setenv(TRACEBACK, "1")
    status, shown = end(missing)
    assert (status, shown.startswith("Traceback"), shown.endswith(f"\n{line}")) == (2, True, True)
    status, shown = end(ModuleNotFoundError(name="absent.part"))
    assert status == 2
    assert shown.startswith(f"error: {sys.executable} has no absent; install what is needed by: python3 -m venv ")


@pytest.mark.parametrize("error", [ZeroDivisionError(), ModuleNotFoundError(name="mhcln.nothing")])
def test_a_fault_of_ours_keeps_its_traceback(end, error):
    with pytest.raises(type(error)):
        end(error)


WAITING = """
import time
from mhcln import cli
def main(*_):
    try:
        print("on", flush=True)
        time.sleep(60)
    finally:
        print("cleaned")
cli.run(cli.Parser("test"), main)
"""


def test_sigterm_leaves_143_after_cleaning_up():
    command = [sys.executable, "-c", WAITING]
    with subprocess.Popen(command, cwd=REPO_ROOT, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline() == "on\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (143, "cleaned\n", "stopped by SIGTERM\n")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_loads_no_tensorflow_and_a_wrong_flag_is_one_line(script, run_in_process):
    traced = [sys.executable, "-X", "importtime", str(REPO_ROOT / script), "--help"]
    shown = subprocess.run(traced, capture_output=True, text=True, check=False)
    assert (shown.returncode, "--dump_dir" in shown.stdout) == (0, True)
    assert not re.search(r"\| *(tensorflow|keras)\n", shown.stderr)
    done = run_in_process(script, "--images_dir=x", "--dump")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: unrecognized arguments: ")
    assert done.stderr.endswith(f"; see {script} --help\n")


def test_help_that_nobody_reads_leaves_no_traceback():
    command = [sys.executable, str(REPO_ROOT / "eval.py"), "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == (b"", 0)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_tilde_is_expanded_in_every_path(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = parser_of(script)
    required = ["--images_dir=x"] if script == "extract_features.py" else []
    paths = [action.dest for action in parser._actions if action.type is cli.path]
    assert "dump_dir" in paths
    assert {name for name in vars(parser.parse_args(required)) if name.endswith("_dir")} <= {*paths}
    for name in paths:
        assert getattr(parser.parse_args([*required, f"--{name}=~/a b"]), name) == tmp_path / "a b"
    assert "argument --dump_dir: '' is not a path" in refusal(parser, [*required, "--dump_dir="], capsys)


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("extract_features.py", ["--batch_size=100000", f"--random_weights={2**64}"]),
        ("dataset_generator.py", [f"--seed={2**63}", "--train_test_split=1"]),
        ("trainer.py", ["--seed=0,1e9", "--HASH_BITS=32,10000000", "--BATCH_SIZE=300000000", f"--ITERS={10**20}"]),
        ("trainer.py", [f"--patience={10**20}", f"--save_seconds={10**400}", "--run_name=.mhcln.lock"]),
        ("extract_features.py", ["--range=3000,0", "--bands=4,3", "--preset=landsat"]),
        ("eval.py", [f"--k={10**20}", f"--interval={10**20}", "--run_name=extract.part", "--archive=everything"]),
    ],
)
def test_flags_beyond_what_they_can_mean_are_one_line(script, flags, capsys):
    for flag in flags:
        assert f"argument {flag.split('=')[0]}: " in refusal(parser_of(script), ["--images_dir=x", flag], capsys)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--device=cpu", "--k=3"], "eval.py takes no --device; see eval.py --help"),
        (["--table", "--browse"], "eval.py --table takes no --browse; see"),
        (["--table", "--run_name=K8", "--query="], "eval.py --table takes no --run_name and no --query; see"),
        (["--browse", "--interval=0"], "eval.py --browse takes no --interval; see"),
        (["--query=x.jpg", "--interval=0"], "eval.py --query takes no --interval; see"),
        (["--add=x", "--out=x"], "eval.py --add takes no --out; see"),
        (["--export=x.faiss", "--model_dir=x"], "eval.py --export=file.faiss takes no --model_dir; see"),
        (["--export=x", "--archive=all"], "eval.py --export=folder takes no --archive; see"),
        (["--images_dir=nowhere"], "--images_dir=nowhere is not a folder; give the one that holds the class folders"),
    ],
)
def test_a_flag_without_use_is_named(evaluate, users_mistake, flags, line):
    users_mistake(evaluate(*flags), f"error: {line}")


@pytest.mark.parametrize(
    ("parse", "good", "values", "wrong"),
    [
        (whole_number(1, 90), ["1", "90"], [1, 90], ["0", "-1", "1.5", "x", "", "91", "9" * 5000]),
        (whole_numbers(0, 9), ["0,1,2"], [[0, 1, 2]], ["1,1", "1,", "1,10"]),
        (fraction, ["0.6"], [0.6], ["0", "1", "nan", "x"]),
        (margin, ["2"], [2.0], ["0", "2.1", "nan", "x"]),
        (names, ["mixed,mixed_1"], [("mixed", "mixed_1")], ["a,a"]),
        (cli.band_numbers, ["4", "3,2,1"], [(4,), (3, 2, 1)], ["0", "1,2", ""]),
        (cli.value_range, ["0,3000", "-1.5,2"], [(0, 3000), (-1.5, 2)], ["1", "2,1", "0,nan", "0,inf"]),
    ],
    ids=["number", "numbers", "fraction", "margin", "names", "bands", "range"],
)
def test_each_type_takes_what_it_can_mean(parse, good, values, wrong):
    assert [parse(text) for text in good] == values
    for text in wrong:
        with pytest.raises(argparse.ArgumentTypeError) as error:
            parse(text)
        assert len(str(error.value)) < 200


OWN_NAMES = [value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)]


def test_names_of_folders_are_not_ours():
    names_of_users = ["K32", "mine_2", "x" * 255, "a.b", "Größe", "-x", "split", "land\u00a0use", "東\u3000京"]
    for good in [*names_of_users, "👩\u200d🌾"]:
        assert folder_name(good) == good
    wrong = ["", ".", "..", ".lock", ".part.x", "a/b", "a\\b", "/a", "a\n", "\x1b[2J", "caf\udce9", "x" * 256]
    wrong += ["ü" * 128, "split_seed3.npz", "Features.NPZ", "extract.part"]
    for text in wrong + [name for name in OWN_NAMES if not name.split(" ")[0].endswith(".py")]:
        with pytest.raises(argparse.ArgumentTypeError, match="is not the name of a folder: ") as error:
            folder_name(text)
        assert len(str(error.value)) < 200


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_line(tmp_path, run_in_process, users_mistake):
    tmp_path.chmod(0o500)
    users_mistake(run_in_process("dataset_generator.py", "--dump_dir", tmp_path / "dump"), "Permission denied")


def test_a_folder_whose_name_is_not_utf_8_is_no_trouble(pipeline, tmp_path, run_in_process):
    folder, dump = (tmp_path / os.fsdecode(name) for name in (b"caf\xe9", b"dump\xe9"))
    shutil.copytree(pipeline / "images" / "beach", folder / "beach")
    shutil.copytree(pipeline / "images" / "forest", folder / "forest")
    (folder / "beach/broken.tif").write_bytes(b"no image")
    flags = [f"--model_dir={pipeline / 'model'}", f"--images_dir={folder}", f"--dump_dir={dump}", "--on_error=skip"]
    done = run_in_process("extract_features.py", *flags)
    assert (done.returncode, rf"see {tmp_path}/dump\udce9/skipped.csv" in done.stderr) == (0, True), done.stderr
    assert (dump / "skipped.csv").read_text(encoding="utf-8").splitlines()[1].startswith("beach/broken.tif,")
    images = read_image_table(dump)
    assert (images.images_dir, len(images)) == (str(folder), 20)
    done = run_in_process("eval.py", f"--query={folder}", "--k=2", f"--dump_dir={pipeline / 'dump'}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert r"caf\udce9/beach/broken.tif is not usable: " in done.stderr
    assert rf"'{tmp_path}/caf\udce9/beach/beach0.tif'" in done.stdout
    found = json.loads((pipeline / "dump/K12/queries/query_beach0.json").read_text(encoding="utf-8"))
    assert found["query"] == str(folder / "beach/beach0.tif")


RUN_SCRIPT = """
import runpy, sys
sys.version_info = {version}
sys.argv = [{script!r}, "--help"]
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_python_that_cannot_run_the_scripts_is_one_line(script, users_mistake):
    def start(version: str) -> subprocess.CompletedProcess:
        code = RUN_SCRIPT.format(script=path, version=version)
        command = [sys.executable, "-S", "-c", code]  # -S: no installed package is found
        return subprocess.run(command, capture_output=True, text=True, cwd=REPO_ROOT, check=False)

    path = str(REPO_ROOT / script)
    users_mistake(start("(3, 9, 2, 'final', 0)"), "this is Python 3.9.2, 3.10 or newer is needed; install what is ")
    for read in (path, REPO_ROOT / "mhcln" / "__init__.py", cli.__file__):  # which it reads to say so
        ast.parse(Path(read).read_text(encoding="utf-8"), feature_version=(3, 7))
    done = start("sys.version_info")
    users_mistake(done, f"{sys.executable} has no NumPy and Pillow; install what is needed by: python3 -m venv ")
    install, then = re.fullmatch(r".*: (python3 -m venv .*); then run (.*)", done.stderr.strip()).groups()
    make, fill = (shlex.split(part) for part in install.split(" && "))
    assert fill == [f"{make[3]}/bin/pip", "install", "-r", str(REPO_ROOT / "requirements.txt")]
    assert shlex.split(then) == [f"{make[3]}/bin/python", path]
