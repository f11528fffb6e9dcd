"""The dependency rule: scripts -> pipeline -> rooms -> storage -> console, sideways only as listed here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPO_ROOT

EVERYWHERE = {"console", "storage"}
# What each room may import, beside itself, `console` and `storage`.
ROOMS = {
    "backbone": {"data", "device", "quiet_tensorflow"},
    "training": {"evaluation", "hamming", "quiet_tensorflow"},
    "evaluation": {"hamming"},
    "reporting": {"data", "evaluation"},
    "hamming": set(),
    "data": set(),
    "storage": set(),
    "demo": {"cli", "data"},
    "pipeline": {"backbone", "training", "hamming", "evaluation", "reporting", "data", "device", "quiet_tensorflow"},
}
TENSORFLOW = {
    "cluster",
    "worker",
    "extract",
    "feature_batches",
    "train",
    "training_job",
    "training_setup",
    "add_images",
    "search",
    "hasher",
    "hash_images",
    "export_model",
}  # files of pipeline/ that may use it


def imports_of(source: str) -> Iterator[str]:
    """Modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(path: Path, source: str) -> list[str]:
    """Imports of a file of the package that the rule does not allow."""
    room = path.parts[0]
    allowed = {room, *ROOMS[room], *(EVERYWHERE if room != "storage" else {"console"})}
    if room == "pipeline" and path.stem not in TENSORFLOW:
        allowed -= {"device", "quiet_tensorflow"}
    found = []
    for name in imports_of(source):
        package, *inner = name.split(".")
        if package in ("tensorflow", "keras") or (package == "mhcln" and inner[0] not in allowed):
            found.append(name)
    return found


FILES = sorted(path.relative_to(REPO_ROOT / "mhcln") for path in (REPO_ROOT / "mhcln").rglob("*/*.py"))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_room_imports_only_what_it_may(path):
    assert violations(path, (REPO_ROOT / "mhcln" / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("hamming/index.py", "from mhcln.data import datasets"),
        ("evaluation/metrics.py", "from mhcln.quiet_tensorflow import tf"),
        ("reporting/page.py", "import tensorflow as tf"),
        ("storage/files.py", "from mhcln.data.splits import check"),
        ("training/loop.py", "from mhcln.pipeline import train"),
        ("training/loop.py", "def late():\n    from mhcln.backbone import loader"),
        ("pipeline/evaluate.py", "from mhcln.quiet_tensorflow import keras"),
        ("data/images.py", "from mhcln import cli"),
    ],
)
def test_a_wrong_import_is_found(path, line):
    assert len(violations(Path(path), line)) == 1


def test_the_files_beside_the_rooms_import_nothing_above_them():
    beside = {
        "console": set(),
        "quiet_tensorflow": {"console"},
        "installation": set(),
        "device": {"console", "quiet_tensorflow"},
        "cli": {"console", "installation", "storage"},
    }
    for name, allowed in beside.items():
        found = imports_of((REPO_ROOT / "mhcln" / f"{name}.py").read_text(encoding="utf-8"))
        inner = {module.split(".")[1] for module in found if module.startswith("mhcln.")}
        assert inner <= allowed


def test_scripts_import_no_script():
    scripts = {path.stem for path in REPO_ROOT.glob("*.py")}
    assert len(scripts) == 4
    for script in scripts:
        found = {name.split(".")[0] for name in imports_of((REPO_ROOT / f"{script}.py").read_text(encoding="utf-8"))}
        assert not found & scripts


def test_imports_stand_at_the_top_but_for_those_that_a_start_would_wait_for():
    late = {}
    for path in [*(REPO_ROOT / "mhcln").rglob("*.py"), *REPO_ROOT.glob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        inner = [ast.unparse(node) for function in functions for node in ast.walk(function)]
        if found := {line for line in inner if line.startswith(("import ", "from "))}:
            late[path.name] = found
    assert late == {
        "console.py": {"from tqdm import tqdm"},
        "rasters.py": {"import rasterio", "import rasterio.crs", "import rasterio.errors", "import rasterio.warp"},
        "export_index.py": {"import faiss"},
        "cluster.py": {"import ray", "import ray.util.scheduling_strategies"},
        "eval.py": {
            "from mhcln.pipeline.search import SearchOptions, search",
            "from mhcln.pipeline.export_model import export_model",
        },
    }


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_it_is_and_what_its_files_are(room):
    for opening in (REPO_ROOT / "mhcln" / room).rglob("__init__.py"):
        text = ast.get_docstring(ast.parse(opening.read_text(encoding="utf-8")))
        assert text
        for path in opening.parent.glob("*.py"):
            assert path.stem == "__init__" or f"`{path.stem}`" in text, f"{opening} does not name {path.name}"
