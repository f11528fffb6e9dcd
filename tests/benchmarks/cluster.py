"""What workers cost: python tests/benchmarks/cluster.py [--images=1000] [--rounds=3] [--workers=N].

Both sides extract the same images on the same cores, round after round: N processes of one thread that are started by
hand, each on a core of its own and on its share of the images; and one command with --workers=N. Measured are the
seconds of the whole commands; from the first batch on, since a cluster may run already; and of the processor for all
processes, Ray's own among them, which other work on the machine does not change much. The last lines say by how much
features move when a worker has other threads, or another processor. With MHCLN_SHARED set: UCMD images and the 2015
graph; without it drawn images and random weights.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from extraction import images

from mhcln.storage.features import read_features

SCRIPT = Path(__file__).resolve().parents[2] / "extract_features.py"
TIMES = ("whole command", "from the first batch on", "of the processor")
WANTED = 1.05  # times the seconds of one process a core
MOVED_IMAGES = 64
OTHERS = {
    "1 thread": {},
    "2 threads": {"TF_NUM_INTRAOP_THREADS": "2", "TF_NUM_INTEROP_THREADS": "2"},
    "4 threads": {"TF_NUM_INTRAOP_THREADS": "4", "TF_NUM_INTEROP_THREADS": "4"},
    "a processor without AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX2"},  # oneDNN then takes the kernels of one
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    flags = parser.parse_args()
    shared = Path(os.environ["MHCLN_SHARED"]) if os.environ.get("MHCLN_SHARED") else None
    weights = f"--model_dir={shared / 'models'}" if shared else "--random_weights=0"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = images(root / "whole", shared, flags.images)
        for number, path in enumerate(paths):
            part = root / f"part{number % flags.workers}" / "all"
            part.mkdir(parents=True, exist_ok=True)
            os.link(path, part / path.name)
        compare(root, weights, flags.workers, flags.rounds)
        moved(root, weights, paths[:MOVED_IMAGES])


def compare(root: Path, weights: str, workers: int, rounds: int) -> None:
    ratios: dict[str, list[float]] = {name: [] for name in TIMES}
    for number in range(rounds + 1):  # the first fills the cache of the files
        ours = with_workers(root, weights, workers)
        theirs = by_hand(root, weights, workers)
        print(f"round {number}: {shown(ours)} with --workers={workers}, {shown(theirs)} by hand")
        if number:
            for values, one, other in zip(ratios.values(), ours, theirs, strict=True):
                values.append(one / other)
    for name, values in ratios.items():
        ratio = statistics.median(values)
        verdict = "reached" if ratio <= WANTED else "NOT reached"
        print(f"{verdict}: {name}, times one process a core {ratio:.3f}, wanted at most {WANTED:g}")
    parts = [read_features(root / f"dump{core}") for core in range(workers)]
    apart = {path: row.tobytes() for part in parts for path, row in zip(part.images.paths, part.vectors, strict=True)}
    whole = read_features(root / "dump")
    equal = sum(apart[path] == row.tobytes() for path, row in zip(whole.images.paths, whole.vectors, strict=True))
    print(f"{equal} of {len(apart)} features are bit-equal")


def shown(seconds: list[float]) -> str:
    return ", ".join(f"{value:.1f} s {name}" for name, value in zip(TIMES, seconds, strict=True))


def with_workers(root: Path, weights: str, workers: int) -> list[float]:
    return timed(root, [command(root, "whole", "dump", weights, f"--workers={workers}", "--cpus_per_worker=1")])


def by_hand(root: Path, weights: str, workers: int) -> list[float]:
    started = [
        ["taskset", "-c", str(core), *command(root, f"part{number}", f"dump{number}", weights, "--device=cpu")]
        for number, core in enumerate(sorted(os.sched_getaffinity(0))[:workers])
    ]
    return timed(root, started)


def command(root: Path, name: str, dump: str, *more: str) -> list[str]:
    shutil.rmtree(root / dump, ignore_errors=True)
    return [sys.executable, str(SCRIPT), f"--images_dir={root / name}", f"--dump_dir={root / dump}", *more]


def timed(root: Path, commands: list[list[str]]) -> list[float]:
    """Return the seconds of TIMES until all commands have ended."""
    started = first = time.monotonic()
    running = [subprocess.Popen(each, stdout=subprocess.DEVNULL, cwd=SCRIPT.parent) for each in commands]
    spent: dict[int, int] = {}
    while any(process.poll() is None for process in running):
        if first == started and next(root.glob("dump*/extract.part/batch_*"), None):
            first = time.monotonic()
        spent.update(ticks({process.pid for process in running}))
        time.sleep(0.1)
    if any(process.returncode for process in running):
        sys.exit("a command failed")
    now = time.monotonic()
    return [now - started, now - first, sum(spent.values()) / os.sysconf("SC_CLK_TCK")]


def ticks(roots: set[int]) -> dict[int, int]:
    """Return the processor time so far of these processes and all below them, by process, as Linux counts it."""
    parents, times = {}, {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            parents[int(process.name)] = int(fields[1])
            times[int(process.name)] = int(fields[11]) + int(fields[12])

    def below(number: int) -> bool:
        while number and number not in roots:
            number = parents.get(number, 0)
        return bool(number)

    return {number: time for number, time in times.items() if below(number)}


def moved(root: Path, weights: str, paths: list[Path]) -> None:
    (root / "few" / "all").mkdir(parents=True)
    for path in paths:
        os.link(path, root / "few" / "all" / path.name)
    vectors = {}
    for name, more in OTHERS.items():
        environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", **more}
        run = command(root, "few", "few_dump", weights, "--device=cpu")
        subprocess.run(run, check=True, capture_output=True, env=environment, cwd=SCRIPT.parent)
        vectors[name] = read_features(root / "few_dump").vectors
    first, *others = vectors
    for name in others:
        distance = np.linalg.norm(vectors[name] - vectors[first], axis=1) / np.linalg.norm(vectors[first], axis=1)
        print(
            f"{name}, relative distance to {first}: median {np.median(distance):.1e}, most {distance.max():.1e}; "
            f"{np.mean(vectors[name] != vectors[first]):.1%} of the floats differ"
        )


if __name__ == "__main__":
    main()
