"""A finished training run as evaluation sees it: its codes, and the set-up that they came from."""

import dataclasses
from pathlib import Path
from typing import Any

from mhcln import artifacts, datasets
from mhcln.artifacts import Codes
from mhcln.errors import UserError
from mhcln.files import sha256_of

# What of run.json stands in results.json under the same name.
SETUP = (
    *("dataset", "images_dir", "extractor", "features_sha256", "feature_width", "skipped"),
    *("split_file", "split_rule", "split_ratio", "split_seed", "split_sha256", "contaminated"),
    *("loss", "alpha", "batch_size", "iterations", "seed", "precision", "train_images", "test_images"),
    *("device", "tensorflow"),
)


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: its folder, its codes, and `setup`, whose values are None where no run.json tells them.

    `display_names` are the class names for people, in label order; `files` the SHA-256 that the trainer recorded.
    """

    folder: Path
    codes: Codes
    codes_sha256: str
    setup: dict[str, Any]
    display_names: list[str]
    files: dict[str, str]

    def checked(self, name: str) -> Path | None:
        """A file of the run folder, None where there is none; raises UserError if it is not the trainer's."""
        path = self.folder / name
        if not path.is_file():
            return None
        if self.files.get(name) not in (None, sha256_of(path)):
            raise UserError(f"{path} is not the one that run.json tells of; make it again with {artifacts.TRAIN}")
        return path

    @property
    def stamp(self) -> str | None:
        """What must stand beside every figure of a contaminated run; None for a clean one."""
        count = self.setup["contaminated"]
        if not count:
            return None
        return (
            f"CONTAMINATED: {count} of {self.codes.split.count('test')} test images were also trained on "
            f"(split rule {self.setup['split_rule']}); these figures are not comparable with clean ones"
        )


def choose(dump_dir: Path, run_name: str | None) -> Path:
    """The run folder to evaluate: the named one, or the only one. Raises UserError where that is not clear."""
    folders = artifacts.run_folders(dump_dir)
    names = ", ".join(folder.name for folder in folders)
    if run_name is not None:
        chosen = [folder for folder in folders if folder.name == run_name]
        if not chosen:
            there = f"there are {names}" if folders else "there is no finished run"
            raise UserError(f"{dump_dir / run_name} holds no codes.npz; {there}; train with {artifacts.TRAIN}")
        return chosen[0]
    if not folders:
        raise UserError(f"{dump_dir} holds no finished training run; make one with {artifacts.TRAIN}")
    if len(folders) > 1:
        raise UserError(f"{dump_dir} holds several runs, {names}; choose one with --run_name, or see all by --table")
    return folders[0]


def is_unfinished(folder: Path) -> bool:
    """Whether a run folder says itself that its training has not ended."""
    return (folder / "run.json").is_file() and not artifacts.read_run(folder).get("done")


def read(dump_dir: Path, folder: Path) -> Run:
    """Read a finished run; raises UserError where its files are damaged or do not belong together."""
    codes = artifacts.read_codes(folder)
    codes_sha256 = sha256_of(folder / "codes.npz")
    setup: dict[str, Any] = dict.fromkeys((*SETUP, "training_seconds"))
    files: dict[str, str] = {}
    if (folder / "run.json").is_file():
        recorded = artifacts.read_run(folder)
        _check(folder, recorded, codes, codes_sha256)
        setup |= {name: recorded.get(name) for name in SETUP} | {"training_seconds": recorded.get("seconds")}
        files = recorded.get("files") or {}
    else:
        setup |= _from_features(dump_dir, codes)
    return Run(folder, codes, codes_sha256, setup, _display_names(setup["dataset"], codes.class_names), files)


def _check(folder: Path, recorded: dict[str, Any], codes: Codes, codes_sha256: str) -> None:
    if not recorded.get("done"):
        raise UserError(f"{folder} is not trained to the end; go on with {artifacts.TRAIN}")
    if recorded.get("bits") != codes.bits:
        raise UserError(
            f"{folder}/codes.npz has codes of {codes.bits} bits, run.json tells of {recorded.get('bits')}; "
            f"train again with {artifacts.TRAIN}"
        )
    if (recorded.get("files") or {}).get("codes.npz", codes_sha256) != codes_sha256:
        raise UserError(
            f"{folder}/codes.npz is not the one that run.json tells of; make it again with {artifacts.TRAIN}"
        )


def _from_features(dump_dir: Path, codes: Codes) -> dict[str, Any]:
    # Codes without a run.json may still come from the features beside them: if these know every path.
    if (dump_dir / "features.npz").is_file():
        features = artifacts.read_features(dump_dir, vectors=False)
        if set(codes.paths) <= set(features.paths):
            return {"dataset": features.dataset, "images_dir": features.images_dir, "extractor": features.extractor}
    names = [name for name, known in datasets.known().items() if known.class_names == tuple(codes.class_names)]
    return {"dataset": names[0]} if names else {}


def _display_names(dataset: str | None, class_names: list[str]) -> list[str]:
    known = datasets.load(dataset or "", class_names)
    names = dict(zip(known.class_names, known.display_names, strict=True))
    return [names.get(name, name) for name in class_names]
