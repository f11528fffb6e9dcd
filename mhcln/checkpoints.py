"""Part-work of training: one file, whole or absent, that a later process continues from."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np

from mhcln.errors import UserError
from mhcln.files import read_npz, write_npz

NAME = "state.npz"


@dataclasses.dataclass
class Progress:
    """What the loop has gathered beside the learner's state: history rows, as in `history.csv`, and seconds spent."""

    history: list[list[float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


def save(folder: Path, state: dict[str, np.ndarray], progress: Progress, run: str) -> None:
    """Replace the checkpoint in `folder`; `run` names the configuration that it belongs to."""
    folder.mkdir(exist_ok=True)
    history = np.array(progress.history, np.float64)
    write_npz(folder / NAME, {**state, "history": history, "seconds": progress.seconds, "run": run})


def load(folder: Path, run: str) -> tuple[dict[str, np.ndarray], Progress] | None:
    """Read the checkpoint in `folder`, None where there is none; raises UserError where it is damaged or another's."""
    path = folder / NAME
    if not path.exists():
        return None
    state = read_npz(path, f"trainer.py once {path} is deleted")
    try:
        if str(state.pop("run")) != run:
            raise UserError(
                f"{path} belongs to another configuration; delete the folder {folder.parent} and train again"
            )
        progress = Progress(state.pop("history").tolist(), float(state.pop("seconds")))
    except KeyError as error:
        raise UserError(f"{path} lacks {error}; delete it and train again") from None
    return state, progress


def remove(folder: Path) -> None:
    """Delete the checkpoint folder, once nothing needs it any more."""
    if folder.is_dir():
        shutil.rmtree(folder)
