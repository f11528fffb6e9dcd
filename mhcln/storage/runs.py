"""Run folders: whether a folder holds a run, which run is meant, and what a finished run left there."""

import csv
import dataclasses
import hashlib
import io
import math
from pathlib import Path

from mhcln.console import UserError
from mhcln.storage import formats, layout, source
from mhcln.storage.files import sha256_of
from mhcln.storage.formats import Codes
from mhcln.storage.run_record import Outcome, RunInputs, RunRecord, TrainConfig
from mhcln.storage.source import shortened


def write_record(run_dir: Path, record: RunRecord) -> None:
    """Write `run.json`."""
    source.write_json_content(run_dir / layout.RUN, record.to_json())


def read_record(run_dir: Path) -> RunRecord:
    """Read `run.json`.

    Raises:
        UserError: The file is missing or damaged.
    """
    path = run_dir / layout.RUN
    return RunRecord.from_json(source.read_json_content(path, layout.retrain(run_dir)), path)


def finish(run_dir: Path, record: RunRecord, outcome: Outcome) -> None:
    """Write `run.json` of a finished run, with the SHA-256 of each of its files: from here on the run counts."""
    digests = {name: sha256_of(run_dir / name) for name in layout.TRAINED}
    write_record(run_dir, dataclasses.replace(record, outcome=dataclasses.replace(outcome, files=digests)))


def find_finished(run_dir: Path, record: RunRecord, open_ended: bool = False) -> Outcome | None:
    """Return what the very run that `record` describes came to, if `run_dir` holds it finished and undamaged.

    Args:
        run_dir: The run's folder.
        record: The run.
        open_ended: Whether a run of fewer iterations is one that has not been trained to the end.

    Returns:
        None if nothing is there, or what is there is not trained to the end.

    Raises:
        UserError: It holds another run (the message names what differs), or files that are not the run's.
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
    if found.outcome is None:
        return None
    for name, digest in found.outcome.files.items():
        if not (run_dir / name).is_file() or sha256_of(run_dir / name) != digest:
            raise UserError(
                f"{run_dir / name} is missing or was changed after training; delete {run_dir} and train again"
            )
    return found.outcome


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
    codes: Codes
    codes_sha256: str
    inputs: RunInputs
    config: TrainConfig | None = None
    outcome: Outcome | None = None

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of each file, as the trainer recorded it; empty without a `run.json`."""
        return self.outcome.files if self.outcome else {}

    def checked(self, name: str) -> Path | None:
        """Return the path of a file of the run, None if there is none.

        Raises:
            UserError: It is not the file that the trainer wrote.
        """
        path = self.folder / name
        if not path.is_file():
            return None
        self._require(name, sha256_of(path))
        return path

    def content_of(self, name: str) -> bytes | None:
        """Return the content of a small file of the run, None if there is none; raises UserError as `checked`."""
        path = self.folder / name
        if not path.is_file():
            return None
        content = path.read_bytes()
        self._require(name, hashlib.sha256(content).hexdigest())
        return content

    def _require(self, name: str, found: str) -> None:
        if self.files.get(name) not in (None, found):
            path = self.folder / name
            again = layout.retrain(self.folder)
            raise UserError(f"{path} is not the one that run.json tells of; make it again with {again}")

    @property
    def stamp(self) -> str | None:
        """What must stand beside the metrics if the split leaks into the test images; None if it does not."""
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
    """Read a finished run.

    Raises:
        UserError: Its files are damaged or do not belong together, or it is not trained to the end.
    """
    digest = hashlib.sha256()
    codes = formats.read_codes(run_dir, digest)
    codes_sha256 = digest.hexdigest()
    if not (run_dir / layout.RUN).is_file():
        return Run(run_dir, codes, codes_sha256, RunInputs())
    record = read_record(run_dir)
    if record.outcome is None:
        raise UserError(f"{run_dir} is not trained to the end; go on with {layout.TRAIN}")
    if record.config.bits != codes.bits:
        raise UserError(
            f"{run_dir / layout.CODES} has codes of {codes.bits} bits, run.json tells of {record.config.bits}; "
            f"make them again with {layout.retrain(run_dir)}"
        )
    if record.outcome.files.get(layout.CODES, codes_sha256) != codes_sha256:
        raise UserError(
            f"{run_dir / layout.CODES} is not the one that run.json tells of; "
            f"make it again with {layout.retrain(run_dir)}"
        )
    return Run(run_dir, codes, codes_sha256, record.inputs, record.config, record.outcome)


def read_history(run: Run) -> dict[str, list[float]]:
    """Read the columns of `history.csv`, NaN for an empty cell; empty if there is no history.

    Raises:
        UserError: The file is damaged, or is not the one that the trainer wrote.
    """
    content = run.content_of(layout.HISTORY)
    if content is None:
        return {}
    try:
        head, *lines = csv.reader(io.StringIO(content.decode()))
        return {name: [float(line[column] or math.nan) for line in lines] for column, name in enumerate(head)}
    except (ValueError, IndexError, csv.Error) as error:
        path = run.folder / layout.HISTORY
        raise UserError(f"{path} is damaged ({error}); make it again with {layout.retrain(run.folder)}") from error


def is_unfinished(run_dir: Path) -> bool:
    """Return whether a run folder itself says that its training has not ended."""
    return (run_dir / layout.RUN).is_file() and read_record(run_dir).outcome is None


def choose_run(dump_dir: Path, run_name: str | None) -> Path:
    """Return the run folder to evaluate: the named one, or the only one.

    Raises:
        UserError: There is none, or there are several and none is named.
    """
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
