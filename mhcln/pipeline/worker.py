"""A worker: a process, maybe on another machine, that holds a backbone and computes batches one by one.

Nothing here knows Ray: `workers` makes an actor of the class and calls its methods.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mhcln.backbone.backbone import open_backbone
from mhcln.backbone.recipe import BackboneOptions, Recipe
from mhcln.console import Quiet, UserError
from mhcln.device import explained, open_device
from mhcln.pipeline.feature_batches import OnBroken, ThisProcess
from mhcln.quiet_tensorflow import tf
from mhcln.storage.extraction_job import ExtractionJob, stamp
from mhcln.storage.partial_features import PartialFeatures

PACKAGE = Path(__file__).resolve().parents[1]


class Worker:
    """Holds a backbone; its methods may be called by two threads, one of which reads images."""

    def __init__(self, package: str, recipe: Recipe, options: BackboneOptions, num_cpus: int, num_gpus: int) -> None:
        """Open the backbone.

        Args:
            package: Checksum that this package must have.
            recipe: Recipe that the backbone must have.
            options: Its options; `model_dir` is the file.
            num_cpus: Threads that compute, and as many that read images.
            num_gpus: 1 or 0.
        """
        with _on_this_host():
            if package_checksum() != package:
                raise UserError(
                    f"{PACKAGE} is another version of this package than the command's; copy the same version there"
                )
            tf.config.threading.set_intra_op_parallelism_threads(num_cpus)
            tf.config.threading.set_inter_op_parallelism_threads(num_cpus)
            open_device("gpu" if num_gpus else "cpu", Quiet())
            backbone = open_backbone(options)
            if backbone.recipe != recipe:
                raise UserError(
                    f"{backbone.model_file} has another SHA-256 than where the command runs; put the same file there"
                )
            self._network, self._free = backbone.network, threading.Lock()
            self._engine = ThisProcess(dataclasses.replace(backbone, network=self._alone), Quiet(), num_cpus)

    def about(self) -> tuple[str, str]:
        """Return the name of the device, and the versions of the software."""
        return self._engine.device, self._engine.software

    def compute(self, partial: PartialFeatures, batch: int, on_broken: OnBroken, mark: str) -> Any:  # noqa: ANN401
        """Compute and save one batch.

        Args:
            partial: Where the batch goes; its job is that batch.
            batch: Its number.
            on_broken: The effect of images that cannot be read.
            mark: Name of a file that the command has written there.

        Returns:
            The facts about its images.
        """
        with _on_this_host():
            if not (partial.folder / mark).is_file():
                raise UserError(
                    f"{partial.folder} is not the folder that the command sees; all machines must share --dump_dir"
                )
            _check_images(partial.job)
            ((_, found),) = self._engine.compute(partial, [batch], on_broken, lambda: None)
            return found

    def _alone(self, images: tf.Tensor) -> tf.Tensor:
        """Run the network in one thread while the other waits: two batches in it would take its memory twice."""
        with self._free:
            return self._network(images)


def package_checksum(package: Path = PACKAGE) -> str:
    """Return a checksum of the source files of the package: workers of another version might compute other features."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package)} {len(content)} ".encode() + content)
    return digest.hexdigest()


def _check_images(job: ExtractionJob) -> None:
    """Raise UserError unless the files of a job have the size and the time of change that the command has seen."""
    for name, stamped in zip(job.paths, job.stamps.tolist(), strict=True):
        path = Path(job.images_dir, name)
        if stamp(path)[:2] != tuple(stamped[:2]):
            raise UserError(
                f"{path} is missing or not the file that the command sees; all machines must share --images_dir"
            )


@contextlib.contextmanager
def _on_this_host() -> Iterator[None]:
    """Add the name of the machine to a UserError, and to an error of its disk or its device."""
    try:
        with explained("a smaller --batch_size"):
            yield
    except (UserError, OSError) as error:
        raise UserError(f"worker on {socket.gethostname()}: {error}") from error
