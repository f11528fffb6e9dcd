"""How good the codes are: every method and bit length on several seeded splits, as a Markdown table.

python tests/benchmarks/methods.py features.npz [more.npz ...] [--methods=mhcln,semihard,orthohash] [--bits=16,24,32,64]
    [--seeds=0,1,2,3,4] [--ratio=0.6]

Each run trains as trainer.py does with its default flags and is measured by the evaluation of eval.py, every test
image against all others. Means and standard deviations are over the splits; seconds are of training alone.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import trainer
from mhcln import evaluation, files, hamming, runs, splits
from mhcln.artifacts import Codes, Features
from mhcln.learner import Learner, activations
from mhcln.methods import METHODS, Task

K = 20
FIGURES = (f"mAP@{K}", f"mAP@{K}_tie_aware")


def read(path: Path) -> Features:
    """A features file wherever it lies and whatever its name."""
    content = files.read_npz(path, "extract_features.py")
    texts = {name: str(content[name]) for name in ("dataset", "images_dir", "extractor")}
    lists = {name: content[name].tolist() for name in ("paths", "class_names")}
    return Features(content["features"], content["labels"], **lists, **texts)


def one(features: Features, name: str, bits: int, seed: int, ratio: float) -> dict[str, float]:
    """Train one method on one split; answer its figures on the test images."""
    split = splits.stratified(features.paths, features.labels, ratio, seed)
    inputs, _ = runs.read_inputs(features, Path("split"), split)
    settings = trainer.settings(trainer.parser().parse_args([f"--loss={name}"]), bits, seed, features)
    labels = features.labels[inputs.train]
    width = features.features.shape[1]
    task = Task(labels, width, bits, settings["alpha"], settings["batch_size"], settings["iterations"], seed)
    learner = Learner(METHODS[name](task), features.features[inputs.train], labels)
    began = time.perf_counter()
    learner.advance(task.iterations)
    seconds = time.perf_counter() - began
    rows = inputs.test
    codes = hamming.pack(hamming.binarise(activations(learner.method.network, features.features[rows])))
    paths = [features.paths[row] for row in rows]
    held = Codes(codes, bits, features.labels[rows], paths, ["test"] * len(rows), features.class_names)
    outcome = evaluation.evaluate(held, evaluation.trial(held, "test", K))
    return {**{key: outcome.values[key] for key in FIGURES}, "iterations": task.iterations, "seconds": seconds}


def spread(values: list[float]) -> str:
    """Mean ± standard deviation (of the population of splits at hand)."""
    return f"{statistics.mean(values):.4f} ± {np.std(values):.4f}"


def main() -> None:
    """Train and measure everything; print a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path, nargs="+")
    parser.add_argument("--methods", default="mhcln,semihard,orthohash")
    parser.add_argument("--bits", default="16,24,32,64")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--ratio", type=float, default=0.6)
    flags = parser.parse_args()
    seeds = [int(seed) for seed in flags.seeds.split(",")]
    print(f"Features | Method | Bits | mAP@{K}, published | mAP@{K}, tie-aware | Iterations | Seconds | Splits")
    print("--- | --- | ---: | ---: | ---: | ---: | ---: | ---:", flush=True)
    for path in flags.features:
        features = read(path)
        for name in flags.methods.split(","):
            for bits in map(int, flags.bits.split(",")):
                found = [one(features, name, bits, seed, flags.ratio) for seed in seeds]
                figures = [spread([entry[key] for entry in found]) for key in FIGURES]
                seconds = statistics.median(entry["seconds"] for entry in found)
                cells = [path.stem, name, bits, *figures, int(found[0]["iterations"]), f"{seconds:.0f}", len(seeds)]
                print(" | ".join(map(str, cells)), flush=True)


if __name__ == "__main__":
    main()
