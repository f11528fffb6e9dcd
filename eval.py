"""Evaluate the hash codes of a training run: mAP@k and its relatives, and pictures of what was retrieved.

    python eval.py --k=20 --interval=10
    python eval.py --table
    python eval.py --query=photo.jpg
    python eval.py --browse
    python eval.py --export=served

Every test image is searched in the rest of the test set, as published. Reads `codes.npz` of the run folder; writes
`results.json`, `results.csv`, `hamming_out/sample_<index>.png` and `report.html` beside it. `--table` compares all
runs of the dump folder and writes `table.md` and `table.csv`. `--query` searches with images of one's own, `--add` adds
to what it searches. `--browse` makes a page of all images, which searches them in the browser. `--export` hands
the run to other programs, as a SavedModel or as an index of FAISS. Only queries, additions and the SavedModel need
TensorFlow. `--out` names another folder for all that is written but by `--add` and `--export`.
"""

import argparse

from mhcln import cli, device
from mhcln.console import Console, UserError
from mhcln.evaluation.evaluate import ARCHIVES, DATABASE
from mhcln.pipeline.browse import browse_run
from mhcln.pipeline.compare import compare_runs
from mhcln.pipeline.evaluate import EvalOptions, evaluate_run
from mhcln.pipeline.export_index import INDEX, export_index
from mhcln.pipeline.opened_run import open_run

MOST_NEIGHBOURS = 10**6
LARGEST_INTERVAL = 10**9  # queries: of any test set, the first is drawn
TAKES = {  # the flags of each command, beside --dump_dir
    "eval.py": ("k", "interval", "run_name", "archive", "images_dir", "out"),
    "eval.py --table": ("k", "archive", "out"),
    "eval.py --browse": ("run_name", "archive", "images_dir", "out"),
    "eval.py --query": ("add", "k", "run_name", "archive", "images_dir", "model_dir", "device", "out"),
    "eval.py --add": ("run_name", "device"),
    "eval.py --export=file.faiss": ("run_name", "archive", "images_dir"),
    "eval.py --export=folder": ("run_name", "model_dir"),
}


def parser() -> cli.Parser:
    """Return the parser of this script's flags."""
    parser = cli.Parser("Evaluate the hash codes of a training run.")
    add = parser.add_argument
    add(
        "--k",
        type=cli.whole_number(1, MOST_NEIGHBOURS),
        help=f"cut-off: how many neighbours count; if not given, {EvalOptions.k}",
    )
    add(
        "--interval",
        type=cli.whole_number(0, LARGEST_INTERVAL),
        help=f"draw every so many-th query; 0 draws none; if not given, {EvalOptions.interval}",
    )
    add("--run_name", type=cli.folder_name, help="folder of the run in dump_dir; needed if there are several")
    add(
        "--archive",
        choices=(*ARCHIVES, DATABASE),
        help="which images are searched; if not given, test, or all for --query, --browse and --export; "
        "database is that of given lists",
    )
    add("--out", type=cli.path, help="folder to write to, if not the run's, or for --table the dump folder")
    add("--images_dir", type=cli.path, help="folder of the images; if not given, where extraction found them")
    add("--table", action="store_true", help="one table over all runs in dump_dir instead, no pictures")
    add("--browse", action="store_true", help="make a page of all images instead, which searches them in the browser")
    add(
        "--query",
        help="search the archive with this image, by file or by path in the archive, the images in this folder, - for "
        "paths on stdin, or the features in a .npz, a features.json or a folder",
    )
    add("--add", type=cli.path, help="hash the features in this folder and add them to what --query searches")
    add(
        "--export",
        type=cli.path,
        help="write for other programs instead: into a folder a SavedModel, encoded images to codes, as TensorFlow "
        "Serving takes it; to a file that ends in .faiss the codes of --archive, with ids.csv beside it",
    )
    add(
        "--model_dir",
        type=cli.path,
        help="for --query and --export: folder of the backbone; if not given, where extraction found it",
    )
    add("--device", choices=device.CHOICES, help="for --query and --add; auto, if not given, is a GPU if there is one")
    return parser


def main(flags: argparse.Namespace, console: Console) -> None:
    """Evaluate one run, or all of them for the table; or search one, or add to what it searches."""
    _check_flags(flags)
    k, archive = flags.k or EvalOptions.k, flags.archive
    if flags.table:
        compare_runs(flags.dump_dir, k, archive or EvalOptions.archive, flags.out, console)
        return
    opened = open_run(flags.dump_dir, flags.run_name, flags.images_dir, flags.out)
    if flags.browse:
        browse_run(opened, archive or "all", console)
    elif flags.query is not None or flags.add is not None:
        from mhcln.pipeline.add_images import add_images  # these two need TensorFlow
        from mhcln.pipeline.search import SearchOptions, search

        device_choice = flags.device or SearchOptions.device
        if flags.add is not None:
            add_images(opened.run, flags.add, device_choice, console)
        if flags.query is not None:
            search(opened, SearchOptions(flags.query, k, archive or "all", flags.model_dir, device_choice), console)
    elif flags.export is None:
        interval = EvalOptions.interval if flags.interval is None else flags.interval
        evaluate_run(opened, EvalOptions(k, archive or EvalOptions.archive, interval), console)
    elif flags.export.suffix == INDEX:
        export_index(opened, flags.export, archive or "all", console)
    else:
        from mhcln.pipeline.export_model import export_model  # needs TensorFlow

        export_model(opened, flags.export, flags.model_dir, console)


def _check_flags(flags: argparse.Namespace) -> None:
    """Raise UserError at a flag that has no use beside another, and at a folder of images that is none."""
    given = [name for name, value in vars(flags).items() if value is not None and value is not False]
    verb = next((name for name in ("table", "browse", "query", "add", "export") if name in given), "")
    command = f"eval.py --{verb}" if verb else "eval.py"
    if verb == "export":
        command += "=file.faiss" if flags.export.suffix == INDEX else "=folder"
    unused = [f"--{name}" for name in given if name not in ("dump_dir", verb, *TAKES[command])]
    if unused:
        raise UserError(f"{command} takes no {' and no '.join(unused)}; see eval.py --help")
    if flags.images_dir is not None and not flags.images_dir.is_dir():
        raise UserError(f"--images_dir={flags.images_dir} is not a folder; give the one that holds the class folders")


if __name__ == "__main__":
    cli.run(parser(), main)
