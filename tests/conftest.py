"""Fixtures that several rooms share: the real data where it is, and a way to run the scripts as a user does."""

import functools
import importlib
import os
import runpy
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from graphs import opened, write_graph
from playwright.sync_api import sync_playwright

from mhcln.backbone.backbone import Backbone
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
def browser():
    """The Chromium that is installed, without a window; tests that look at pages are skipped without one."""
    found = os.environ.get(CHROMIUM) or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        pytest.skip(f"no browser is installed (looked for {', '.join(CHROMIUM_NAMES)}, and {CHROMIUM} names none)")
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture
def visit(browser):
    """A function that opens a page and returns it; in the end nothing was fetched, no script failed, no dialog came."""
    contexts, noted = [], []

    def open_page(address: str, **options: object):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("request", lambda request: noted.append(request.url) if not request.url.startswith("file:") else None)
        page.on("pageerror", lambda error: noted.append(str(error)))
        page.on("dialog", lambda dialog: (noted.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [note for note in noted if not note.startswith("blob:")] == []


class RecordingConsole(Quiet):
    """A console that keeps the lines and warnings it is given."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def warn(self, line: str) -> None:
        self.warned.append(line)


def run_here(script: str, *flags: object) -> RecordingConsole:
    """Run the main of a script in this process, which has TensorFlow loaded already; return what it reported."""
    module, console = importlib.import_module(script.removesuffix(".py")), RecordingConsole()
    module.main(module.parser().parse_args([str(flag) for flag in flags]), console)
    return console


@pytest.fixture
def console() -> RecordingConsole:
    return RecordingConsole()


@pytest.fixture(scope="session")
def users_mistake():
    """A function that checks a user's mistake: exit status 2, one line on stderr with some words in it."""

    def check(result: subprocess.CompletedProcess, *words: str) -> None:
        assert result.returncode == 2, result.stderr
        lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
        assert len(lines) == 1, result.stderr
        for word in words:
            assert word in lines[0]

    return check


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    """A folder with a small graph, as `--model_dir` takes it."""
    return write_graph(tmp_path_factory.mktemp("model")).parent


@pytest.fixture(scope="session")
def backbone(model_dir) -> Backbone:
    """The backbone of the small graph, opened."""
    return opened(model_dir)


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory):
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
        run_here(script, *flags, dump)
    return root


@pytest.fixture
def run_in_process(monkeypatch, capsys):
    """A function like `run_script` that runs the script in this process: a start of Python takes long.

    Signal handlers and filters of warnings are as before afterwards. For kills, Ctrl-C and closed streams, which end a
    process, there is `run_script`.
    """

    def run(script: str, *flags: object, cwd: Path = Path()) -> subprocess.CompletedProcess:
        monkeypatch.setattr(sys, "argv", [script, *map(str, flags)])
        monkeypatch.chdir(cwd)
        before = signal.getsignal(signal.SIGTERM)
        try:
            with warnings.catch_warnings(), pytest.raises(SystemExit) as left:
                runpy.run_path(str(REPO_ROOT / script), run_name="__main__")
        finally:
            signal.signal(signal.SIGTERM, before)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, left.value.code, printed.out, printed.err)

    return run


@pytest.fixture
def evaluate(run_in_process):
    """`eval.py` in this process."""
    return functools.partial(run_in_process, "eval.py")
