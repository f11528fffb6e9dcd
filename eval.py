"""Evaluate the hash codes of a training run: mAP@k and its relatives, and pictures of what was retrieved.

    python eval.py --k=20 --interval=10
    python eval.py --table
    python eval.py --query=photo.jpg
    python eval.py --browse

Every test image is searched in the rest of the test set, as published. Reads `codes.npz` of the run folder; writes
`results.json`, `results.csv`, `hamming_out/sample_<index>.png` and `report.html` beside it. `--table` compares all
runs of the dump folder and writes `table.md` and `table.csv`. `--query` searches with images of one's own, `--add` adds
to what it searches; only these two need TensorFlow. `--browse` makes a page of all images, which searches them in the
browser. `--out` names another folder for all that is written but `--add`.
"""

import argparse

from mhcln import cli, device
from mhcln.console import Console, UserError
from mhcln.evaluation.evaluate import ARCHIVES, DATABASE
from mhcln.pipeline.browse import BrowseOptions, browse_run
from mhcln.pipeline.compare import compare_runs
from mhcln.pipeline.evaluate import EvalOptions, evaluate_run

MOST_NEIGHBOURS = 10**6
LARGEST_INTERVAL = 10**9  # queries: of any test set, the first is drawn


def parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser("Evaluate the hash codes of a training run.")
    add = parser.add_argument
    add(
        "--k",
        type=cli.whole_number(1, MOST_NEIGHBOURS),
        default=EvalOptions.k,
        help="cut-off: how many neighbours count",
    )
    add(
        "--interval",
        type=cli.whole_number(0, LARGEST_INTERVAL),
        default=EvalOptions.interval,
        help="draw every so many-th query; 0 draws none",
    )
    add("--run_name", type=cli.folder_name, help="folder of the run in dump_dir; needed if there are several")
    add(
        "--archive",
        choices=(*ARCHIVES, DATABASE),
        help="which images are searched; if not given, test, or all for --query and --browse; database is that of "
        "given lists",
    )
    add("--out", type=cli.path, help="folder to write to, if not the run's, or for --table the dump folder")
    add("--images_dir", type=cli.path, help="folder of the images; if not given, where extraction found them")
    add("--table", action="store_true", help="one table over all runs in dump_dir instead, no pictures")
    add("--browse", action="store_true", help="make a page of all images instead, which searches them in the browser")
    add(
        "--query",
        help="search the archive with this image, by file or by path in the archive, the images in this folder, - for "
        "paths on stdin, or a features.npz",
    )
    add("--add", type=cli.path, help="hash the features.npz in this folder and add it to what --query searches")
    add(
        "--model_dir",
        type=cli.path,
        help="for --query: folder of the backbone; if not given, where extraction found it",
    )
    add("--device", choices=device.CHOICES, default="auto", help="for --query and --add; auto is a GPU if there is one")
    return parser


def main(flags: argparse.Namespace, console: Console) -> None:
    """Evaluate one run, or all of them for the table; or search one, or add to what it searches."""
    searching = flags.query is not None or flags.add is not None
    if flags.table and (searching or flags.browse or flags.run_name is not None):
        raise UserError("--table is over all runs of the dump folder; leave --run_name, --query and --add out")
    if flags.table:
        compare_runs(flags.dump_dir, flags.k, flags.archive or EvalOptions.archive, flags.out, console)
        return
    if flags.browse and searching:
        raise UserError("--browse makes a page of the whole archive; leave --query and --add out")
    if flags.images_dir is not None and not flags.images_dir.is_dir():
        raise UserError(f"--images_dir={flags.images_dir} is not a folder; give the one that holds the class folders")
    if flags.out is not None and flags.add is not None and flags.query is None:
        raise UserError("--add writes into the run; leave --out out")
    if searching:
        from mhcln.pipeline.search import SearchOptions, search  # keeps the rooms that need TensorFlow out of the rest

        search_options = SearchOptions(
            dump_dir=flags.dump_dir,
            run_name=flags.run_name,
            query=flags.query,
            add=flags.add,
            k=flags.k,
            archive=flags.archive or SearchOptions.archive,
            model_dir=flags.model_dir,
            images_dir=flags.images_dir,
            device=flags.device,
            out=flags.out,
        )
        search(search_options, console)
    elif flags.browse:
        archive = flags.archive or BrowseOptions.archive
        browse_run(flags.dump_dir, flags.run_name, BrowseOptions(archive, flags.images_dir, flags.out), console)
    else:
        archive = flags.archive or EvalOptions.archive
        options = EvalOptions(flags.k, archive, flags.interval, flags.images_dir, flags.out)
        evaluate_run(flags.dump_dir, flags.run_name, options, console)


if __name__ == "__main__":
    cli.run(parser(), main)
