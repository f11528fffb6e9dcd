"""Names in messages."""

import os

from mhcln.data.names import abbreviated, shown


def test_names_that_cannot_be_printed_are_shown_as_python_strings():
    assert shown("a\u00a0b 東\u3000京") == "a\u00a0b 東\u3000京"
    assert shown("new\nline") == r"'new\nline'"
    assert shown(os.fsdecode(b"caf\xe9")) == r"'caf\udce9'"


def test_few_names_are_listed_and_the_rest_counted():
    assert abbreviated(["a", "b\n"]) == r"a, 'b\n'"
    assert abbreviated([str(number) for number in range(8)], most=2) == "0, 1 and 6 more"
