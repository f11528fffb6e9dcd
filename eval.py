"""Evaluate the hash codes of a training run: mAP@k and its relatives, and pictures of what was retrieved.

    python eval.py --k=20 --interval=10
    python eval.py --table
    python eval.py --query=photo.jpg

Every test image is searched in the rest of the test set, as published. Reads `codes.npz` of the run folder; writes
`results.json`, `results.csv`, `hamming_out/sample_<index>.png` and `report.html` beside it. `--table` compares all
runs of the dump folder and writes `table.md` and `table.csv`. `--query` searches with images of one's own, `--add` adds
to what it searches; only these two need TensorFlow.
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
    flags.add_argument("--archive", choices=ARCHIVES, help="which images are searched: test if unsaid, all for --query")
    flags.add_argument("--images_dir", type=Path, help="folder of the images; else where extraction found them")
    flags.add_argument("--table", action="store_true", help="one table over all runs in dump_dir instead, no pictures")
    flags.add_argument(
        "--query", help="search the archive with this image, the images in this folder, or - for paths on stdin"
    )
    flags.add_argument(
        "--add", type=Path, help="hash the features.npz in this folder and add it to what --query searches"
    )
    flags.add_argument(
        "--model_dir", type=Path, help="for --query: folder of the backbone; else where extraction found it"
    )
    return flags


def main(flags: argparse.Namespace, console: cli.Console) -> None:
    """Evaluate one run, or all of them for the table; or search one, or add to what it searches."""
    from mhcln import assessment, sweep, trained

    wishes = assessment.Wishes(flags.k, flags.archive or "test", flags.interval, flags.images_dir)
    if flags.table and any(flag is not None for flag in (flags.run_name, flags.query, flags.add)):
        raise UserError("--table is over all runs of the dump folder; leave --run_name, --query and --add out")
    if flags.table:
        sweep.tabulate(flags.dump_dir, wishes, console)
        return
    if flags.images_dir is not None and not flags.images_dir.is_dir():
        raise UserError(f"--images_dir={flags.images_dir} is not a folder; give the one that holds the class folders")
    if flags.run_name is not None and Path(flags.run_name).name != flags.run_name:
        raise UserError(f"--run_name={flags.run_name} is not the name of a folder in {flags.dump_dir}")
    folder = trained.choose(flags.dump_dir, flags.run_name)
    if flags.query is not None or flags.add is not None:
        search(flags, folder, console)
    else:
        assessment.assess(flags.dump_dir, folder, wishes, console)


def search(flags: argparse.Namespace, folder: Path, console: cli.Console) -> None:
    """Add to what a run searches, then search it: the one part of this script that needs TensorFlow."""
    from mhcln import query, trained
    from mhcln.files import locked

    run = trained.read(flags.dump_dir, folder)
    with locked(folder):
        if flags.add is not None:
            query.add(run, flags.add, console)
        if flags.query is not None:
            query.ask(
                flags.dump_dir,
                run,
                flags.query,
                flags.k,
                flags.archive or "all",
                flags.model_dir,
                flags.images_dir,
                console,
            )


if __name__ == "__main__":
    cli.run(parser(), main)
