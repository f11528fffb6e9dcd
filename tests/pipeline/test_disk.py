"""A full disk and a read-only one, where this user may mount them: one line, exit status 2, nothing half-written."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mhcln.storage.files import PART


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, 256 KiB large."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


def fill(disk: Path, leave: int) -> None:
    with (disk / "ballast").open("wb") as ballast:
        ballast.write(b"x" * (shutil.disk_usage(disk).free - leave))


COMMANDS = {
    "extract_features.py": ("--random_weights=0", "--batch_size=4"),
    "dataset_generator.py": ("--seed=5,6",),
    "trainer.py": ("--HASH_BITS=8", "--ITERS=20", "--BATCH_SIZE=6"),
    "eval.py": ("--k=3", "--interval=8", "--run_name=K12"),
}


def command(script: str, pipeline: Path, dump: Path) -> list[object]:
    images = (f"--images_dir={pipeline / 'images'}",) if script == "extract_features.py" else ()
    return [script, *COMMANDS[script], *images, f"--dump_dir={dump}"]


@pytest.mark.parametrize("script", ["dataset_generator.py", "trainer.py", "eval.py"])
def test_a_full_disk_is_one_line_and_changes_nothing(pipeline, small_disk, run_in_process, users_mistake, script):
    for name in ("features.npz", "split.npz", "K12/codes.npz", "K12/run.json"):
        (small_disk / name).parent.mkdir(exist_ok=True)
        shutil.copy(pipeline / "dump" / name, small_disk / name)
    fill(small_disk, leave=4096)
    before = {path: path.read_bytes() for path in small_disk.rglob("*.npz")}
    users_mistake(run_in_process(*command(script, pipeline, small_disk)), "No space left on device")
    assert not [path for path in small_disk.rglob("*") if path.name.startswith(PART)]
    assert before == {path: path.read_bytes() for path in small_disk.rglob("*.npz")}


@pytest.mark.parametrize(
    ("target", "leave"),
    [
        ("codes.faiss", 4096),
        ("served", 8192),
        ("served", 60_000),
    ],  # too little for the weights, or the graph after them
)
def test_an_export_to_a_full_disk_is_one_line_and_leaves_nothing(
    pipeline, small_disk, run_in_process, users_mistake, target, leave
):
    (small_disk / "out").mkdir()
    fill(small_disk, leave)
    export = f"--export={small_disk / 'out' / target}"
    users_mistake(run_in_process("eval.py", f"--dump_dir={pipeline / 'dump'}", export), "No space left on device")
    assert {path.name for path in (small_disk / "out").rglob("*")} <= {".mhcln.lock", "served"}


def read_only(pipeline: Path, disk: Path) -> None:
    shutil.copy(pipeline / "dump" / "features.npz", disk)
    shutil.copy(pipeline / "dump" / "split.npz", disk)
    (disk / "K12").mkdir()
    shutil.copy(pipeline / "dump" / "K12" / "codes.npz", disk / "K12")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


@pytest.mark.parametrize("script", ["extract_features.py", "dataset_generator.py", "trainer.py"])
def test_a_read_only_disk_is_one_line(pipeline, small_disk, run_in_process, users_mistake, script):
    read_only(pipeline, small_disk)
    users_mistake(run_in_process(*command(script, pipeline, small_disk)), "Read-only file system")


def test_a_read_only_disk_is_evaluated_without_a_file(pipeline, small_disk, run_in_process):
    read_only(pipeline, small_disk)
    done = run_in_process(*command("eval.py", pipeline, small_disk))
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert "nothing is written: " in done.stderr
    assert "Read-only file system" in done.stderr
    assert "mAP@3" in done.stdout
