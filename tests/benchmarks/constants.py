"""How the constants of sdh were chosen: mAP@20 for each, on splits that no table of results is made of.

python tests/benchmarks/constants.py features.npz [--bits=32]
python tests/benchmarks/constants.py dump_dir/ --training_views=2,4,8

Splits 100 to 103, 60 % of each class. Each row changes one or two of the constants of `mhcln.training.methods.sdh`, and
has the differences from the constants in use with their paired standard errors. A change pays if it is better by more
than two of these. With --training_views the rows are numbers of rotations of the training images, whose features
extract_features.py --training_views made.
"""

import argparse
import itertools
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import protocols
from method_table import METRICS

import mhcln
from mhcln.pipeline.rotations import read_rotations
from mhcln.training.methods import sdh

SPLITS = (100, 101, 102, 103)  # results are of 0 to 4
WIDTHS, RIDGES = (1.0, 2.0, 4.0), (1e-4, 1e-3, 1e-2, 1e-1)


def measured(features, bits: int) -> list[tuple[float, ...]]:
    """Return the metrics on each split, with the constants as they are."""
    found = []
    for seed in SPLITS:
        split = protocols.draw(features, protocols.USUAL, seed)
        hasher = mhcln.fit(features, split, mhcln.TrainConfig(loss="sdh", bits=bits, seed=seed))
        metrics = mhcln.evaluate(hasher.encode_split(features, split), k=20).metrics
        found.append(tuple(metrics[name] for name in METRICS))
    return found


def compared(values: list[tuple[float, ...]], others: list[tuple[float, ...]]) -> str:
    """Return mean, difference from `others` and its standard error, for each metric."""
    cells = []
    for own, other in zip(zip(*values, strict=True), zip(*others, strict=True), strict=True):
        differences = [a - b for a, b in zip(own, other, strict=True)]
        error = statistics.stdev(differences) / len(differences) ** 0.5
        cells.append(f"{statistics.fmean(own):.4f} ({statistics.fmean(differences):+.4f}, error {error:.4f})")
    return " | ".join(cells)


def main() -> None:
    """Print a row for each pair of constants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("--bits", type=int, default=32)
    parser.add_argument("--training_views", type=protocols.numbers, default=[])
    flags = parser.parse_args()
    features = mhcln.read_features(flags.features)
    in_use = measured(features, flags.bits)
    if flags.training_views:
        print(f"rotations | {' | '.join(METRICS)}")
        for count in flags.training_views:
            rotated = read_rotations(flags.features, count)
            print(f"{count} | {compared(measured(rotated, flags.bits), in_use)}", flush=True)
        return
    print(f"width | ridge | {' | '.join(METRICS)}")
    for sdh.WIDTH, sdh.RIDGE in itertools.product(WIDTHS, RIDGES):
        print(f"{sdh.WIDTH:g} | {sdh.RIDGE:g} | {compared(measured(features, flags.bits), in_use)}", flush=True)


if __name__ == "__main__":
    main()
