"""The checkpoint of a training run: one file, whole or absent, that a later process continues from."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mhcln.console import UserError
from mhcln.storage.files import read_npz, write_npz
from mhcln.storage.npz import AnyArray
from mhcln.storage.source import Source

STATE = "state.npz"


@dataclasses.dataclass
class Progress:
    """History and time of a training so far.

    Attributes:
        history: Rows of `history.csv`.
        seconds: Time spent on training, over all processes.
    """

    history: list[list[float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where a run keeps its checkpoint.

    Attributes:
        folder: Folder of the file, inside the run's folder.
        run: Identity of the run's configuration, which the file carries.
        every_seconds: Seconds between two checkpoints.
    """

    folder: Path
    run: str
    every_seconds: float = 30.0

    def save(self, state: Mapping[str, AnyArray], progress: Progress) -> None:
        """Replace the checkpoint by the state of the learner, by name, and the progress."""
        self.folder.mkdir(exist_ok=True)
        history = np.array(progress.history, np.float64)
        write_npz(self.folder / STATE, {**state, "history": history, "seconds": progress.seconds, "run": self.run})

    def load(self) -> tuple[dict[str, AnyArray], Progress] | None:
        """Read the checkpoint.

        Returns:
            The state of the learner and the progress; None if there is no checkpoint.
        """
        path = self.folder / STATE
        if not path.exists():
            return None
        made_by = f"trainer.py once {path} is deleted"
        state, source = read_npz(path, made_by), Source(path, made_by)
        if state.pop("run", np.array("")).tolist() != self.run:
            raise UserError(
                f"{path} belongs to another configuration; delete the folder {self.folder.parent} and train again"
            )
        history, seconds = (source.array(name, state, np.float64) for name in ("history", "seconds"))
        source.require(not seconds.ndim and history.ndim in (1, 2), "it lacks the progress of the run")
        kept = {name: array for name, array in state.items() if name not in ("history", "seconds")}
        return kept, Progress(history.tolist(), float(seconds))

    def remove(self) -> None:
        """Delete the checkpoint, once nothing needs it any more."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
