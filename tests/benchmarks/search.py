"""How fast the k nearest codes are found, against faiss: exact, and the rows in the same order.

python tests/benchmarks/search.py [--rounds=5]    (needs `pip install faiss-cpu`)

Two ratios to each of faiss's exact searches (`IndexBinaryFlat`, `knn_hamming` variants hc and mc), above 1 if ours
is faster; medians over rounds in which all take turns:

- wall: both as they are, faiss on all cores;
- ideal: processor time of each on one core, divided by the number of cores if it would use them all. That is what an
  idle machine with perfect scaling would show, and it hardly depends on what else the machine does; waiting faiss
  threads spin, so on a busy machine the wall ratio flatters ours.

A target counts as reached if both ratios reach it. "Learned" codes are drawn with replacement from the 840 codes of the
published trainer (`golden/published_code_ucmd_k32.npz` in the folder MHCLN_SHARED, 64 bits by joining two of them) with
a share of their bits flipped; without that folder, from 312 random codes.
"""

import argparse
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mhcln.hamming import index as hamming_index
from mhcln.hamming.codes import count_distinct, pack
from mhcln.hamming.index import Index

K = 20
MILLION = 1_000_000
CORES = os.cpu_count() or 1
PEERS = ("Flat", "hc", "mc")


def centres(bits: int) -> np.ndarray:
    shared = os.environ.get("MHCLN_SHARED")
    if shared:
        with np.load(Path(shared) / "golden/published_code_ucmd_k32.npz") as golden:
            codes = golden["test_embeddings"].astype(bool)
        return codes if bits == 32 else np.concatenate([codes, codes[::-1]], axis=1)
    return np.random.default_rng(0).random((312, bits)) < 0.5


def learned(n: int, bits: int, flips: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    some = centres(bits)
    return pack(some[rng.integers(len(some), size=n)] ^ (rng.random((n, bits)) < flips))


def uniform(n: int, bits: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(n, bits // 8), dtype=np.uint8)


def medians(tasks: list[Callable], rounds: int, clock: Callable[[], float]) -> list[float]:
    """Milliseconds of each task, the tasks taking turns; the first turn is not counted."""
    taken = [[] for _ in tasks]
    for _ in range(rounds + 1):
        for times, task in zip(taken, tasks, strict=True):
            start = clock()
            task()
            times.append(1e3 * (clock() - start))
    return [statistics.median(times[1:]) for times in taken]


def compare(name: str, archive: np.ndarray, queries: np.ndarray, rounds: int) -> tuple[float, float]:
    """Print one line; the smallest ratio to IndexBinaryFlat and to any of the three."""
    index = Index(archive)
    flat = faiss.IndexBinaryFlat(8 * archive.shape[1])
    flat.add(archive)
    tasks = [
        lambda: index.search(queries, K),
        lambda: flat.search(queries, K),
        lambda: faiss.knn_hamming(queries, archive, K, variant="hc"),
        lambda: faiss.knn_hamming(queries, archive, K, variant="mc"),
    ]
    rows, distances = index.search(queries, K)
    peer_distances, peer_rows = flat.search(queries, K)
    assert (distances == peer_distances).all()
    order = "same" if (rows == peer_rows).all() else "DIFFERENT"

    faiss.omp_set_num_threads(CORES)
    wall = medians(tasks, rounds, time.perf_counter)
    threads_from = hamming_index.THREADS_FROM
    distinct = count_distinct(archive)
    compared = distinct * count_distinct(queries)
    faiss.omp_set_num_threads(1)
    hamming_index.THREADS_FROM = float("inf")
    core = medians(tasks, rounds, time.thread_time)
    hamming_index.THREADS_FROM = threads_from
    ours = core[0] / CORES if compared > threads_from else core[0]
    ideal = [time / CORES / ours for time in core[1:]]
    ratios = [time / wall[0] for time in wall[1:]]
    print(
        f"{name:<24}{len(archive):>8}{distinct:>8}{len(queries):>6}{wall[0]:>8.2f}{core[0]:>8.2f}"
        + "".join(f"{ratio:>8.2f}" for ratio in (*ratios, *ideal))
        + f"  {order}",
        flush=True,
    )
    return min(ratios[0], ideal[0]), min(*ratios, *ideal)


def archive_cost(name: str, codes: np.ndarray) -> tuple[float, float]:
    """Print what an index costs; seconds to lay it out, and memory over packed codes in a search."""
    start = time.perf_counter()
    Index(codes)
    seconds = time.perf_counter() - start
    tracemalloc.start()
    index = Index(codes)
    building = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    rows, distances = index.search(codes[:1000], K)
    searching = tracemalloc.get_traced_memory()[1] - rows.nbytes - distances.nbytes
    tracemalloc.stop()
    print(
        f"{name:<24}{len(codes):>8}  laid out {1e3 * seconds:.0f} ms;"
        f" memory over packed codes: searching {searching / codes.nbytes:.2f}, building {building / codes.nbytes:.2f}"
    )
    return seconds, searching / codes.nbytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"NumPy {np.__version__}, faiss {faiss.__version__}, {CORES} cores, load {os.getloadavg()[0]:.1f}, k = {K}")
    print(" " * 46 + "   ours ms      ratio, wall             ratio, ideal")
    head = ("wall", "core", *PEERS, *PEERS)
    print(f"{'codes':<24}{'archive':>8}{'distinct':>9}{'q':>5}" + "".join(f"{word:>8}" for word in head))
    targets = []

    for n in (840, 4000):
        real = pack(centres(32)) if n == 840 else learned(n, 32, 0, 1)
        worst = [compare("learned", real, real, rounds)[0]]
        for flips in (0.01, 0.03):
            codes = learned(n, 32, flips, 1)
            worst.append(compare(f"learned, {flips:.0%} flips", codes, codes, rounds)[0])
        targets.append((f"{n} against {n}, learned: at least as fast as IndexBinaryFlat", min(worst), 1))
        worst = []
        for bits in (32, 64):
            codes = uniform(n, bits, 1)
            worst.append(compare(f"random, {bits} bits", codes, codes, rounds)[0])
        targets.append((f"{n} against {n}, random: within 4 times of IndexBinaryFlat", min(worst), 0.25))

    kinds = {
        f"learned, {flips:.0%} flips": (lambda n, bits, seed, f=flips: learned(n, bits, f, seed))
        for flips in (0, 0.01, 0.03)
    }
    for bits in (32, 64):
        for name, make in {**kinds, "random": uniform}.items():
            archive, queries = make(MILLION, bits, 1), make(1000, bits, 2)
            ratios = [compare(f"{name}, {bits} bits", archive, queries[:q], rounds) for q in (100, 1000)]
            what = f"a million, {bits} bits, {name}"
            targets.append((f"{what}: faster than all three", min(every for _, every in ratios), 1))
            if bits == 32 and name != "random":
                targets.append((f"{what}: 10 times faster than IndexBinaryFlat", min(flat for flat, _ in ratios), 10))

    for bits in (32, 64):
        for name, make in {"learned, 3% flips": kinds["learned, 3% flips"], "random": uniform}.items():
            seconds, memory = archive_cost(f"{name}, {bits} bits", make(MILLION, bits, 1))
            targets.append((f"a million, {bits} bits, {name}: laid out in under a second", 1 / seconds, 1))
            targets.append((f"a million, {bits} bits, {name}: memory within 3 times the codes", 3 / memory, 1))

    print()
    for what, ratio, least in targets:
        print(f"{'reached' if ratio >= least else 'NOT REACHED':<12}{what} ({ratio:.2f}, to reach {least})")


if __name__ == "__main__":
    main()
