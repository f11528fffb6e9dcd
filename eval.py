"""Evaluate the hash codes of a training run: mAP@k and its relatives, and pictures of what was retrieved.

    python eval.py --k=20 --interval=10

Every test image is searched in the rest of the test set, as published. Reads `codes.npz` of the run folder; writes
`results.json`, `results.csv`, `hamming_out/sample_<index>.png` and `report.html` beside it. Needs no TensorFlow.
"""

import argparse
from pathlib import Path

from mhcln import cli
from mhcln.errors import UserError

ARCHIVES = ("test", "train", "all")


def parser() -> cli.Parser:
    """The command line."""
    flags = cli.Parser("Evaluate the hash codes of a training run.")
    flags.add_argument("--k", type=cli.whole_number(1), default=20, help="cut-off: how many neighbours count")
    flags.add_argument(
        "--interval", type=cli.whole_number(0), default=10, help="draw every so many-th query; 0 draws none"
    )
    flags.add_argument("--run_name", help="folder of the run in dump_dir; needed where there are several")
    flags.add_argument("--archive", choices=ARCHIVES, default="test", help="which images are searched")
    flags.add_argument("--images_dir", type=Path, help="folder of the images; else where extraction found them")
    return flags


def main(flags: argparse.Namespace, console: cli.Console) -> None:
    """Evaluate one run."""
    from mhcln import assessment, trained

    if flags.images_dir is not None and not flags.images_dir.is_dir():
        raise UserError(f"--images_dir={flags.images_dir} is not a folder; give the one that holds the class folders")
    if flags.run_name is not None and Path(flags.run_name).name != flags.run_name:
        raise UserError(f"--run_name={flags.run_name} is not the name of a folder in {flags.dump_dir}")
    folder = trained.choose(flags.dump_dir, flags.run_name)
    wishes = assessment.Wishes(flags.k, flags.archive, flags.interval, flags.images_dir)
    assessment.assess(flags.dump_dir, folder, wishes, console)


if __name__ == "__main__":
    cli.run(parser(), main)
