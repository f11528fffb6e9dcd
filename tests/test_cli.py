"""Exit statuses and messages, as a shell sees them."""

import argparse
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import REPO_ROOT

from mhcln.cli import TRACEBACK, folder_name, fraction, margin, names, whole_number, whole_numbers
from mhcln.storage import layout
from mhcln.storage.features import read_image_table

SCRIPTS = ("extract_features.py", "dataset_generator.py", "trainer.py", "eval.py")

BODY = """
import argparse, os, sys, time
from mhcln import cli
from mhcln.console import UserError
def main(flags, console):
    {body}
cli.run(cli.Parser("test"), main)
"""


def run(body: str, **options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", BODY.format(body=body)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO_ROOT, check=False, **options)


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ("console.say('fine')", 0, ""),
        ("raise UserError('no such folder\\n in here')", 2, "error: no such folder in here\n"),
        ("open('/nonexistent/file')", 2, "error: /nonexistent/file: No such file or directory; "),
        ("raise KeyboardInterrupt", 130, "stopped by Ctrl-C\n"),
    ],
)
def test_each_end_has_its_exit_status_and_one_line(body, status, line):
    result = run(body)
    assert result.returncode == status
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == (1 if line else 0)


def test_a_fault_of_ours_keeps_its_traceback():
    result = run("1 / 0")
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr


def test_an_environment_variable_shows_where_an_error_of_the_system_came_from(monkeypatch):
    monkeypatch.setenv(TRACEBACK, "1")
    result = run("open('/nonexistent/file')")
    assert result.returncode == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: /nonexistent/file: No such file or directory")


def test_sigterm_leaves_143_after_cleaning_up():
    body = "\n    try: print('on', flush=True); time.sleep(60)\n    finally: print('cleaned')"
    with subprocess.Popen(
        [sys.executable, "-c", BODY.format(body=body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPO_ROOT,
    ) as process:
        assert process.stdout.readline() == "on\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (143, "cleaned\n", "stopped by SIGTERM\n")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_wrong_flags_load_no_tensorflow(script):
    traced = [sys.executable, "-X", "importtime", str(REPO_ROOT / script)]
    shown = subprocess.run([*traced, "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert "--dump_dir" in shown.stdout
    wrong = subprocess.run([*traced, "--images_dir=x", "--no_such_flag=1"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "error: unrecognized arguments:" in wrong.stderr
    for heavy in ("tensorflow", "keras"):
        assert f"| {heavy}\n" not in shown.stderr + wrong.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_wrong_flag_is_one_line(script, run_script, users_mistake):
    users_mistake(run_script(script, "--images_dir=x", "--dump"), "unrecognized arguments", f"{script} --help")


def test_a_closed_pipe_leaves_no_traceback(tmp_path):
    (tmp_path / "talk.py").write_text(BODY.format(body="[console.say(str(i)) for i in range(100000)]"))
    command = f"PYTHONPATH='{REPO_ROOT}' '{sys.executable}' '{tmp_path}/talk.py' | head -1; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("0\n0\n", "")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_that_nobody_reads_leaves_no_traceback(script):
    with subprocess.Popen(
        [sys.executable, str(REPO_ROOT / script), "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == (b"", 0)


PATHS = [("extract_features.py", name) for name in ("images_dir", "model_dir")]
PATHS += [("dataset_generator.py", name) for name in ("features", "split_dir")]
PATHS += [("eval.py", name) for name in ("images_dir", "model_dir", "add", "out")]


@pytest.mark.parametrize(("script", "name"), PATHS + [(script, "dump_dir") for script in SCRIPTS])
def test_a_tilde_is_expanded_in_every_path(script, name, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = runpy.run_path(str(REPO_ROOT / script))["parser"]()
    required = ["--images_dir=x"] if script == "extract_features.py" else []
    assert getattr(parser.parse_args([*required, f"--{name}=~/a b"]), name) == tmp_path / "a b"
    with pytest.raises(SystemExit):
        parser.parse_args([*required, f"--{name}="])
    assert f"argument --{name}: '' is not a path" in capsys.readouterr().err


def test_every_flag_that_takes_a_path_is_tried_with_a_tilde():
    found = set()
    for script in SCRIPTS:
        parser = runpy.run_path(str(REPO_ROOT / script))["parser"]()
        found |= {(script, action.dest) for action in parser._actions if action.dest.endswith(("_dir", "features"))}
    assert found - {(script, "dump_dir") for script in SCRIPTS} <= {*PATHS}


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "", "91", "9" * 5000])
def test_whole_numbers_have_bounds(text):
    assert (whole_number(1, 90)("1"), whole_number(1, 90)("90")) == (1, 90)
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number of at least 1 and at most 90") as error:
        whole_number(1, 90)(text)
    assert len(str(error.value)) < 200


def test_lists_of_numbers_and_fractions_are_checked():
    assert whole_numbers(0, 9)("0,1,2") == [0, 1, 2]
    assert fraction("0.6") == 0.6
    several = whole_numbers(0, 9)
    for parse, text in ((several, "1,1"), (several, "1,"), (several, "1,10"), (fraction, "1"), (fraction, "nan")):
        with pytest.raises(argparse.ArgumentTypeError):
            parse(text)


@pytest.mark.parametrize(
    ("script", "flag"),
    [
        ("extract_features.py", "--batch_size=100000"),
        ("extract_features.py", f"--random_weights={2**64}"),
        ("dataset_generator.py", f"--seed={2**63}"),
        ("trainer.py", f"--seed=0,{2**64}"),
        ("trainer.py", "--HASH_BITS=32,10000000"),
        ("trainer.py", "--BATCH_SIZE=300000000"),
        ("trainer.py", f"--ITERS={10**20}"),
        ("trainer.py", f"--patience={10**20}"),
        ("trainer.py", f"--save_seconds={10**400}"),
        ("eval.py", f"--k={10**20}"),
        ("eval.py", f"--interval={10**20}"),
        ("trainer.py", "--run_name=.lock"),
        ("eval.py", "--run_name=extract.part"),
    ],
)
def test_flags_beyond_what_they_can_mean_are_one_line(script, flag, capsys):
    parser = runpy.run_path(str(REPO_ROOT / script))["parser"]()
    with pytest.raises(SystemExit) as left:
        parser.parse_args(["--images_dir=x", flag])
    printed = capsys.readouterr().err
    assert (left.value.code, printed.count("\n")) == (2, 1)
    assert f"argument {flag.split('=')[0]}: " in printed


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_line(tmp_path, run_script, users_mistake):
    tmp_path.chmod(0o500)
    users_mistake(run_script("dataset_generator.py", "--dump_dir", tmp_path / "dump"), "Permission denied")


@pytest.mark.parametrize(("parse", "text"), [(margin, "0"), (margin, "2.1"), (margin, "nan"), (margin, "x")])
def test_margins_are_checked(parse, text):
    assert (margin("2"), names("mixed,mixed_1")) == (2.0, ("mixed", "mixed_1"))
    with pytest.raises(argparse.ArgumentTypeError, match="is not"):
        parse(text)


OWN_NAMES = [value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)]


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", ".lock", ".part.x", "a/b", "a\\b", "/a", "a\n", "\x1b[2J", "caf\udce9", "x" * 256, "ü" * 128]
    + ["split_seed3.npz", "Features.NPZ", "extract.part"]
    + [name for name in OWN_NAMES if not name.split(" ")[0].endswith(".py")],
)
def test_names_of_folders_are_not_ours(text):
    for good in (
        "K32",
        "mine_2",
        "x" * 255,
        "a.b",
        "Größe",
        "-x",
        "split",
        "land\u00a0use",
        "東\u3000京",
        "👩\u200d🌾",
    ):
        assert folder_name(good) == good
    with pytest.raises(argparse.ArgumentTypeError, match="is not the name of a folder: ") as error:
        folder_name(text)
    assert len(str(error.value)) < 200


def test_what_an_output_cannot_encode_is_escaped():
    lines = "console.say('say caf\\udce9 ü'); console.warn('warn caf\\udce9'); raise UserError('end caf\\udce9')"
    for encoding in ("utf-8:strict", "ascii:strict"):
        result = run(lines, env={**os.environ, "PYTHONIOENCODING": encoding})
        ue = "ü" if encoding.startswith("utf") else r"\xfc"
        assert result.returncode == 2, result.stderr
        assert result.stdout == rf"say caf\udce9 {ue}" + "\n"
        assert result.stderr == r"warning: warn caf\udce9" + "\n" + r"error: end caf\udce9" + "\n"


def test_a_folder_whose_name_is_not_utf_8_is_no_trouble(pipeline, tmp_path, run_script):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    for name in ("beach", "forest"):
        shutil.copytree(pipeline / "images" / name, folder / name)
    broken = "beach/broken.tif"
    (folder / broken).write_bytes(b"no image")
    model, dump = f"--model_dir={pipeline / 'model'}", tmp_path / os.fsdecode(b"dump\xe9")
    done = run_script("extract_features.py", model, f"--images_dir={folder}", f"--dump_dir={dump}", "--on_error=skip")
    assert done.returncode == 0, done.stderr
    assert rf"see {tmp_path}/dump\udce9/skipped.csv" in done.stderr
    assert (dump / "skipped.csv").read_text(encoding="utf-8").splitlines()[1].startswith("beach/broken.tif,")
    images = read_image_table(dump)
    assert (images.images_dir, len(images)) == (str(folder), 20)
    assert all((folder / path).is_file() for path in images.paths)
    done = run_script("eval.py", f"--query={folder}", "--k=2", f"--dump_dir={pipeline / 'dump'}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert r"caf\udce9/beach/broken.tif is not usable: " in done.stderr
    assert "20 queries in" in done.stdout
    assert rf"'{tmp_path}/caf\udce9/beach/beach0.tif'" in done.stdout
    found = json.loads((pipeline / "dump/K12/queries/query_beach0.json").read_text(encoding="utf-8"))
    assert found["query"] == str(folder / "beach/beach0.tif")


def test_an_image_whose_own_path_is_not_utf_8_is_refused_with_its_name_escaped(tmp_path, run_script, users_mistake):
    folder = tmp_path / "images" / os.fsdecode(b"beach\xe9")
    folder.mkdir(parents=True)
    (folder / "1.tif").write_bytes(b"no image")
    done = run_script("extract_features.py", f"--images_dir={folder.parent}", f"--dump_dir={tmp_path}")
    users_mistake(done, r"first 'beach\udce9/1.tif'; rename what is at fault")
