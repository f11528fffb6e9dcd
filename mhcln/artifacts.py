"""Every file format in the dump folder: what a file holds, and what must be true of it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from mhcln.errors import UserError
from mhcln.files import read_json, read_npz, write_json, write_npz
from mhcln.texts import Texts, all_differ, are_unicode

FORMAT = 1
EXTRACT = "extract_features.py"
GENERATE = "dataset_generator.py"
TRAIN = "trainer.py"
EVALUATE = "eval.py"
ADD = "eval.py --add"


@dataclasses.dataclass(frozen=True)
class Features:
    """What `features.npz` holds: one row an image, in storage order (class by class, by path within a class).

    `features` [n, d] float32 (None where only the rest was asked for), `labels` [n] int32 into `class_names`,
    `paths` relative to `images_dir` with `/`. `extractor` says what made the features, `skipped` how many images
    could not be read and were left out. `model_file` is where the backbone's weights lay ("" where it needs no file),
    `inputs` a checksum of the image files and of how they were extracted.
    """

    features: np.ndarray | None
    labels: np.ndarray
    paths: list[str]
    class_names: list[str]
    dataset: str
    images_dir: str
    extractor: str
    skipped: int = 0
    model_file: str = ""
    inputs: str = ""


@dataclasses.dataclass(frozen=True)
class Split:
    """What `split.npz` holds: paths of the training and the test images, and how they were chosen."""

    train_paths: list[str]
    test_paths: list[str]
    train_test_split: float
    seed: int
    rule: str


@dataclasses.dataclass(frozen=True)
class Codes:
    """What `codes.npz` holds: `codes` [n, ceil(bits / 8)] uint8 as np.packbits makes them, and whose they are.

    `split` says "train" or "test" of each image. The rows keep the storage order of `features.npz`.
    """

    codes: np.ndarray
    bits: int
    labels: np.ndarray
    paths: list[str]
    split: list[str]
    class_names: list[str]


@dataclasses.dataclass(frozen=True)
class Addition:
    """What `archives/<name>.npz` of a run folder holds: codes of images that the run knows nothing of otherwise.

    `labels` are -1 and `class_names` empty for images without classes. `extractor` and `model_sha256` say what made
    the codes.
    """

    codes: np.ndarray
    bits: int
    labels: np.ndarray
    paths: Texts
    class_names: list[str]
    images_dir: str
    extractor: str
    model_sha256: str


def write_features(dump_dir: Path, content: Features) -> None:
    """Write `features.npz`."""
    _write(dump_dir / "features.npz", content)


def read_features(dump_dir: Path, vectors: bool = True) -> Features:
    """Read `features.npz`; `vectors=False` leaves the large array in the file. Raises UserError."""
    path = dump_dir / "features.npz"
    content = Features(**_read(path, Features, EXTRACT, leave_out=() if vectors else ("features",)))
    n = len(content.paths)
    _check_labels(path, content.labels, content.class_names, n, EXTRACT)
    _check_unique(path, content.paths, EXTRACT)
    if vectors:
        _check(content.features.ndim == 2 and len(content.features) == n, path, "rows and paths differ", EXTRACT)
        _check(content.features.dtype == np.float32, path, "features are not float32", EXTRACT)
        bad = np.flatnonzero(~np.isfinite(content.features).all(axis=1))
        if len(bad):
            raise UserError(
                f"{path}: features of {len(bad)} images are not finite, first {content.paths[bad[0]]}; "
                f"make it again with {EXTRACT}"
            )
    return content


def write_split(path: Path, content: Split) -> None:
    """Write a split file."""
    _write(path, content)


def read_split(path: Path) -> Split:
    """Read a split file; raises UserError where it is damaged. Whether it leaks, `mhcln.splits` checks."""
    content = Split(**_read(path, Split, GENERATE))
    _check_unique(path, content.train_paths, GENERATE)
    _check_unique(path, content.test_paths, GENERATE)
    return content


def write_codes(run_dir: Path, content: Codes) -> None:
    """Write `codes.npz` of a training run."""
    _write(run_dir / "codes.npz", content)


def read_codes(run_dir: Path) -> Codes:
    """Read `codes.npz` of a training run; raises UserError where it is missing or damaged."""
    path = run_dir / "codes.npz"
    content = Codes(**_read(path, Codes, TRAIN))
    _check(len(content.split) == len(content.paths), path, "split and paths differ in length", TRAIN)
    _check(set(content.split) <= {"train", "test"}, path, 'split holds more than "train" and "test"', TRAIN)
    _check_codes(path, content, TRAIN)
    return content


def write_addition(path: Path, content: Addition) -> None:
    """Write an addition to the archive of a training run."""
    _write(path, content)


def read_addition(path: Path) -> Addition:
    """Read an addition to the archive of a training run; raises UserError where it is damaged."""
    content = Addition(**_read(path, Addition, ADD))
    _check_codes(path, content, ADD)
    return content


def _check_codes(path: Path, content: Codes | Addition, made_by: str) -> None:
    n, width = len(content.paths), (content.bits + 7) // 8
    _check(content.bits >= 1, path, f"bits is {content.bits}", made_by)
    _check(content.codes.shape == (n, width), path, f"codes are {content.codes.shape}, not {(n, width)}", made_by)
    _check(content.codes.dtype == np.uint8, path, "codes are not uint8", made_by)
    if content.bits % 8:
        padding = content.codes[:, -1] & (0xFF >> content.bits % 8)
        _check(not padding.any(), path, f"codes have bits beyond the {content.bits} they claim", made_by)
    _check_labels(path, content.labels, content.class_names, n, made_by)
    _check_unique(path, content.paths, made_by)


def write_run(run_dir: Path, content: dict[str, Any]) -> None:
    """Write `run.json`: the configuration of a training run and, once it is done, what came out."""
    write_json(run_dir / "run.json", {**content, "format": FORMAT})


def read_run(run_dir: Path) -> dict[str, Any]:
    """Read `run.json`; raises UserError where it is missing or damaged."""
    return _checked_format(run_dir / "run.json", read_json(run_dir / "run.json", TRAIN), TRAIN)


def write_results(run_dir: Path, content: dict[str, Any]) -> None:
    """Write `results.json`: metrics and the set-up that produced them, as flat keys."""
    write_json(run_dir / "results.json", {**content, "format": FORMAT})


def read_results(run_dir: Path) -> dict[str, Any]:
    """Read `results.json`; raises UserError where it is missing or damaged."""
    return _checked_format(run_dir / "results.json", read_json(run_dir / "results.json", EVALUATE), EVALUATE)


def run_folders(dump_dir: Path) -> list[Path]:
    """Folders of finished training runs under `dump_dir`, sorted by name."""
    return sorted(path.parent for path in dump_dir.glob("*/codes.npz"))


def _write(path: Path, content: Features | Split | Codes | Addition) -> None:
    arrays = {field.name: _as_array(getattr(content, field.name)) for field in dataclasses.fields(content)}
    write_npz(path, {**arrays, "format": np.int64(FORMAT)})


def _as_array(value: np.ndarray | list[str] | str | float) -> np.ndarray:
    # an empty list would become float64
    return np.asarray(value, dtype=np.str_) if isinstance(value, list) else np.asarray(value)


def _read(path: Path, kind: type, made_by: str, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    wanted = [name for name in fields if name not in leave_out]
    arrays = read_npz(path, made_by, [*wanted, "format"])
    _checked_format(path, {"format": arrays["format"].tolist() if "format" in arrays else None}, made_by)
    values: dict[str, Any] = dict.fromkeys(leave_out)
    for name in wanted:
        if name in arrays:
            values[name] = _as_field(path, name, arrays[name], fields[name].type, made_by)
        elif fields[name].default is dataclasses.MISSING:
            raise UserError(f"{path} has no array {name!r}; make it again with {made_by}")
    return values


def _as_field(path: Path, name: str, array: np.ndarray, kind: Any, made_by: str) -> Any:  # noqa: ANN401, any field
    kinds = {str: ("U", 0), int: ("iu", 0), float: ("f", 0), list[str]: ("U", 1), Texts: ("U", 1)}
    if kind not in kinds:
        return array
    letters, dimensions = kinds[kind]
    right = array.dtype.kind in letters and array.ndim == dimensions
    _check(right, path, f"{name} is not what it should be, but {array.dtype} {array.shape}", made_by)
    if letters == "U":
        _check(are_unicode(array.reshape(-1)), path, f"{name} is no text", made_by)
    return array if kind == Texts else array.tolist()


def _checked_format(path: Path, content: dict[str, Any], made_by: str) -> dict[str, Any]:
    if content.pop("format", None) != FORMAT:
        raise UserError(f"{path} is of another format than {FORMAT}, which this version reads; make it with {made_by}")
    return content


def _check_labels(path: Path, labels: np.ndarray, class_names: list[str], n: int, made_by: str) -> None:
    _check(labels.shape == (n,) and labels.dtype.kind in "iu", path, "labels and paths differ in length", made_by)
    lowest = 0 if class_names else -1  # images without classes have the label -1
    inside = not n or (labels.min() >= lowest and labels.max() < max(len(class_names), lowest + 1))
    _check(inside, path, f"labels lie outside the {len(class_names)} classes", made_by)


def _check_unique(path: Path, paths: list[str] | Texts, made_by: str) -> None:
    differ = all_differ(paths) if isinstance(paths, np.ndarray) else len(set(paths)) == len(paths)
    _check(differ, path, "a path stands twice", made_by)


def _check(holds: bool, path: Path, what: str, made_by: str) -> None:
    if not holds:
        raise UserError(f"{path} is not usable ({what}); make it again with {made_by}")
