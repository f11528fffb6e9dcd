"""How good the codes are: every method and bit length on several seeded splits, as a Markdown table.

python tests/benchmarks/methods.py features.npz [more.npz ...] [--methods=mhcln,semihard,orthohash] [--bits=16,24,32,64]
    [--seeds=0,1,2,3,4] [--ratio=0.6]

All methods if none are named; sign, which makes a bit of each feature, once.

Each run trains as trainer.py does with its default flags and is evaluated as by eval.py, every test image against all
others. Means and standard deviations are over the splits; seconds are of training alone.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import mhcln
from mhcln.pipeline.train import usual_iterations
from mhcln.training.methods import METHODS, usual_config

K = 20
METRICS = (f"mAP@{K}", f"mAP@{K}_tie_aware")


def measure(features, loss: str, bits: int, seed: int, ratio: float) -> dict[str, float]:
    """Train one method on one split; return its metrics on the test images, and what it took."""
    images = features.images
    groups = mhcln.equal_images(features.vectors, images.paths)
    split = mhcln.stratified_split(images.paths, images.labels, ratio, seed, groups)
    iterations = usual_iterations(loss, images)
    config = dataclasses.replace(usual_config(loss), bits=bits, seed=seed, iterations=iterations)
    began = time.perf_counter()
    hasher = mhcln.fit(features, split, config)
    seconds = time.perf_counter() - began
    metrics = mhcln.evaluate(hasher.encode_split(features, split), k=K).metrics
    return {**{name: metrics[name] for name in METRICS}, "iterations": iterations, "seconds": seconds}


def spread(values: list[float]) -> str:
    """Mean ± standard deviation (of the population of splits at hand)."""
    return f"{statistics.mean(values):.4f} ± {np.std(values):.4f}"


def main() -> None:
    """Train and measure everything; print a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path, nargs="+")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--bits", default="16,24,32,64")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--ratio", type=float, default=0.6)
    flags = parser.parse_args()
    seeds = [int(seed) for seed in flags.seeds.split(",")]
    print(f"Features | Method | Bits | mAP@{K}, published | mAP@{K}, tie-aware | Iterations | Seconds | Splits")
    print("--- | --- | ---: | ---: | ---: | ---: | ---: | ---:", flush=True)
    for path in flags.features:
        features = mhcln.read_features(path)
        for loss in flags.methods.split(","):
            lengths = [features.vectors.shape[1]] if loss == "sign" else map(int, flags.bits.split(","))
            for bits in lengths:
                found = [measure(features, loss, bits, seed, flags.ratio) for seed in seeds]
                values = [spread([entry[name] for entry in found]) for name in METRICS]
                seconds = statistics.median(entry["seconds"] for entry in found)
                cells = [path.stem, loss, bits, *values, int(found[0]["iterations"]), f"{seconds:.0f}", len(seeds)]
                print(" | ".join(map(str, cells)), flush=True)


if __name__ == "__main__":
    main()
