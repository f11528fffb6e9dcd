"""What a message about a file of the dump folder advises: the command is run, and the one that failed then works."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import run_here

from mhcln.console import UserError

TRAINING = ("--HASH_BITS=12", "--ALPHA=0.2", "--BATCH_SIZE=30", "--ITERS=20")


class Workplace:
    """A copy of a dump folder that the four scripts made, and the scripts with their flags for it."""

    def __init__(self, made: Path, dump: Path, folder: Path) -> None:
        self.dump = folder / "dump"
        shutil.copytree(dump, self.dump)
        images, model = made / "images", made / "model"
        self.flags = {
            "extract_features.py": (f"--images_dir={images}", f"--model_dir={model}"),
            "dataset_generator.py": ("--train_test_split=0.6",),
            "trainer.py": TRAINING,
            "eval.py": ("--k=5", "--interval=0"),
            "eval.py --table": (),
            "eval.py --query": (f"--query={images / 'beach' / 'beach0.tif'}",),
            "eval.py --browse": (),
            "eval.py --add": (f"--add={self.dump}",),
        }

    def run(self, command: str) -> None:
        name, *more = command.split()
        more = [] if any(flag.startswith(tuple(more)) for flag in self.flags[command]) and more else more
        run_here(name, *self.flags[command], *more, f"--dump_dir={self.dump}")

    def advice(self, command: str) -> str:
        """Run a command; return its error line, "" if it works."""
        try:
            self.run(command)
        except UserError as error:
            return str(error)
        return ""

    def follow(self, advice: str) -> None:
        """Do what the end of an error line says: delete a folder, run a command."""
        folder = self.dump / "K12"
        for deleted in re.findall(r"once (\S+) is deleted|delete (\S+) and", advice):
            shutil.rmtree("".join(deleted))
        advised = re.findall(r"\w+\.py(?: --\w+)?", advice)
        commands = [each if each in self.flags else each.split()[0] for each in advised]
        assert commands or not folder.exists(), advice
        further = self.advice(commands[-1] if commands else "trainer.py")
        assert further != advice
        if further:
            self.follow(further)


@pytest.fixture(scope="module")
def whole(pipeline, tmp_path_factory) -> Path:
    """A dump folder with a run of the flags above, its evaluation and an addition."""
    made = Workplace(pipeline, pipeline / "dump", tmp_path_factory.mktemp("whole"))
    shutil.rmtree(made.dump / "K12")
    for command in ("trainer.py", "eval.py", "eval.py --add"):
        made.run(command)
    return made.dump


@pytest.fixture
def place(pipeline, whole, tmp_path) -> Workplace:
    return Workplace(pipeline, whole, tmp_path)


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("features.npz", "dataset_generator.py"),
        ("features.npz", "trainer.py"),
        ("split.npz", "trainer.py"),
        ("K12/run.json", "eval.py"),
        ("K12/codes.npz", "eval.py"),
        ("K12/codes.npz", "eval.py --query"),
        ("K12/model.keras", "eval.py --query"),
        ("K12/activations.npz", "eval.py --query"),
        ("K12/history.csv", "eval.py"),
        ("K12/results.csv", "eval.py --browse"),
        ("K12/results.json", "eval.py --browse"),
        ("K12/archives/archive.json", "eval.py --query"),
        ("K12/archives/shards", "eval.py --query"),
    ],
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_the_command_that_makes_a_file_again_is_named_and_does_it(place, file, command, damage):
    path = place.dump / file
    path = next(path.glob("*.npz")) if path.is_dir() else path
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    advice = place.advice(command)
    if advice:  # not of a file that the command can do without
        place.follow(advice)
    assert not place.advice(command)
