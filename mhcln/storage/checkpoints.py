"""The checkpoint of a training run: one file, whole or absent, that a later process continues from."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mhcln.console import UserError
from mhcln.storage.files import read_npz, write_npz
from mhcln.storage.npz import AnyArray

STATE = "state.npz"


@dataclasses.dataclass
class Progress:
    """What the training loop has gathered so far.

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
        every_seconds: Time between two checkpoints.
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

        Raises:
            UserError: The checkpoint is damaged, or is that of another configuration.
        """
        path = self.folder / STATE
        if not path.exists():
            return None
        state = read_npz(path, f"trainer.py once {path} is deleted")
        history, seconds, run = (state.pop(name, np.array([""])) for name in ("history", "seconds", "run"))
        if run.ndim or run.dtype.kind != "U":
            raise UserError(f"{path} does not say which run it belongs to; delete it and train again")
        if run.tolist() != self.run:
            raise UserError(
                f"{path} belongs to another configuration; delete the folder {self.folder.parent} and train again"
            )
        numbers = seconds.dtype.kind == "f" and history.dtype == np.float64
        if not numbers or seconds.ndim or history.ndim != (2 if history.size else 1):
            raise UserError(f"{path} does not say how far the run was; delete it and train again")
        return state, Progress(history.tolist(), float(seconds))

    def remove(self) -> None:
        """Delete the checkpoint, once nothing needs it any more."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
