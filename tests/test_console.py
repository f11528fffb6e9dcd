"""What can be printed, and the paths that users write."""

import io
import os
from pathlib import Path

import pytest

from mhcln.console import UserError, abbreviated, is_printable, print_line, shown, user_path

# A blank of macOS screenshots, one of Japanese keyboards, a joiner in an emoji, a letter of Unicode 16
PRINTABLE = ["Screenshot 9.41\u202fAM.png", "a\u00a0b", "東\u3000京", "👩\u200d🌾", "\U00010d50", "Größe", "a b"]
UNPRINTABLE = ["a\nb", "a\tb", "\x1b[2J", "\x7f", "\x85", os.fsdecode(b"caf\xe9"), "\ud800"]


def test_only_control_characters_and_surrogates_cannot_be_printed():
    assert [name for name in PRINTABLE if not is_printable(name)] == []
    assert [name for name in UNPRINTABLE if is_printable(name)] == []


def test_names_in_messages_are_printable_and_few():
    assert shown("a\u00a0b 東\u3000京") == "a\u00a0b 東\u3000京"
    assert shown(os.fsdecode(b"caf\xe9")) == r"'caf\udce9'"
    assert abbreviated(["a", "b\n"]) == r"a, 'b\n'"
    assert abbreviated([str(number) for number in range(8)], most=2) == "0, 1 and 6 more"


def test_a_tilde_is_the_home_folder_and_other_names_stay(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/dump") == tmp_path / "dump"
    assert user_path("~") == tmp_path
    for other in ("a/~/b", "~no_such_user/x", "~$report.tif", "./~", "dump_dir/", "-"):
        assert user_path(other) == Path(other)


def test_without_a_home_folder_a_tilde_is_refused(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", str)  # as it does where a foreign user id has no HOME
    assert user_path("dump") == Path("dump")
    with pytest.raises(UserError, match="~/dump: your home folder is not known; set HOME"):
        user_path("~/dump")


@pytest.mark.parametrize(("encoding", "e"), [("utf-8", "é"), ("ascii", r"\xe9")])
def test_control_characters_and_what_an_output_cannot_encode_are_escaped(encoding, e):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    print_line("a\x1b[2Jb\x9b\n\tc é caf\udce9", stream)
    assert stream.buffer.getvalue().decode(encoding) == "a\\x1b[2Jb\\x9b\n\tc " + e + " caf\\udce9\n"
