"""How a large archive is opened and searched: seconds, resident memory, and whether what is found is exact.

python tests/benchmarks/archive.py [--images=1000000] [--folder=folder]

Makes the archive of a run of 32 bits as `eval.py --add` does, with a path of 30 letters and 32 bytes of activations for
each image, and removes it again. Codes are drawn with replacement from the 840 codes of the published trainer
(`golden/published_code_ucmd_k32.npz` in the folder MHCLN_SHARED; without it from 312 random ones), 1 % of their bits
flipped; activations are random on the side that the bit says. A new process then opens the archive and searches it with
images that were made in the same way; three of its results are compared with a scan of all codes.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from factories import record

from mhcln.console import Quiet
from mhcln.hamming.codes import Points, pack
from mhcln.pipeline.additions import ARCHIVE_SHARD_IMAGES, ArchiveWriter
from mhcln.pipeline.opened_run import index_of, open_run_folder
from mhcln.storage import layout, runs
from mhcln.storage.archive import Archive
from mhcln.storage.coded_images import CodedImages, write_codes
from mhcln.storage.files import locked, sha256_of
from mhcln.storage.run_record import TrainConfig

REPOSITORY = Path(__file__).resolve().parents[2]
# eval.py, and behind what it prints the most memory that it took; getrusage would count this process too
EVAL = """
import runpy
try:
    runpy.run_path("eval.py", run_name="__main__")
finally:
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
K, BITS, FLIPS = 20, 32, 0.01
BYTES = 220  # of disk for an image, at most


def centres() -> np.ndarray:
    if shared := os.environ.get("MHCLN_SHARED"):
        with np.load(Path(shared) / "golden/published_code_ucmd_k32.npz") as golden:
            return golden["test_embeddings"].astype(bool)
    return np.random.default_rng(0).random((312, BITS)) < 0.5


def drawn(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Codes `[n, 4]` and levels `[n, 32]`."""
    some = centres()
    bits = some[rng.integers(len(some), size=n)] ^ (rng.random((n, BITS), np.float32) < FLIPS)
    return pack(bits), rng.integers(0, 128, (n, BITS), np.uint8) | (bits.astype(np.uint8) << 7)


def path_of(row: int) -> str:
    return f"tile_{row // 10_000:05}/scene_{row:09}.jpg"


def make(folder: Path, n: int) -> None:
    """Write the run, and add n images to its archive."""
    folder.mkdir(parents=True)
    own = pack(centres())
    paths = [f"{row:03}.tif" for row in range(len(own))]
    labels, split = np.zeros(len(own), np.int32), ["test"] * len(own)
    write_codes(folder, CodedImages(labels=labels, paths=paths, class_names=["a"], codes=own, bits=BITS, split=split))
    files = {layout.CODES: sha256_of(folder / layout.CODES), layout.MODEL: "00"}
    runs.write_record(folder, record(TrainConfig(bits=BITS), files=files, extractor="x", images_dir="/images"))
    with locked(folder / layout.ARCHIVES):
        writer = ArchiveWriter(runs.read_run(folder))
        for start in range(0, n, ARCHIVE_SHARD_IMAGES):
            count = min(ARCHIVE_SHARD_IMAGES, n - start)
            codes, levels = drawn(count, np.random.default_rng(start))
            images = CodedImages(
                labels=np.full(count, -1, np.int32),
                paths=[*map(path_of, range(start, start + count))],
                class_names=[],
                images_dir="/added",
                extractor="x",
                stamps=np.zeros((count, 3), np.int64),
                checksums=np.zeros(count, np.int64),
                codes=codes,
                bits=BITS,
                levels=levels,
            )
            writer.append("added", images)
        writer.commit()


def queries() -> list[Points]:
    codes, levels = drawn(20, np.random.default_rng(-1 % 2**32))
    return [Points(codes[[row]], levels[[row]]) for row in range(len(codes))]


def resident() -> dict[str, float]:
    """Megabytes of this process in memory: all, of them its own, and the highest that all have been."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {name: int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "VmHWM")}


def forget(folder: Path) -> None:
    """Have the system drop what it keeps of the files in memory."""
    for path in folder.rglob("*.npz"):
        with path.open("rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def open_and_search(folder: Path, n: int) -> None:
    """Print as JSON what a process that opens the archive measures."""
    before = resident()["VmRSS"]
    start = time.perf_counter()
    archive = open_run_folder(folder).archive("all")
    index = index_of(archive, Quiet())
    opened, opened_memory = time.perf_counter() - start, resident()
    found, seconds = [], []
    for query in queries():
        start = time.perf_counter()
        found.append([each[0].tolist() for each in index.search(query.codes, K, query.levels)])
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    assert archive.rows_of(path_of(n // 3)) == [len(archive.parts[0]) + n // 3]
    named = time.perf_counter() - start
    start = time.perf_counter()
    for nearest, _, _ in found:
        for each in nearest:
            archive.path_of(each)
    paths = (time.perf_counter() - start) / len(found)
    content = {"opened": opened, "seconds": seconds, "named": named, "paths": paths, "before": before}
    content |= {"opened_memory": opened_memory, "memory": resident()}
    print(json.dumps({**content, "found": found}))


def scan(archive: Archive, query: Points, kth: int) -> list:
    """Compare a query with every code, and with the levels of all that are within distance `kth`.

    Returns:
        The rows of the k nearest, their distances, and how many codes are at distance `kth`.
    """
    rows, keys, tied = [], [], 0
    word = query.codes.view(np.uint32)[0, 0]
    for start, part in zip(archive.starts.tolist(), archive.parts, strict=False):
        distance = np.bitwise_count(np.ascontiguousarray(part.codes).view(np.uint32)[:, 0] ^ word)
        here = np.flatnonzero(distance <= kth)
        apart, levels = np.full(len(here), 2**31 - 1), part.unsorted().levels
        if len(levels):
            apart = np.abs(levels[here].astype(np.int16) - query.levels.astype(np.int16)).sum(axis=1, dtype=np.int64)
        rows.append(start + here)
        keys.append(np.stack([distance[here].astype(np.int64), apart]))
        tied += int(np.count_nonzero(distance == kth))
    row, (distance, apart) = np.concatenate(rows), np.concatenate(keys, axis=1)
    order = np.lexsort((row, apart, distance))[:K]
    return [row[order].tolist(), distance[order].tolist(), tied]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the archive is made; if not given, a temporary folder")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    n = flags.images
    if flags.open:
        open_and_search(flags.open, n)
        return
    folder = Path(tempfile.mkdtemp(dir=flags.folder))
    if shutil.disk_usage(folder).free < n * BYTES:
        raise SystemExit(f"{folder} has less than the {n * BYTES:,} bytes that {n:,} images may take")
    try:
        measure(folder / "dump" / "K32", n)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, n: int) -> None:
    print(f"NumPy {np.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {n:,} images, k = {K}")
    start = time.perf_counter()
    make(folder, n)
    made = time.perf_counter() - start
    size = sum(path.stat().st_size for path in (folder / layout.ARCHIVES).rglob("*") if path.is_file())
    files = len(list((folder / layout.ARCHIVES / layout.ARCHIVE_SHARDS).iterdir()))
    print(
        f"made in {made:.0f} s, {1e6 * made / n:.1f} s a million; "
        f"{size:,} bytes, {size / n:.1f} an image, {files} shards"
    )

    command = [sys.executable, __file__, f"--open={folder}", f"--images={n}"]
    results = []
    for kept in ("nothing", "all that was read") * 2:
        if kept == "nothing":
            forget(folder)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        result = json.loads(done.stdout)
        results.append(result)
        seconds = result["seconds"]
        print(
            f"of the files in memory: {kept}\n"
            f"  opened in {result['opened']:.3f} s; queries: first {seconds[0]:.3f} s, median "
            f"{statistics.median(seconds):.3f} s, longest {max(seconds):.3f} s; a path found in "
            f"{1e3 * result['named']:.1f} ms, the paths of {K} rows in {1e3 * result['paths']:.1f} ms\n"
            f"  resident: {result['before']:.0f} MB before, {result['opened_memory']['VmRSS']:.0f} MB opened, "
            f"{result['memory']['VmHWM']:.0f} MB at most, {result['memory']['RssAnon']:.0f} MB of them its own"
        )
    archive = open_run_folder(folder).archive("all")
    for number, query in enumerate(queries()[:3]):
        found = results[0]["found"][number]
        assert found == scan(archive, query, found[1][-1])
    print(f"3 of {len(queries())} results compared with a scan of all codes and activations: equal")
    query = archive.path_of(len(archive) // 2)
    command = [sys.executable, "-c", EVAL, f"--dump_dir={folder.parent}", f"--query={query}"]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    took, peak = time.perf_counter() - start, int(done.stdout.split()[-2]) / 1024
    print(f"eval.py --query=path in the archive: {took:.1f} s from start to end, {peak:.0f} MB resident at most")
    worst = {
        "opened within 10 s": (max(each["opened"] for each in results), 10),
        "each query within 1 s, files in memory": (max(max(each["seconds"]) for each in results[1::2]), 1),
        "under 2,000 MB resident": (max(each["memory"]["VmHWM"] for each in results), 2000),
    }
    for what, (value, most) in worst.items():
        print(f"{'reached' if value < most else 'NOT REACHED'}: {what} ({value:.2f})")


if __name__ == "__main__":
    main()
