"""The documents: commands use flags that exist, links lead somewhere, what they name is there, the notebook runs."""

import importlib
import re
import shlex

import pytest
from conftest import REPO_ROOT

import mhcln

DOCUMENTS = (
    "README.md",
    "mhcln/README.md",
    "mhcln/evaluation/README.md",
    "mhcln/training/methods/README.md",
    "mhcln/pipeline/README.md",
    "tests/benchmarks/README.md",
    "UCMD/README.md",
    "AID/README.md",
)
TEXTS = {name: (REPO_ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
README, HOUSE = TEXTS["README.md"], TEXTS["mhcln/README.md"]
COMMANDS = sorted({*re.findall(r"^python (\w+\.py [^#\n]*)", "\n".join(TEXTS.values()), re.MULTILINE)})
ROOMS = sorted(path.parent.name for path in (REPO_ROOT / "mhcln").glob("*/__init__.py"))


def anchors(text: str) -> set[str]:
    """Names by which GitHub links to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_four_published_commands_are_there():
    in_readme = re.findall(r"^python (\w+\.py) ", README, re.MULTILINE)
    for script in ("extract_features", "dataset_generator", "trainer", "eval"):
        assert f"{script}.py" in in_readme


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    script, *flags = shlex.split(command)
    importlib.import_module(script.removesuffix(".py")).parser().parse_args(flags)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_pictures_and_benchmarks_exist(name):
    folder = (REPO_ROOT / name).parent
    for script in re.findall(r"python (tests/\S+\.py)", TEXTS[name]):
        assert (REPO_ROOT / script).is_file()
    places = re.findall(r"\]\((?!https?:)([^)#]+)(?:#([^)]*))?\)", TEXTS[name])
    assert len(places) >= (6 if name == "README.md" else 0)
    assert [place for place, _ in places if not (folder / place).exists()] == []
    for place, anchor in places:
        assert not anchor or anchor in anchors((folder / place).read_text(encoding="utf-8")), f"{place}#{anchor}"


def test_every_document_is_reached_from_the_front_page():
    linked = set(re.findall(r"\]\(([\w/]+\.md)", README))
    assert set(DOCUMENTS) - {"README.md"} <= linked


def test_every_module_named_in_the_layout_exists():
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", HOUSE)) - {path.name for path in REPO_ROOT.glob("*.py")}
    assert named
    assert [
        name for name in sorted(named) if not ((REPO_ROOT / "mhcln" / name).exists() or (REPO_ROOT / name).exists())
    ] == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_drawn_with_its_files(room):
    drawn = re.findall(rf"^ *(?:[├└]─► )?{room}/ .*\n(?: *│? +\w.*\n)*", HOUSE, re.MULTILINE)
    assert len(drawn) == 1
    words = set(re.findall(r"\w+", drawn[0]))
    files = {path.stem for path in (REPO_ROOT / "mhcln" / room).glob("*.py")}
    assert {stem for stem in files if not stem.startswith("__")} <= words


def test_the_notebook_runs(pipeline, tmp_path, monkeypatch, capsys):
    section = HOUSE[HOUSE.index("## In a notebook") :]
    blocks = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    code = blocks[0]
    # the pipeline of the tests has codes of 12 bits, and 15 images that a query can find
    for printed, small in (("iterations=2000", "iterations=20"), ("k=20", "k=5"), ("dump_dir/K32", "dump_dir/K12")):
        assert code.count(printed) == 1
        code = code.replace(printed, small)
    code = code.replace('metrics["mAP@20"]', 'metrics["mAP@5"]')
    (tmp_path / "dump_dir").symlink_to(pipeline / "dump")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "mhcln/README.md", "exec"), names)
    score, paths = capsys.readouterr().out.splitlines()
    assert 0 <= float(score) <= 1
    assert paths == str([names["images"].paths[row] for row in names["rows"][0]])
    assert names["rows"].shape == names["distances"].shape == (1, 20)
    assert (mhcln.pack(names["bits"]) == names["archive"]).all()
    assert names["trained"].bits == 32
