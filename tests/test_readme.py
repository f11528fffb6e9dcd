"""The README's commands use flags that exist, its links lead somewhere, and its pictures are there."""

import importlib
import re
import shlex

import pytest
from conftest import HOUSE

README = (HOUSE / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"^python ((?:\w+)\.py [^#\n]*)", README, re.MULTILINE)))


def test_the_four_published_commands_are_there():
    for script in ("extract_features", "dataset_generator", "trainer", "eval"):
        assert any(command.startswith(f"{script}.py") for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    script, *flags = shlex.split(command)
    importlib.import_module(script.removesuffix(".py")).parser().parse_args(flags)


def test_links_and_pictures_exist():
    places = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert len(places) >= 6
    assert [place for place in places if not (HOUSE / place).exists()] == []


def test_every_module_named_in_the_layout_exists():
    named = set(re.findall(r"`(\w+\.py)`", README)) - {path.name for path in HOUSE.glob("*.py")}
    assert named
    assert [name for name in sorted(named) if not (HOUSE / "mhcln" / name).exists()] == []
