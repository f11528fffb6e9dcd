"""Whether the files of a dump folder are what the scripts, one at a time, make of what these files name."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import graphs
import numpy as np
from conftest import run_here
from dumps import draw_images, leftovers

from mhcln.console import Quiet, UserError
from mhcln.evaluation.evaluate import evaluate, evaluate_vectors
from mhcln.pipeline.compare import compare_runs
from mhcln.pipeline.costs import signs_of
from mhcln.pipeline.train import TrainOptions, train_runs
from mhcln.storage import layout, runs
from mhcln.storage.archive import read_shards
from mhcln.storage.coded_images import CodedImages, read_codes
from mhcln.storage.features import read_features
from mhcln.storage.files import read_npz, sha256_of
from mhcln.storage.results import read_results
from mhcln.storage.run_record import RunRecord
from mhcln.training.trained import encode, read_network

Digests = tuple[str | None, str | None]


@dataclasses.dataclass(frozen=True)
class Known:
    """All that the files of a dump folder may name.

    Attributes:
        root: Folder of the backbone, of `images_<name>` for each set of images, and of a dump folder for each pair.
        pairs: These dump folders, of features and a split of them, by the SHA-256 of both files.
    """

    root: Path
    pairs: dict[Digests, Path]

    @classmethod
    def make(cls, root: Path, images: Mapping[str, Sequence[str]], seeds: Sequence[int]) -> "Known":
        """Draw sets of images, by name with their classes, extract them and make the splits of these seeds."""
        graphs.write_graph(root / "model")
        pairs = {}
        for number, (name, classes) in enumerate(images.items()):
            images_dir = draw_images(root / f"images_{name}", classes, number)
            for seed in seeds:
                dump = f"--dump_dir={root / name}{seed}"
                model = f"--model_dir={root / 'model'}"
                run_here("extract_features.py", model, "--batch_size=4", f"--images_dir={images_dir}", dump)
                run_here("dataset_generator.py", "--train_test_split=0.5", f"--seed={seed}", dump)
                pairs[digests(root / f"{name}{seed}")] = root / f"{name}{seed}"
        assert len(pairs) == len(images) * len(seeds)
        return cls(root, pairs)

    def trained(self, record: RunRecord) -> Path:
        """Train again from what a run names, alone in a folder, unless that was done before; return the run folder."""
        pair = self.pairs[record.inputs.features_sha256, record.inputs.split_sha256]
        config, name = record.config, f"{record.config.bits} bits, {record.config.iterations} iterations"
        options = TrainOptions(pair, config, (config.bits,), (config.seed,), config.iterations, run_name=name)
        train_runs(options, Quiet())
        return pair / name


def digests(dump_dir: Path) -> Digests:
    return sha256_of(dump_dir / layout.FEATURES), sha256_of(dump_dir / layout.SPLIT)


def untrue(known: Known, start: Path, dump_dir: Path) -> list[str]:
    """Return what in a dump folder is not true or cannot be read.

    Args:
        known: What its files may name.
        start: The dump folder that it is a copy of, from before the scripts ran.
        dump_dir: The dump folder.
    """
    try:
        found = [*_untrue_inputs(known, dump_dir), *leftovers(dump_dir)]
        for record_file in sorted(dump_dir.glob(f"*/{layout.RUN}")):
            found += [f"{record_file.parent.name}: {what}" for what in _untrue_run(known, start, record_file.parent)]
        compare_runs(dump_dir, 5, "test", None, Quiet())
    except UserError as error:
        return [str(error)]
    return found


def _untrue_inputs(known: Known, dump_dir: Path) -> list[str]:
    features, split = digests(dump_dir)
    right = {
        layout.FEATURES: features in {pair[0] for pair in known.pairs},
        layout.SPLIT: split in {pair[1] for pair in known.pairs},
    }
    return [name for name, known_one in right.items() if not known_one]


def _untrue_run(known: Known, start: Path, folder: Path) -> Iterator[str]:
    record = runs.read_record(folder)
    if record.outcome is None:
        yield "it is not trained to the end"
        return
    if (record.inputs.features_sha256, record.inputs.split_sha256) not in known.pairs:
        yield f"features and split are unknown: {record.inputs}"
        return
    again = known.trained(record)
    if record.inputs != runs.read_record(again).inputs:
        yield f"not what the same features and split say: {record.inputs}"
    for name in (layout.CODES, layout.ACTIVATIONS, layout.HISTORY):
        if (folder / name).read_bytes() != (again / name).read_bytes():
            yield f"{name} is another than that of a training alone"
    for name, digest in record.outcome.files.items():
        if sha256_of(folder / name) != digest:
            yield f"{name} is not the file that run.json names"
    before = start / folder.name  # a run may have been evaluated, and added to, before it was trained on
    versions = [again, *([known.trained(runs.read_record(before))] if before.is_dir() else [])]
    if (folder / layout.RESULTS).is_file():
        yield from _untrue_results(folder, versions)
    for added in read_shards(runs.read_run(folder)):
        if not _is_true_addition(known, added, [folder, before]):
            yield f"the images added of {added.images_dir} are not what the model makes of the features"


def _untrue_results(folder: Path, versions: list[Path]) -> list[str]:
    """Return which parts of results.json do not follow from the codes, activations and features of a known run."""
    results = read_results(folder)
    evaluated = [run for run in versions if sha256_of(run / layout.CODES) == results["codes_sha256"]]
    if not evaluated:
        return ["results.json is of unknown codes"]
    codes, record = read_codes(evaluated[0]), runs.read_record(evaluated[0])
    evaluation = evaluate(codes, results["archive"], results["k"])
    stored = read_npz(evaluated[0] / layout.ACTIVATIONS, "")
    features = read_features(evaluated[0].parent).vectors
    signs = signs_of(features, np.array(codes.split) == "train")
    vectors = {"features": features, "signs": signs, "activations": stored["activations"]}
    costs = {what: evaluate_vectors(rows, evaluation.protocol) for what, rows in vectors.items()}
    costs["codes"] = {name: evaluation.metrics[name] for name in costs["features"]}
    right = {
        "inputs": vars(record.inputs).items() <= results.items(),
        "config": vars(record.config).items() <= results.items(),
        "metrics": evaluation.metrics.items() <= results.items(),
        "radius": results["recall_by_radius"] == evaluation.recall_by_radius,
        "classes": results["per_class"] == evaluation.per_class,
        **{f"costs of {cost['what']}": costs[cost["what"]].items() <= cost.items() for cost in results["costs"]},
    }
    return [f"results.json: {what}" for what, is_right in right.items() if not is_right]


def _is_true_addition(known: Known, added: CodedImages, folders: list[Path]) -> bool:
    """Return whether codes that were added to a run are those of one of its models for known features."""
    models = [path for folder in folders if (path := folder / layout.MODEL).is_file()]
    used = [path for path in models if sha256_of(path) == added.model_sha256]
    features = read_features(known.root / f"{Path(added.images_dir).name.removeprefix('images_')}0")
    config, width = runs.read_record(folders[0]).config, features.vectors.shape[1]
    codes = encode(read_network(used[0], config.loss, width, config.bits), features.vectors) if used else None
    return codes is not None and list(added.paths) == features.images.paths and (added.codes == codes).all()
