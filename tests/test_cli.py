"""Exit statuses and messages, as a shell sees them."""

import argparse
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import REPO_ROOT

from mhcln.cli import TRACEBACK, folder_name, fraction, margin, names, whole_number, whole_numbers

SCRIPTS = ("extract_features.py", "dataset_generator.py", "trainer.py", "eval.py")

BODY = """
import argparse, os, sys, time
from mhcln import cli
from mhcln.console import UserError
def main(flags, console):
    {body}
cli.run(cli.Parser("test"), main)
"""


def run(body: str, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", BODY.format(body=body), *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO_ROOT, check=False)


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
    command = f"PYTHONPATH='{REPO_ROOT}' '{sys.executable}' '{tmp_path}/talk.py' | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("0\n", "")


@pytest.mark.parametrize(("text", "right"), [("1", True), ("0", False), ("-1", False), ("1.5", False), ("x", False)])
def test_whole_numbers_have_a_minimum(text, right):
    if right:
        assert whole_number(1)(text) == int(text)
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number of at least 1"):
            whole_number(1)(text)


def test_lists_of_numbers_and_fractions_are_checked():
    assert whole_numbers(0)("0,1,2") == [0, 1, 2]
    assert fraction("0.6") == 0.6
    for parse, text in ((whole_numbers(0), "1,1"), (whole_numbers(0), "1,"), (fraction, "1"), (fraction, "nan")):
        with pytest.raises(argparse.ArgumentTypeError):
            parse(text)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_line(tmp_path, run_script, users_mistake):
    tmp_path.chmod(0o500)
    users_mistake(run_script("dataset_generator.py", "--dump_dir", tmp_path / "dump"), "Permission denied")


@pytest.mark.parametrize(
    ("parse", "text"),
    [(margin, "0"), (margin, "2.1"), (margin, "nan"), (margin, "x"), (folder_name, ".."), (folder_name, "a/b")],
)
def test_margins_and_names_of_folders_are_checked(parse, text):
    assert (margin("2"), folder_name("K32"), names("mixed,mixed_1")) == (2.0, "K32", ("mixed", "mixed_1"))
    with pytest.raises(argparse.ArgumentTypeError, match="is not"):
        parse(text)
