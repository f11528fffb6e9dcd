"""What TensorFlow runs on: one NVIDIA card that it can drive, or the processor; and what fails there, in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mhcln.console import Console, UserError
from mhcln.quiet_tensorflow import keras, startup_output, tf

CHOICES = ("auto", "cpu", "gpu")  # of --device
VISIBLE = "CUDA_VISIBLE_DEVICES"  # environment variable of CUDA: which cards a process sees
INSTALL = "pip install 'tensorflow[and-cuda]'"
DRIVER = Path("/proc/driver/nvidia/version")
CARDS = Path("/dev")
TF32_CAPABILITY = (8, 0)  # Ampere is the first generation that has it


@dataclasses.dataclass(frozen=True)
class Device:
    """What the networks run on.

    Attributes:
        name: Name of the card, or "CPU".
        is_gpu: Whether it is a card.
    """

    name: str
    is_gpu: bool = False

    def __str__(self) -> str:
        return self.name if self.is_gpu else f"{self.name}, {threads()} threads"


@dataclasses.dataclass(frozen=True)
class Versions:
    """What computes beside this package; `cuda`, `cudnn` and `driver` are None on a processor.

    Attributes:
        tensorflow: Version of TensorFlow.
        keras: Version of Keras.
        cuda: Version of CUDA that TensorFlow was built for.
        cudnn: Version of cuDNN that TensorFlow was built for.
        driver: Version of NVIDIA's driver.
    """

    tensorflow: str
    keras: str
    cuda: str | None = None
    cudnn: str | None = None
    driver: str | None = None

    def __str__(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in vars(self).items() if value is not None)


def open_device(choice: str, console: Console) -> Device:
    """Choose what TensorFlow runs on, before it computes anything.

    Of several cards one is opened: several processes, each with its own CUDA_VISIBLE_DEVICES, use several. A card is
    told to be deterministic, so that the same seed gives the same bytes on the same device.

    Args:
        choice: "gpu", "cpu", or "auto" for a card if there is one that TensorFlow can drive.
        console: Where it is reported if there is a card that cannot be used.

    Returns:
        The device.

    Raises:
        UserError: `choice` is "gpu" and no card can be used.
    """
    with contextlib.suppress(RuntimeError):  # a notebook has computed already, and has chosen for itself
        cards = tf.config.list_physical_devices("GPU")
        problem = None if choice == "cpu" else _problem(cards)
        if problem and choice == "gpu":
            raise UserError(f"--device=gpu, but {problem}")
        if problem and (cards or has_card()):
            console.warn(f"{problem}; going on with the processor")
        opened = [] if problem or choice == "cpu" else cards[:1]
        tf.config.set_visible_devices(opened, "GPU")
        if opened:
            tf.config.experimental.enable_op_determinism()  # a processor is deterministic without it
    return current_device()


def current_device() -> Device:
    """Return what TensorFlow runs on in this process, whoever chose it."""
    cards = _visible_cards()
    return Device(_name(cards[0]), is_gpu=True) if cards else Device("CPU")


def _visible_cards() -> Sequence[tf.config.PhysicalDevice]:
    found: Sequence[tf.config.PhysicalDevice] = tf.config.get_visible_devices("GPU")
    return found


def uses_gpu() -> bool:
    """Return whether TensorFlow runs on a card."""
    return bool(_visible_cards())


def trains_with_xla(console: Console) -> bool:
    """Return whether the training loop is to be compiled by XLA: on a card if it works there; warns if it does not."""
    if not uses_gpu():
        return False
    failure = _xla_failure()
    if failure:
        console.warn(f"XLA does not work on this card, training goes on without it, more slowly ({failure})")
    return failure is None


def threads() -> int:
    """Return the processor threads that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def has_tf32() -> bool:
    """Return whether TensorFlow runs on a card that has TF32."""
    return any(_capability(card) >= TF32_CAPABILITY for card in _visible_cards()[:1])


def check_precision(precision: str) -> None:
    """Raise UserError if training in this precision needs another device; extraction emulates TF32 where it is not."""
    if precision == "tf32" and not has_tf32():
        raise UserError("--precision=tf32 trains on NVIDIA cards since Ampere only; take float32, which is more exact")


def versions(device: Device) -> Versions:
    """Return the versions of what computes on `device`."""
    if not device.is_gpu:
        return Versions(tf.__version__, keras.__version__)
    build = tf.sysconfig.get_build_info()
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\S+)", DRIVER.read_text()) if DRIVER.is_file() else None
    driver = found[1] if found else None
    return Versions(tf.__version__, keras.__version__, build.get("cuda_version"), build.get("cudnn_version"), driver)


def has_card() -> bool:
    """Return whether this machine has an NVIDIA card that is not hidden by CUDA_VISIBLE_DEVICES."""
    return VISIBLE not in os.environ and any(CARDS.glob("nvidia[0-9]*"))


def is_supported(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Return whether a card can run what TensorFlow was built for.

    Machine code runs on cards of the same major version from its own minor version on. Newer majors would need
    TensorFlow's intermediate code to be compiled by the driver, where XLA ends the process.

    Args:
        capability: Compute capability of the card, such as (8, 6).
        built_for: What TensorFlow was built for, such as ["sm_80", "compute_90"].
    """
    built = (divmod(int(name.rpartition("_")[2].rstrip("af")), 10) for name in built_for)
    return any(major == capability[0] and minor <= capability[1] for major, minor in built)


def _problem(cards: Sequence[tf.config.PhysicalDevice]) -> str | None:
    """Return why no card can be used, None if the first can."""
    build = tf.sysconfig.get_build_info()
    if not cards:
        if not has_card():
            return "there is no NVIDIA card here"
        if not build.get("is_cuda_build"):
            return f"this TensorFlow is built without CUDA; install it with {INSTALL}"
        return f"TensorFlow cannot use the NVIDIA card of this machine ({_why_no_card()}); try {INSTALL}"
    capability, built_for = _capability(cards[0]), build.get("cuda_compute_capabilities", [])
    if built_for and not is_supported(capability, built_for):
        return (
            f"{_name(cards[0])} has compute capability {capability[0]}.{capability[1]}, which TensorFlow "
            f"{tf.__version__} is not built for ({', '.join(built_for)})"
        )
    return None


def _name(card: tf.config.PhysicalDevice) -> str:
    return str(tf.config.experimental.get_device_details(card).get("device_name", "GPU"))


def _capability(card: tf.config.PhysicalDevice) -> tuple[int, int]:
    major, minor = tf.config.experimental.get_device_details(card).get("compute_capability", (0, 0))
    return major, minor


def _why_no_card() -> str:
    """Return what TensorFlow says when it looks for cards, which it says only to those who ask for its whole log."""
    look = "import tensorflow; tensorflow.config.list_physical_devices('GPU')"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
    command = [sys.executable, "-c", look]
    try:
        log = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False).stderr
    except subprocess.TimeoutExpired:
        return "it does not answer"
    return reason_in_log(log)


def reason_in_log(log: str) -> str:
    """Return the line of TensorFlow's log that says why it uses no card."""
    lines = [(level, text) for level, text in _log_lines(log) if re.search("cuda|gpu|cudnn|libdevice", text, re.I)]
    worst = sorted(lines, key=lambda line: "EWI".index(line[0]))  # stable: the first of the worst
    return worst[0][1] if worst else "it does not say why"


def _log_lines(log: str) -> list[tuple[str, str]]:
    """Return level ("I", "W" or "E") and text of each line of TensorFlow's log."""
    return re.findall(r"^([IWE])\d{4} .*?\] (.*)$", log, re.MULTILINE)


@functools.cache
def _xla_failure() -> str | None:
    """Compile a function that needs what the training loop needs; return what is wrong, None if it works."""
    try:
        tf.function(tf.pow, jit_compile=True)(tf.constant(2.0), tf.constant(0.5))
    except tf.errors.OpError as error:
        return _first_line(error)
    return None


@contextlib.contextmanager
def explained(advice: str, console: Console) -> Iterator[None]:
    """Turn what a device can do to the work within the block into one line.

    Args:
        advice: What needs less memory, such as "a smaller --batch_size".
        console: Where it is shown what TensorFlow complained of when it was loaded, if a card fails.

    Raises:
        UserError: The device has no memory left, or a card failed.
    """
    try:
        yield
    except UserError:  # is one line already, and needs no TensorFlow
        raise
    except tf.errors.ResourceExhaustedError as error:
        raise UserError(f"the device has no memory left ({_first_line(error)}); take {advice}") from error
    except tf.errors.OpError as error:
        if not uses_gpu():
            raise  # a processor does not fail: this is a fault of ours
        for complaint in [text for level, text in _log_lines(startup_output()) if level != "I"]:
            console.warn(f"TensorFlow, when it was loaded: {complaint}")
        raise UserError(
            f"the GPU failed ({_first_line(error)}); check its driver, CUDA and cuDNN ({INSTALL}), or go on with "
            "--device=cpu"
        ) from error


def _first_line(error: tf.errors.OpError) -> str:
    return next(iter(error.message.strip().splitlines()), type(error).__name__)


@contextlib.contextmanager
def tf32(wanted: bool) -> Iterator[None]:
    """Let a card compute the convolutions and products within the block in TF32, if `wanted`."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(wanted)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
