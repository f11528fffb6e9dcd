"""The scripts under a Python that cannot run them: one line, exit status 2, and advice that works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO_ROOT

SCRIPTS = ("extract_features.py", "dataset_generator.py", "trainer.py", "eval.py")
OTHER_PYTHON = """
import runpy, sys
sys.version_info = (3, 9, 2, "final", 0)
sys.argv = [{script!r}, "--help"]
runpy.run_path({script!r}, run_name="__main__")
"""


def started(*command: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_python_without_the_packages_is_one_line(script, users_mistake):
    done = started("-S", REPO_ROOT / script, "--help")  # -S: no installed package is found
    users_mistake(done, f"{sys.executable} has no NumPy and Pillow; install what is needed by: python3 -m venv ")


def test_an_old_python_is_one_line(users_mistake):
    done = started("-c", OTHER_PYTHON.format(script=str(REPO_ROOT / "eval.py")))
    users_mistake(done, "this is Python 3.9.2, 3.10 or newer is needed; install what is needed by: ")


def test_the_advice_names_what_is_there():
    line = started("-S", REPO_ROOT / "eval.py", "--table").stderr.strip()
    install, then = re.fullmatch(r".*: (python3 -m venv .*); then run (.*)", line).groups()
    make, fill = (shlex.split(part) for part in install.split(" && "))
    pip, *arguments = fill
    assert make[:3] == ["python3", "-m", "venv"]
    assert (pip, arguments[:2]) == (f"{make[3]}/bin/pip", ["install", "-r"])
    assert Path(arguments[2]) == REPO_ROOT / "requirements.txt"
    python, script = shlex.split(then)
    assert python == f"{make[3]}/bin/python"
    assert started(script, "--help").returncode == 0


@pytest.mark.parametrize(("package", "script"), [("tensorflow", "extract_features.py"), ("tqdm", "trainer.py")])
def test_a_package_that_is_needed_later_is_one_line(pipeline, tmp_path, monkeypatch, users_mistake, package, script):
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('No module', name={package!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in ("features.npz", "split.npz"):
        (tmp_path / name).symlink_to(pipeline / "dump" / name)
    flags = {"extract_features.py": ["--random_weights=0", f"--images_dir={pipeline / 'images'}"]}
    done = started(REPO_ROOT / script, *flags.get(script, ["--ITERS=2"]), f"--dump_dir={tmp_path}")
    users_mistake(done, f"has no {package}; install what is needed by: ")


def test_a_module_of_ours_that_is_missing_is_a_fault_of_ours():
    code = "from mhcln import cli\ndef main(*_): import mhcln.nothing\ncli.run(cli.Parser('x'), main)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
