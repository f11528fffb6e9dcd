"""Fixtures that several rooms share: the real data where it is, and a way to run the scripts as a user does."""

import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from graphs import write_graph
from playwright.sync_api import sync_playwright

from mhcln.backbone.backbone import Backbone, open_backbone
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import Quiet
from mhcln.demo.scenes import SCENES, draw_scene
from mhcln.quiet_tensorflow import tf

REPO_ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "gpu"), default="cpu", help="what all tests compute on")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--device") == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the scripts that tests start inherit it
    elif not tf.config.list_physical_devices("GPU"):
        pytest.exit("--device=gpu, but TensorFlow sees no GPU", returncode=2)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and golden values; tests that need it are skipped without it."""
    folder = os.environ.get("MHCLN_SHARED")
    if not folder:
        pytest.skip("MHCLN_SHARED names no folder with the real data")
    return Path(folder)


@pytest.fixture(scope="session")
def run_script():
    """A function that runs a script in a process of its own and returns its exit status, stdout and stderr."""

    def run(script: str, *flags: object, cwd: Path | None = None, timeout: float = 300) -> subprocess.CompletedProcess:
        command = [sys.executable, str(REPO_ROOT / script), *map(str, flags)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)

    return run


CHROMIUM = "MHCLN_CHROMIUM"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The Chromium that is installed; tests that look at pages are skipped without one."""
    found = os.environ.get(CHROMIUM) or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(CHROMIUM_NAMES)}, and {CHROMIUM} names none)")
    return found


@pytest.fixture(scope="session")
def browser(chromium):
    """That Chromium, running without a window."""
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


class RecordingConsole(Quiet):
    """A console that keeps the lines and warnings it is given."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def warn(self, line: str) -> None:
        self.warned.append(line)


@pytest.fixture
def console() -> RecordingConsole:
    return RecordingConsole()


def assert_users_mistake(result: subprocess.CompletedProcess, *words: str) -> None:
    """A user's mistake: exit status 2, one line on stderr with these words in it, no traceback."""
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="session")
def users_mistake():
    return assert_users_mistake


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    """A folder with a small graph, as `--model_dir` takes it."""
    return write_graph(tmp_path_factory.mktemp("model")).parent


@pytest.fixture(scope="session")
def backbone(model_dir) -> Backbone:
    """The backbone of the small graph, opened."""
    return open_backbone(BackboneOptions(model_dir), Quiet())


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory, run_script):
    """A dump folder that the four scripts made of drawn scenes and a small graph, and the folder of the images."""
    root = tmp_path_factory.mktemp("pipeline")
    for name in list(SCENES)[:4]:
        (root / "images" / name).mkdir(parents=True)
        for number in range(10):
            draw_scene(name, number).resize((96, 96)).save(root / "images" / name / f"{name}{number}.tif")
    write_graph(root / "model")
    dump = f"--dump_dir={root / 'dump'}"
    for script, *flags in (
        ("extract_features.py", f"--model_dir={root / 'model'}", f"--images_dir={root / 'images'}"),
        ("dataset_generator.py", "--train_test_split=0.6"),
        ("trainer.py", "--HASH_BITS=12", "--ALPHA=0.2", "--BATCH_SIZE=30", "--ITERS=300", "--train_test_split=0.6"),
        ("eval.py", "--k=5", "--interval=4"),
    ):
        result = run_script(script, *flags, dump)
        assert result.returncode == 0, f"{script}: {result.stderr}"
    return root


@pytest.fixture
def evaluate(monkeypatch, capsys):
    """`eval.py` in this process, from the flags to the exit status: a start of Python for each test takes long."""

    def run(*flags: object) -> subprocess.CompletedProcess:
        monkeypatch.setattr(sys, "argv", ["eval.py", *map(str, flags)])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(REPO_ROOT / "eval.py"), run_name="__main__")
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, left.value.code, printed.out, printed.err)

    before = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, before)
