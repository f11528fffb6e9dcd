"""One training run from start to finish: build what `run.json` describes, train or continue, write what it leaves."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mhcln import artifacts, checkpoints, files, hamming, runs, training
from mhcln.cli import Console
from mhcln.errors import UserError
from mhcln.learner import Learner, activations
from mhcln.methods import METHODS, Task
from mhcln.runs import Inputs
from mhcln.runtime import tf
from mhcln.validation import LEAST, Validation, held_back

_FLAGS = ("bits", "alpha", "batch_size", "iterations", "seed", "precision")


def run(content: dict[str, Any], inputs: Inputs, folder: Path, save_seconds: float, console: Console) -> None:
    """Train, or continue, the run that `content` describes (the keys of `run.json`) in `folder`, and write its files.

    Raises UserError where the images do not allow it or the loss stops being finite.
    """
    features = inputs.features
    rows, validation = _hold_back(content, inputs)
    vectors, labels = features.features[rows], features.labels[rows]
    _look_at(vectors, labels, features.class_names, console)
    task = Task(labels, vectors.shape[1], **{name: content[name] for name in _FLAGS})
    learner = Learner(METHODS[content["loss"]](task), vectors, labels)
    artifacts.write_run(folder, content)
    part, name = folder / "checkpoints", runs.identity(content)
    progress = training.resume(learner, part, name, console, validation)
    training.train(learner, progress, task.iterations, part, name, console, save_seconds, validation)
    outcome = {"seconds": round(progress.seconds, 3), **_machine()}
    # built anew, so that the saved network computes in float32 whatever it was trained in
    network = METHODS[content["loss"]](dataclasses.replace(task, precision="float32")).network
    network.set_weights(learner.method.network.get_weights())
    if validation:
        network.set_weights(validation.weights)
        outcome |= {"best_iteration": validation.best_iteration, "best_validation": validation.best}
        console.say(f"best at iteration {validation.best_iteration}: {validation.best:.4f} mAP@20 of held-back images")

    found = activations(network, features.features[inputs.used])
    codes = hamming.pack(hamming.binarise(found))
    with files.replacing(folder / "model.keras") as path:
        network.save(path)
    columns = training.columns(learner, validation)
    runs.write_outcome(folder, inputs, codes, found, progress.history, columns)
    runs.finish(folder, content, outcome)
    checkpoints.remove(part)
    last = dict(zip(columns, progress.history[-1], strict=True))
    console.say(
        f"{learner.iteration} iterations in {progress.seconds:.0f} s, loss {last['total']:.4f}, "
        f"{last['distinct_codes']} distinct codes of {len(labels)} training images -> {folder}"
    )


def _hold_back(content: dict[str, Any], inputs: Inputs) -> tuple[np.ndarray, Validation | None]:
    if not content["validate"]:
        return inputs.train, None
    features = inputs.features
    held = held_back(features.labels[inputs.train], content["validate"], content["seed"])
    kept, watched = inputs.train[~held], inputs.train[held]
    if len(watched) < LEAST:
        raise UserError(f"--validate holds back {len(watched)} images, too few to watch; leave it out")
    return kept, Validation(features.features[watched], features.labels[watched], content["patience"])


def _look_at(vectors: np.ndarray, labels: np.ndarray, class_names: list[str], console: Console) -> None:
    if (vectors == vectors[0]).all():
        console.warn("the features of all training images are equal: nothing can be learned from them")
    alone = [class_names[label] for label, count in sorted(Counter(labels.tolist()).items()) if count == 1]
    if alone:
        console.warn(
            f"{len(alone)} classes have one training image, which can only be a negative: {', '.join(alone[:5])}"
            + (" ..." if len(alone) > 5 else "")
        )
    absent = len(class_names) - len(np.unique(labels))
    if absent:
        console.warn(f"{absent} of the {len(class_names)} classes have no training image")


def _machine() -> dict[str, str]:
    gpus = tf.config.list_physical_devices("GPU")
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"
    return {"device": name, "tensorflow": tf.__version__}
