"""How long evaluation takes, from typing the command to its end, without pictures.

python tests/benchmarks/evaluation.py [--rounds=5]

Each number is the median over the rounds of the whole process, its start included, on made-up codes (classes with
noise, 32 bits) and features (2,048 floats) of the size of UCMD (840 test images of 2,100) and AID (4,000 of 10,000).
With "codes alone" there is nothing to compare the codes with; "with vectors" adds features and activations. The last
lines say of each target whether it was reached.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mhcln.data.datasets import REPO_ROOT
from mhcln.hamming.codes import binarise, pack
from mhcln.storage import layout
from mhcln.storage.coded_images import CodedImages, write_codes
from mhcln.storage.features import Features, write_features
from mhcln.storage.image_table import ImageTable
from mhcln.storage.vectors import write_activations

BITS, WIDTH = 32, 2048
SIZES = {"UCMD": (21, 100), "AID": (30, 333)}
TARGETS = {("UCMD", "codes alone"): 1.0, ("UCMD", "with vectors"): 2.0, ("AID", "with vectors"): 5.0}


def made(folder: Path, classes: int, per_class: int) -> None:
    """A dump folder with features and one run, 40 % of whose images are for testing."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes, dtype=np.int32), per_class)
    n = len(labels)
    near = random.random((classes, BITS))[labels] + random.normal(0, 0.25, (n, BITS))
    activations = (1 / (1 + np.exp(-8 * (near - 0.5)))).astype(np.float32)
    paths = [f"class{label:02}/image{row:05}.tif" for row, label in enumerate(labels)]
    split = np.where(np.arange(n) % per_class < 0.6 * per_class, "train", "test").tolist()
    names = [f"class{label:02}" for label in range(classes)]
    run = folder / f"K{BITS}"
    run.mkdir(parents=True)
    images = ImageTable(labels, paths, names, "made up", "/images", "made up")
    write_codes(run, CodedImages.of(images, pack(binarise(activations)), BITS, split=split))
    write_activations(run, activations, paths)
    features = random.random((classes, WIDTH), np.float32)[labels] + random.random((n, WIDTH), np.float32)
    write_features(folder, Features(features, images))


def seconds(folder: Path) -> float:
    """Wall-clock time of one evaluation."""
    command = [sys.executable, str(REPO_ROOT / "eval.py"), f"--dump_dir={folder}", "--interval=0"]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    """Make the folders, measure round after round, print the table and the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as place:
        folders = {}
        for name, (classes, per_class) in SIZES.items():
            for kind in ("with vectors", "codes alone"):
                folders[name, kind] = Path(place) / f"{name} {kind}"
                made(folders[name, kind], classes, per_class)
            (folders[name, "codes alone"] / layout.FEATURES).unlink()
            (folders[name, "codes alone"] / f"K{BITS}" / layout.ACTIVATIONS).unlink()
        taken = {key: [] for key in folders}
        for _ in range(rounds):
            for key, folder in folders.items():
                taken[key].append(seconds(folder))
    print(f"{'size':6}{'':14}{'median s':>10}{'fastest':>10}{'slowest':>10}")
    for (name, kind), values in taken.items():
        print(f"{name:6}{kind:14}{statistics.median(values):10.2f}{min(values):10.2f}{max(values):10.2f}")
    for (name, kind), target in TARGETS.items():
        median = statistics.median(taken[name, kind])
        reached = "reached" if median < target else "NOT reached"
        print(f"{name}, {kind}: {median:.2f} s, target under {target:.0f} s: {reached}")


if __name__ == "__main__":
    main()
