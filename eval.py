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
from mhcln.pipeline.browse import BrowseOptions, browse_run
from mhcln.pipeline.compare import compare_runs
from mhcln.pipeline.evaluate import EvalOptions, evaluate_run
from mhcln.pipeline.export_index import INDEX, export_index

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
    add("--device", choices=device.CHOICES, default="auto", help="for --query and --add; auto is a GPU if there is one")
    return parser


def main(flags: argparse.Namespace, console: Console) -> None:
    """Evaluate one run, or all of them for the table; or search one, or add to what it searches."""
    searching = flags.query is not None or flags.add is not None
    if flags.table and (searching or flags.browse or flags.run_name is not None):
        raise UserError("--table is over all runs of the dump folder; leave --run_name, --query and --add out")
    if flags.export is not None and (searching or flags.table or flags.browse or flags.out is not None):
        raise UserError("--export does nothing else; leave --table, --browse, --query, --add and --out out")
    if flags.table:
        compare_runs(flags.dump_dir, flags.k, flags.archive or EvalOptions.archive, flags.out, console)
        return
    if flags.browse and searching:
        raise UserError("--browse makes a page of the whole archive; leave --query and --add out")
    if flags.images_dir is not None and not flags.images_dir.is_dir():
        raise UserError(f"--images_dir={flags.images_dir} is not a folder; give the one that holds the class folders")
    if flags.out is not None and flags.add is not None and flags.query is None:
        raise UserError("--add writes into the run; leave --out out")
    if flags.export is not None:
        _export(flags, console)
    elif searching:
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


def _export(flags: argparse.Namespace, console: Console) -> None:
    """Write the index or the model that `--export` names."""
    if flags.export.suffix == INDEX:
        which = flags.archive or "all"
        export_index(flags.dump_dir, flags.run_name, flags.export, which, flags.images_dir, console)
        return
    from mhcln.pipeline.export_model import export_model  # needs TensorFlow

    if flags.archive is not None:
        raise UserError("--archive is of an index; leave it out, or end --export in .faiss")
    export_model(flags.dump_dir, flags.run_name, flags.export, flags.model_dir, console)


if __name__ == "__main__":
    cli.run(parser(), main)
