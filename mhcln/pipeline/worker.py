"""A worker: a process, maybe on another machine, that holds a backbone and computes batches one by one.

Nothing here knows Ray: `workers` makes an actor of the class and calls its methods.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from mhcln.backbone.backbone import open_backbone
from mhcln.backbone.recipe import BackboneOptions, Recipe
from mhcln.console import Quiet, UserError
from mhcln.device import explained, open_device
from mhcln.pipeline.feature_batches import OnBroken, ThisProcess
from mhcln.quiet_tensorflow import tf
from mhcln.storage.extraction_job import ExtractionJob, stamp
from mhcln.storage.partial_features import Findings, PartialFeatures

PACKAGE = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Order:
    """What a worker opens.

    Attributes:
        package: Checksum of this package, where the command runs.
        recipe: The recipe that its backbone must have.
        backbone: Which backbone that is; `model_dir` is the file.
        device: "gpu" or "cpu".
        threads: Threads that compute, and as many that read images.
    """

    package: str
    recipe: Recipe
    backbone: BackboneOptions
    device: str
    threads: int


@dataclasses.dataclass(frozen=True)
class About:
    """What a worker says of itself: the name of its machine, and what computes there."""

    host: str
    device: str
    software: str


class Worker:
    """Opens a backbone at its first call; its methods may be called by two threads, one of which reads images."""

    def __init__(self) -> None:
        self._opening = threading.Lock()
        self._engine: ThisProcess | None = None
        self._console = _Kept()

    def begin(self, order: Order, partial: PartialFeatures, mark: str) -> About:
        """Open the backbone, and look whether this machine has what the driver has.

        Args:
            order: What to open.
            partial: Where batches go; its job is one batch, whose first image is looked at.
            mark: Name of a file that the driver has written there.

        Raises:
            UserError: The package, the weights, the images or the folder of the batches are others.
        """
        with _on_this_host():
            _check_package(order.package)
            _check_images(partial.job, partial.job.rows(partial.job.first // partial.job.batch_size)[:1])
            _check_folder(partial.folder, mark)
            engine = self._opened(order)
            return About(socket.gethostname(), engine.device, engine.software)

    def compute(
        self, order: Order, partial: PartialFeatures, batch: int, on_broken: OnBroken
    ) -> tuple[Findings, list[str]]:
        """Compute and save one batch.

        Args:
            order: What to open, if this process is one that Ray has started again.
            partial: Where the batch goes; its job is that batch.
            batch: Its number.
            on_broken: What is done about images that cannot be read.

        Returns:
            What is known of its images, and warnings.

        Raises:
            UserError: As the engine of one process raises it; the disk is full; or this machine sees other images.
        """
        with _on_this_host():
            (found,) = [found for _, found in self._opened(order).compute(partial, [batch], on_broken, lambda: None)]
            _check_images(partial.job, list(found.problems))
            return found, self._console.taken()

    def _opened(self, order: Order) -> ThisProcess:
        with self._opening:
            if self._engine is None:
                tf.config.threading.set_intra_op_parallelism_threads(order.threads)
                tf.config.threading.set_inter_op_parallelism_threads(order.threads)
                open_device(order.device, self._console)
                backbone = open_backbone(order.backbone, self._console)
                if backbone.recipe != order.recipe:
                    raise UserError(
                        f"{backbone.model_file} is not the file that it is where the command runs (SHA-256 "
                        f"{backbone.recipe.sha256[:12]}..., not {order.recipe.sha256[:12]}...); put the same file on "
                        "every machine"
                    )
                alone = dataclasses.replace(backbone, network=_one_at_a_time(backbone.network))
                self._engine = ThisProcess(alone, self._console, order.threads)
            return self._engine


def _one_at_a_time(network: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Let one thread run the network while others wait: two batches in it would take its memory twice."""
    free = threading.Lock()

    def run(images: tf.Tensor) -> tf.Tensor:
        with free:
            return network(images)

    return run


def package_checksum(package: Path = PACKAGE) -> str:
    """Return a checksum of the source files of the package: workers of another version might compute other features."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package)} {len(content)} ".encode() + content)
    return digest.hexdigest()


def _check_package(wanted: str) -> None:
    if package_checksum() != wanted:
        raise UserError(f"{PACKAGE} is another version of this package than that of the command; copy that one there")


def _check_images(job: ExtractionJob, rows: list[int] | range) -> None:
    """Raise UserError unless files of the job have the size and the time of change that the driver has seen."""
    for row in rows:
        path = Path(job.images_dir, job.path(row))
        if stamp(path)[:2] != tuple(job.stamps[row - job.first][:2]):
            raise UserError(
                f"{path} is missing, or another file than where the command runs; --images_dir must be a folder that "
                "all machines share, and stay as it is"
            )


def _check_folder(folder: Path, mark: str) -> None:
    if not (folder / mark).is_file():
        raise UserError(f"{folder} is not the folder of the command; --dump_dir must be one that all machines share")
    own = folder / f"{mark}.{secrets.token_hex(8)}"
    own.write_text(mark, encoding="utf-8")
    own.unlink()


@contextlib.contextmanager
def _on_this_host() -> Iterator[None]:
    """Say on which machine it is what a UserError says, and what its disk or its device does."""
    try:
        with explained("a smaller --batch_size", Quiet()):
            yield
    except UserError as error:
        raise UserError(f"worker on {socket.gethostname()}: {error}") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise UserError(
            f"worker on {socket.gethostname()}: {where}{error.strerror or error}; nothing half-written was left under "
            "a final name"
        ) from error


class _Kept(Quiet):
    """A console that keeps warnings until they are taken to the driver."""

    def __init__(self) -> None:
        self._warnings: list[str] = []

    def warn(self, line: str) -> None:
        self._warnings.append(f"worker on {socket.gethostname()}: {line}")

    def taken(self) -> list[str]:
        taken, self._warnings = self._warnings, []
        return taken
