"""Names of everything in a dump folder, and which script makes it.

dump_dir/
  features.npz, skipped.csv, extract.part/     extract_features.py
  split.npz, split_seed<s>.npz                 dataset_generator.py
  K32/                                         trainer.py, one folder per run
    run.json, model.keras, history.csv, codes.npz, activations.npz, checkpoints/
    results.json, results.csv, report.html, hamming_out/, queries/, archives/      eval.py
  table.md, table.csv                          eval.py --table
"""

from pathlib import Path

DUMP_DIR = Path("dump_dir/")

EXTRACT = "extract_features.py"
GENERATE = "dataset_generator.py"
TRAIN = "trainer.py"
EVALUATE = "eval.py"
ADD = "eval.py --add"

FEATURES = "features.npz"
SKIPPED = "skipped.csv"
PARTIAL_FEATURES = "extract.part"
SPLIT = "split.npz"

RUN = "run.json"
MODEL = "model.keras"
HISTORY = "history.csv"
CODES = "codes.npz"
ACTIVATIONS = "activations.npz"
TRAINED = (MODEL, HISTORY, CODES, ACTIVATIONS)  # what a finished run consists of, beside run.json
CHECKPOINTS = "checkpoints"

RESULTS = "results.json"
QUERY_RESULTS = "results.csv"
REPORT = "report.html"
PICTURES = "hamming_out"
QUERIES = "queries"
ARCHIVES = "archives"
TABLE = "table.md"
TABLE_CSV = "table.csv"


def split_path(dump_dir: Path, seed: int) -> Path:
    """Return the file of the split of a seed, if several splits were made."""
    return dump_dir / f"split_seed{seed}.npz"


def split_paths(dump_dir: Path) -> list[Path]:
    """Return the files of all splits, if several were made; sorted by name."""
    return sorted(dump_dir.glob("split_seed*.npz"))


def run_name(bits: int, loss: str, seed: int | None) -> str:
    """Return the usual name of a run's folder: K32, with what sets it apart from the paper's one run.

    Args:
        bits: Bits of a code.
        loss: Name of the method, as the flag `--loss` takes it.
        seed: Seed of the run if there are several, None for a single run.
    """
    return f"K{bits}" + (f"_{loss}" if loss != "mhcln" else "") + (f"_seed{seed}" if seed is not None else "")


def run_folders(dump_dir: Path) -> list[Path]:
    """Return the folders of runs that have codes, sorted by name."""
    return sorted(path.parent for path in dump_dir.glob(f"*/{CODES}"))


def picture_name(index: int) -> str:
    """Return the file name of the picture of test image `index`, as in the published code."""
    return f"sample_{index}.png"
