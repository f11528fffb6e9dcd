"""How fast the k nearest codes are found, against faiss: exact, and the rows in the same order.

python tests/benchmarks/search.py [--rounds=5]    (needs `pip install faiss-cpu`)

Two ratios to each exact search of faiss (Flat: `IndexBinaryFlat`; `knn_hamming` variants hc and mc), above 1 if ours
is faster; medians over rounds in which all take turns:

- wall: time of both, on all cores;
- core: processor time of both, faiss on one thread, as its waiting threads spin. It depends less on what else the
  machine does.

A target counts as reached if both ratios reach it. The codes are drawn with replacement from the 840 codes of the
published trainer (`golden/published_code_ucmd_k32.npz` in the folder MHCLN_SHARED, 64 bits by joining two of them) with
a share of their bits flipped; without that folder, from 312 random codes.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

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


def medians(tasks: list[Callable], rounds: int, clock: Callable[[], float]) -> np.ndarray:
    """Milliseconds of each task, the tasks taking turns; the first turn is not counted."""
    taken = [[] for _ in tasks]
    for _ in range(rounds + 1):
        for times, task in zip(taken, tasks, strict=True):
            start = clock()
            task()
            times.append(1e3 * (clock() - start))
    return np.array([statistics.median(times[1:]) for times in taken])


def compare(name: str, archive: np.ndarray, queries: np.ndarray, rounds: int) -> float:
    """Print one line; the smaller ratio to IndexBinaryFlat."""
    start = time.perf_counter()
    index = Index(archive)
    built = 1e3 * (time.perf_counter() - start)
    flat = faiss.IndexBinaryFlat(8 * archive.shape[1])
    flat.add(archive)
    tasks = [
        lambda: index.search(queries, K),
        lambda: flat.search(queries, K),
        lambda: faiss.knn_hamming(queries, archive, K, variant="hc"),
        lambda: faiss.knn_hamming(queries, archive, K, variant="mc"),
    ]
    found = index.search(queries, K)
    peer_distances, peer_rows = flat.search(queries, K)
    assert (found.distances == peer_distances).all()
    order = "same" if (found.rows == peer_rows).all() else "DIFFERENT"
    faiss.omp_set_num_threads(CORES)
    wall = medians(tasks, rounds, time.perf_counter)
    faiss.omp_set_num_threads(1)
    core = medians(tasks, rounds, time.process_time)
    ratios = [*(wall[1:] / wall[0]), *(core[1:] / core[0])]
    print(
        f"{name:<28}{len(archive):>8}{count_distinct(archive):>8}{len(queries):>6}{built:>7.0f}{wall[0]:>9.2f}"
        f"{core[0]:>9.2f}" + "".join(f"{ratio:>8.2f}" for ratio in ratios) + f"  {order}",
        flush=True,
    )
    return min(ratios[0], ratios[len(PEERS)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"NumPy {np.__version__}, faiss {faiss.__version__}, {CORES} cores, load {os.getloadavg()[0]:.1f}, k = {K}")
    print(f"{'':<50}{'ours, ms':>25}{'ratio, wall':>24}{'ratio, core':>24}")
    head = "".join(f"{word:>8}" for word in (*PEERS, *PEERS))
    print(f"{'codes':<28}{'archive':>8}{'distinct':>8}{'q':>6}{'built':>7}{'wall':>9}{'core':>9}{head}")
    targets = []
    for bits in (32, 64):
        for flips in (0, 0.01, 0.03):
            name = f"{bits} bits, {flips:.0%} flips"
            archive, queries = learned(MILLION, bits, flips, 1), learned(1000, bits, flips, 2)
            compare(name, queries, queries, rounds)
            ratio = min(compare(name, archive, queries[:q], rounds) for q in (100, 1000))
            if bits == 32:
                targets.append((name, ratio))
    print()
    for name, ratio in targets:
        print(f"{'reached' if ratio >= 10 else 'NOT REACHED'}: {name}, 10 times as fast as Flat ({ratio:.2f})")


if __name__ == "__main__":
    main()
