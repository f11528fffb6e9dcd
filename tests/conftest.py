"""Fixtures that several rooms share: the real data where it is, and a way to run the scripts as a user does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
# Tests compare exact numbers, so they all run on the processor.
os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and golden values; tests that need it are skipped without it."""
    folder = os.environ.get("MHCLN_SHARED")
    if not folder:
        pytest.skip("MHCLN_SHARED names no folder with the real data")
    return Path(folder)


@pytest.fixture(scope="session")
def run_script():
    """Run a script of the house in a process of its own; answer its exit status, stdout and stderr."""

    def run(script: str, *flags: object, cwd: Path | None = None, timeout: float = 300) -> subprocess.CompletedProcess:
        command = [sys.executable, str(HOUSE / script), *map(str, flags)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)

    return run


class Console:
    """A console that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def warn(self, line: str) -> None:
        self.warned.append(line)

    def bar(self, total: int, description: str, unit: str, done: int = 0):
        from tqdm import tqdm

        return tqdm(total=total, desc=description, unit=unit, initial=done, disable=True)


@pytest.fixture
def console() -> Console:
    return Console()


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
