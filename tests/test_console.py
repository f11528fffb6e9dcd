"""What can be printed, the paths that users write, and a stream that nobody reads any more."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO_ROOT

from mhcln.console import UserError, is_printable, print_line, user_path

# A blank of macOS screenshots, one of Japanese keyboards, a joiner in an emoji, a letter of Unicode 16
PRINTABLE = ["Screenshot 9.41\u202fAM.png", "a\u00a0b", "東\u3000京", "👩\u200d🌾", "\U00010d50", "Größe", "a b"]
UNPRINTABLE = ["a\nb", "a\tb", "\x1b[2J", "\x7f", "\x85", os.fsdecode(b"caf\xe9"), "\ud800"]


def test_only_control_characters_and_surrogates_cannot_be_printed():
    assert [name for name in PRINTABLE if not is_printable(name)] == []
    assert [name for name in UNPRINTABLE if is_printable(name)] == []


def test_a_tilde_is_the_home_folder_and_other_names_stay(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/dump") == tmp_path / "dump"
    assert user_path("~") == tmp_path
    for other in ("a/~/b", "~no_such_user/x", "~$report.tif", "./~", "dump_dir/", "-"):
        assert user_path(other) == Path(other)


def test_without_a_home_folder_a_tilde_is_refused(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", str)  # as it does where a foreign user id has no HOME
    assert user_path("dump") == Path("dump")
    with pytest.raises(UserError, match="~/dump: nothing says where your home folder is; set HOME"):
        user_path("~/dump")


def test_control_characters_are_escaped_and_lines_and_tabs_stay():
    stream = io.StringIO()
    print_line("a\x1b[2Jb\x9b\n\tc é", stream)
    assert stream.getvalue() == "a\\x1b[2Jb\\x9b\n\tc é\n"


TALK = """
import sys
from mhcln.console import Console
console = Console()
for number in range(100_000):
    console.say(str(number))
    console.warn(str(number))
open(sys.argv[1], "w").write("done")
"""


def test_work_goes_on_when_nobody_reads_what_is_printed(tmp_path):
    """Both streams are closed after the first line; what follows the printing is done all the same."""
    command = [sys.executable, "-c", TALK, str(tmp_path / "file")]
    with subprocess.Popen(command, cwd=REPO_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        process.stderr.close()
        assert process.wait(60) == 0
    assert (tmp_path / "file").read_text() == "done"
