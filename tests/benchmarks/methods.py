"""How good the codes of each method are, on the same features, splits and evaluation: a table, and a picture.

python tests/benchmarks/methods.py features.npz [more.npz ...] [--methods=mhcln,orthohash] [--bits=16,24,32,64]
    [--seeds=0,1,2,3,4] [--few=5,10,20] [--unseen] [--out=methods/] [--jobs=2]

Every method if none is named; sign, which makes a bit of each feature, once. Each run trains as trainer.py does with
its default flags and is evaluated as by eval.py, every test image against all others. --few and --unseen take the
place of the usual split: so many training images of each class, or queries of classes that were not trained on.

Each run is a row of methods.csv in --out as soon as it is known; the same command goes on where it was stopped. Then
methods.md and a picture of each features file and protocol are written from all rows. Two processes of one thread each
(--jobs) take less time than one of two. Seconds are of a processor, for training alone. --iterations is for a quick
look.
"""

import argparse
import concurrent.futures
import csv
import dataclasses
import functools
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import method_table
import protocols
from method_table import METRICS, Key, Result
from tqdm import tqdm

import mhcln
from mhcln.quiet_tensorflow import tf
from mhcln.storage.features import Features
from mhcln.storage.text_files import write_csv, write_text
from mhcln.training.methods import METHODS, ClosedForm

K = 20
COLUMNS = (*(field.name for field in dataclasses.fields(Key)), *METRICS, "distinct_codes", "iterations", "cpu_seconds")


@functools.lru_cache(maxsize=4)
def features_of(path: Path) -> Features:
    """Read a features file, once in a process."""
    return mhcln.read_features(path)


def planned(flags: argparse.Namespace) -> Iterator[tuple[Path, Key]]:
    """Yield every run that the flags ask for."""
    for path in flags.features:
        features = features_of(path)
        wanted = [protocols.few(count) for count in flags.few]
        wanted += [protocols.unseen(features)] if flags.unseen else []
        for protocol in wanted or [protocols.USUAL]:
            for method in flags.methods:
                for bits in [features.vectors.shape[1]] if method == "sign" else flags.bits:
                    yield from ((path, Key(path.stem, protocol, method, bits, seed)) for seed in flags.seeds)


def one_thread() -> None:
    """Give TensorFlow one thread of this process, before it is used."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def run(path: Path, key: Key, iterations: int | None) -> Result:
    """Train one method on one split and evaluate it."""
    from mhcln.pipeline.training_setup import usual_iterations

    features = features_of(path)
    split = protocols.draw(features, key.protocol, key.seed)
    spec = METHODS[key.method]
    count = 0 if isinstance(spec, ClosedForm) else iterations or usual_iterations(spec, features.images)
    config = mhcln.TrainConfig(loss=key.method, bits=key.bits, seed=key.seed, iterations=count)
    began = time.process_time()
    hasher = mhcln.fit(features, split, config)
    seconds = time.process_time() - began
    codes = hasher.encode_split(features, split)
    found = mhcln.evaluate(codes, k=K).metrics
    distinct = len(np.unique(codes.codes[codes.rows_of_part("test")], axis=0))
    return Result(key, tuple(found[name] for name in METRICS), distinct, count, seconds)


def read_results(path: Path) -> dict[Key, Result]:
    """Read methods.csv, {} if there is none."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as handle:
        return {result.key: result for result in map(_parsed, csv.DictReader(handle))}


def _parsed(row: dict[str, str]) -> Result:
    key = Key(row["features"], row["protocol"], row["method"], int(row["bits"]), int(row["seed"]))
    values = tuple(float(row[name]) for name in METRICS)
    return Result(key, values, int(row["distinct_codes"]), int(row["iterations"]), float(row["cpu_seconds"]))


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Write methods.csv, whole or not at all."""
    rows = (
        [*dataclasses.astuple(each.key), *each.values, each.distinct_codes, each.iterations, round(each.cpu_seconds, 2)]
        for each in results
    )
    write_csv(path, COLUMNS, rows)


def compute(runs: list[tuple[Path, Key]], results: dict[Key, Result], flags: argparse.Namespace) -> None:
    """Make the runs, add each to `results` and to methods.csv as it is done."""
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    with (
        concurrent.futures.ProcessPoolExecutor(flags.jobs, context, one_thread) as pool,
        tqdm(total=len(runs), desc="training", unit="run", disable=None) as bar,
    ):
        futures = [pool.submit(run, path, key, flags.iterations) for path, key in runs]
        try:
            for future in concurrent.futures.as_completed(futures):
                result = future.result()
                results[result.key] = result
                write_results(flags.out / "methods.csv", results.values())
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def main() -> None:
    """Make the runs that are missing; write the table and the pictures of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path, nargs="+", help="features files of different names")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS))
    parser.add_argument("--bits", type=protocols.numbers, default=[16, 24, 32, 64])
    parser.add_argument("--seeds", type=protocols.numbers, default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--few", type=protocols.numbers, default=[], help="training images of each class, such as 5,10,20"
    )
    parser.add_argument("--unseen", action="store_true", help="ask for classes that were not trained on")
    parser.add_argument("--out", type=Path, default=Path("methods"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--iterations", type=int)
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    results = read_results(flags.out / "methods.csv")
    missing = [(path, key) for path, key in planned(flags) if key not in results]
    if missing:
        compute(missing, results, flags)
    titles = {name: method.title for name, method in METHODS.items()}
    text = method_table.markdown(results.values())
    write_text(flags.out / "methods.md", text)
    for name, picture in method_table.pictures(results.values(), titles).items():
        write_text(flags.out / name, picture)
    print(text, end="")


if __name__ == "__main__":
    main()
