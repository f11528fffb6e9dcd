"""Run folders: whether a folder holds a run, which run is meant, and the files of a finished run."""

import csv
import dataclasses
import hashlib
import io
import math
from collections.abc import Mapping
from pathlib import Path

from mhcln.console import UserError
from mhcln.storage import layout
from mhcln.storage.coded_images import CodedImages, read_codes
from mhcln.storage.files import sha256_of
from mhcln.storage.run_record import Outcome, RunInputs, RunRecord, TrainConfig
from mhcln.storage.source import Source, read_json_content, shortened, write_json_content

FORMAT = 2  # of run.json; 1 had the keys of all parts side by side


def write_record(run_dir: Path, record: RunRecord) -> None:
    """Write `run.json`."""
    write_json_content(run_dir / layout.RUN, dataclasses.asdict(record), FORMAT)


def read_record(run_dir: Path) -> RunRecord:
    """Read `run.json`."""
    source = Source(run_dir / layout.RUN, layout.retrain(run_dir))
    return source.parse(RunRecord, read_json_content(source.path, source.made_by, number=FORMAT))


def finish(run_dir: Path, record: RunRecord, outcome: Outcome) -> None:
    """Write `run.json` of a finished run, with the SHA-256 of each of its files: from here on the run counts."""
    digests = {name: sha256_of(run_dir / name) for name in layout.TRAINED}
    write_record(run_dir, dataclasses.replace(record, outcome=dataclasses.replace(outcome, files=digests)))


def find_finished(run_dir: Path, record: RunRecord, open_ended: bool = False) -> Outcome | None:
    """Return the outcome of the run that `record` describes, if `run_dir` holds it finished and undamaged.

    A folder that holds another run, or files that are not the run's, is refused.

    Args:
        run_dir: The run's folder.
        record: The run.
        open_ended: Whether a run of fewer iterations is one that has not been trained to the end.

    Returns:
        None if there is no run, or it is not trained to the end.
    """
    if not (run_dir / layout.RUN).exists():
        unknown = [name for name in layout.TRAINED if (run_dir / name).exists()]
        if unknown:
            raise UserError(f"{run_dir} holds {unknown[0]} of an unknown run; choose another --run_name or delete it")
        return None
    found = read_record(run_dir)
    old, new = found.configuration(), record.configuration()
    differing = [name for name in sorted(new) if old[name] != new[name]]
    longer = differing == ["iterations"] and found.config.iterations < record.config.iterations
    if longer and open_ended:
        return None
    if longer and found.outcome is not None:
        raise UserError(
            f"{run_dir} holds a run of {found.config.iterations} iterations, over which the learning rate of "
            f"{record.config.loss} has fallen to 0, so that it cannot be trained on; choose another --run_name, or "
            "delete the folder"
        )
    if differing:
        what = ", ".join(f"{name} {shortened(old[name])} there, {shortened(new[name])} now" for name in differing)
        raise UserError(f"{run_dir} holds another run ({what}); choose another --run_name, or delete the folder")
    if found.outcome:
        for name in found.outcome.files:
            _require_recorded(run_dir / name, found.outcome.files)
    return found.outcome


def _require_recorded(path: Path, files: Mapping[str, str], digest: str | None = None) -> None:
    """Require that a file of a run has the SHA-256 that `run.json` records, if it records one.

    Args:
        path: The file.
        files: SHA-256 of each file, as `run.json` has them.
        digest: SHA-256 of the file, if it was computed already.
    """
    recorded = files.get(path.name)
    if recorded and digest is None and path.is_file():
        digest = sha256_of(path)
    if recorded and digest != recorded:
        again = layout.retrain(path.parent)
        raise UserError(f"{path} is missing or does not match its SHA-256 in run.json; make it again with {again}")


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run as evaluation and search see it.

    Attributes:
        folder: The run's folder.
        codes: Codes of its training and test images.
        codes_sha256: SHA-256 of `codes.npz` as it was read.
        inputs: The data; without a `run.json`, values are None.
        config: The training; None without a `run.json`.
        outcome: None without a `run.json`.
    """

    folder: Path
    codes: CodedImages
    codes_sha256: str
    inputs: RunInputs
    config: TrainConfig | None = None
    outcome: Outcome | None = None

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of each file, as the trainer recorded it; empty without a `run.json`."""
        return self.outcome.files if self.outcome else {}

    def checked(self, name: str) -> Path | None:
        """Return the path of a file of the run, None if there is none; it must be the file that the trainer wrote."""
        path = self.folder / name
        if not path.is_file():
            return None
        _require_recorded(path, self.files)
        return path

    @property
    def leak_warning(self) -> str | None:
        """The warning beside the metrics if training images are among the test images; None if none is."""
        inputs, tested, parts = self.inputs, self.codes.split.count("test"), []
        if inputs.contaminated:
            parts.append(
                f"CONTAMINATED: {inputs.contaminated} of {tested} test images were also trained on (split rule "
                f"{inputs.split_rule}); these figures are not comparable with clean ones"
            )
        if inputs.train_test_duplicates:
            parts.append(f"{inputs.train_test_duplicates} of {tested} test images are equal to training images")
        return "; ".join(parts) or None


def read_run(run_dir: Path) -> Run:
    """Read a finished run, whose files must belong together."""
    digest = hashlib.sha256()
    codes = read_codes(run_dir, digest)
    codes_sha256 = digest.hexdigest()
    if not (run_dir / layout.RUN).is_file():
        known = codes.dataset or None, codes.images_dir or None, codes.extractor or None
        return Run(run_dir, codes, codes_sha256, RunInputs(*known))
    record = read_record(run_dir)
    if record.outcome is None:
        raise UserError(f"{run_dir} is not trained to the end; go on with {layout.TRAIN}")
    _require_recorded(run_dir / layout.CODES, record.outcome.files, codes_sha256)
    return Run(run_dir, codes, codes_sha256, record.inputs, record.config, record.outcome)


def read_history(run: Run) -> dict[str, list[float]]:
    """Read the columns of `history.csv`, NaN for an empty cell; empty if there is no history."""
    path = run.folder / layout.HISTORY
    if not path.is_file():
        return {}
    content = path.read_bytes()
    _require_recorded(path, run.files, hashlib.sha256(content).hexdigest())
    try:
        head, *lines = csv.reader(io.StringIO(content.decode()))
        return {name: [float(line[column] or math.nan) for line in lines] for column, name in enumerate(head)}
    except (ValueError, IndexError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}); make it again with {layout.retrain(run.folder)}") from error


def is_unfinished(run_dir: Path) -> bool:
    """Return whether a run folder holds an unfinished training."""
    return (run_dir / layout.RUN).is_file() and read_record(run_dir).outcome is None


def choose_run(dump_dir: Path, run_name: str | None) -> Path:
    """Return the run folder to evaluate: the named one, or the only one."""
    folders = layout.run_folders(dump_dir)
    names = ", ".join(folder.name for folder in folders)
    if run_name is not None:
        chosen = [folder for folder in folders if folder.name == run_name]
        if not chosen:
            there = f"there are {names}" if folders else "there is no finished run"
            raise UserError(f"{dump_dir / run_name} holds no codes.npz; {there}; train with {layout.TRAIN}")
        return chosen[0]
    if not folders:
        raise UserError(f"{dump_dir} holds no finished training run; make one with {layout.TRAIN}")
    if len(folders) > 1:
        raise UserError(f"{dump_dir} holds several runs, {names}; choose one with --run_name, or see all by --table")
    return folders[0]
