"""The dependency rule: scripts -> pipeline -> rooms -> storage -> console, sideways only as listed here."""

import ast
from collections.abc import Iterator
from pathlib import Path

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
TENSORFLOW = {  # files of pipeline/ that may use it
    *("worker", "workers", "extraction", "extract", "feature_batches", "train", "training_job", "training_setup"),
    *("add_images", "search", "hasher", "hash_images", "export_model"),
}


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


def test_a_room_imports_only_what_it_may():
    found = {str(path): violations(path, (REPO_ROOT / "mhcln" / path).read_text(encoding="utf-8")) for path in FILES}
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


def test_wrong_imports_are_found():
    for path, line in (
        ("hamming/index.py", "from mhcln.data import datasets"),
        ("evaluation/metrics.py", "from mhcln.quiet_tensorflow import tf"),
        ("reporting/page.py", "import tensorflow as tf"),
        ("training/loop.py", "def late():\n    from mhcln.pipeline import train"),
        ("pipeline/evaluate.py", "from mhcln.quiet_tensorflow import keras"),
    ):
        assert len(violations(Path(path), line)) == 1, path


def test_the_files_beside_the_rooms_import_nothing_above_them():
    beside = {
        "console": set(),
        "quiet_tensorflow": {"console"},
        "device": {"console", "quiet_tensorflow"},
        "cli": {"console", "storage"},
    }
    for name, allowed in beside.items():
        found = imports_of((REPO_ROOT / "mhcln" / f"{name}.py").read_text(encoding="utf-8"))
        inner = {module.split(".")[1] for module in found if module.startswith("mhcln.")}
        assert inner <= allowed
