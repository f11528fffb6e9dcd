"""Names of everything in a dump folder, and which script makes it.

dump_dir/
  features.npz, skipped.csv, extract.part/     extract_features.py
  features.json, features/part-<key>.npz, ...  in place of features.npz where there are many images
  views/1/, views/2/, ...                      the same of the rotated images, for training
  split.npz, split_seed<s>.npz                 dataset_generator.py
  K32/                                         trainer.py, one folder per run
    run.json, model.keras, history.csv, codes.npz, activations.npz, checkpoints/
    results.json, results.csv, report.html, hamming_out/, queries/, archives/      eval.py
    browse/                                    eval.py --browse
  table.md, table.csv                          eval.py --table
"""

import fnmatch
from pathlib import Path

from mhcln.console import is_printable

DUMP_DIR = Path("dump_dir/")

EXTRACT = "extract_features.py"
GENERATE = "dataset_generator.py"
TRAIN = "trainer.py"
EVALUATE = "eval.py"
ADD = "eval.py --add"
HASH = "extract_features.py --hash_with"


def retrain(run_dir: Path) -> str:
    """Return the command that makes the files of a finished run again; the trainer refuses an incomplete one."""
    return f"{TRAIN} once {run_dir} is deleted"


FEATURES = "features.npz"
FEATURES_LIST = "features.json"
SHARDS = "features"
SKIPPED = "skipped.csv"
PARTIAL_FEATURES = "extract.part"
ROTATIONS = "views"
SPLIT = "split.npz"

RUN = "run.json"
MODEL = "model.keras"
HISTORY = "history.csv"
CODES = "codes.npz"
ACTIVATIONS = "activations.npz"
TRAINED = (MODEL, HISTORY, CODES, ACTIVATIONS)  # the files of a finished run, beside run.json
CHECKPOINTS = "checkpoints"

RESULTS = "results.json"
QUERY_RESULTS = "results.csv"
REPORT = "report.html"
PICTURES = "hamming_out"
QUERIES = "queries"
ARCHIVES = "archives"
ARCHIVE_LIST = "archive.json"  # in it
ARCHIVE_SHARDS = "shards"
BROWSE = "browse"
BROWSE_PAGE = "index.html"  # in it
TABLE = "table.md"
TABLE_CSV = "table.csv"

_OWN = {value for name, value in list(globals().items()) if name.isupper() and isinstance(value, str)}
_SPLITS = "split_seed*.npz"
LONGEST_NAME = 255  # bytes of a name in every usual file system (POSIX NAME_MAX)
_LONGEST_STEM = 200  # bytes of a name to which a number, an ending and the mark of an unfinished file are added


def name_problem(name: str) -> str | None:
    """Return why a folder of the user's cannot have this name, None if it can.

    Letter case is ignored, since some file systems do not tell `Split.npz` from `split.npz`.
    """
    known = name.casefold()
    if not name:
        return "it is empty"
    if name.startswith("."):  # also ".", "..", locks and files that are being written
        return "it begins with a dot"
    if "/" in name or "\\" in name:
        return "it has a separator in it"
    if not is_printable(name):
        return "it has a character in it that cannot be printed"
    if len(name.encode()) > LONGEST_NAME:
        return f"it is longer than {LONGEST_NAME} bytes"
    if known in _OWN or fnmatch.fnmatchcase(known, _SPLITS):
        return "it is the name of a file or folder of this software"
    return None


def stem(name: str) -> str:
    """Return the name of a file that is made of any other name, such as that of a folder, without its ending.

    The name is kept where `name_problem` allows it; letters at fault become "_", and it is cut if it is long.
    """
    kept = "".join(letter if is_printable(letter) and letter not in "/\\" else "_" for letter in name)
    cut = kept.encode()[:_LONGEST_STEM].decode(errors="ignore")
    return "_" + cut[1:] if cut.startswith(".") else cut or "_"


def rotation_folder(dump_dir: Path, rotation: int) -> Path:
    """Return the folder of the features of all images in a rotation, 1 to 7."""
    return dump_dir / ROTATIONS / str(rotation)


def split_path(dump_dir: Path, seed: int) -> Path:
    """Return the file of the split of a seed, if several splits were made."""
    return dump_dir / f"split_seed{seed}.npz"


def split_paths(dump_dir: Path) -> list[Path]:
    """Return the files of all splits, if several were made; sorted by name."""
    return sorted(dump_dir.glob(_SPLITS))


def run_name(bits: int, loss: str, seed: int | None, rotations: int = 1) -> str:
    """Return the usual name of a run's folder: K32, with what sets it apart from the paper's one run.

    Args:
        bits: Bits of a code.
        loss: Name of the method, as the flag `--loss` takes it.
        seed: Seed of the run if there are several, None for a single run.
        rotations: Rotations of each training image.
    """
    parts = [loss] if loss != "mhcln" else []
    parts += [f"views{rotations}"] if rotations > 1 else []
    parts += [f"seed{seed}"] if seed is not None else []
    return "_".join([f"K{bits}", *parts])


def run_folders(dump_dir: Path) -> list[Path]:
    """Return the folders of runs that have codes, sorted by name."""
    return sorted(path.parent for path in dump_dir.glob(f"*/{CODES}"))


def picture_name(index: int) -> str:
    """Return the file name of the picture of test image `index`, as in the published code."""
    return f"sample_{index}.png"
