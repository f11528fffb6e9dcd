"""The device of TensorFlow, one NVIDIA card or the processor; a failure of it becomes one line."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mhcln.console import Console, UserError
from mhcln.quiet_tensorflow import LOG_LEVEL, keras, tf

CHOICES = ("auto", "cpu", "gpu")  # of --device
VISIBLE = "CUDA_VISIBLE_DEVICES"  # environment variable of CUDA: which cards a process sees
INSTALL = "pip install 'tensorflow[and-cuda]'"
DRIVER = Path("/proc/driver/nvidia/version")
CARDS = Path("/dev")
TF32_CAPABILITY = (8, 0)  # Ampere is the first generation that has it


def open_device(choice: str, console: Console) -> str:
    """Choose the device of TensorFlow, before it computes anything.

    Of several cards one is opened: several processes, each with its own CUDA_VISIBLE_DEVICES, use several. On a card,
    deterministic kernels are chosen, so that the same seed gives the same bytes on the same device.

    Args:
        choice: "gpu", "cpu", or "auto" for a card if there is one that TensorFlow can use.
        console: Where a card that cannot be used is reported.

    Returns:
        Name of the card, or "CPU" with the number of threads, to be shown.
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
    return device_name() if uses_gpu() else f"{device_name()}, {threads()} threads"


def device_name() -> str:
    """Return the name of the card that TensorFlow runs on, or "CPU", whoever chose it."""
    return next(map(_name, _visible_cards()), "CPU")


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
    try:  # a function that needs the same of XLA as the training loop
        tf.function(tf.pow, jit_compile=True)(tf.constant(2.0), tf.constant(0.5))
    except tf.errors.OpError as error:
        console.warn(f"XLA does not work on this card, training goes on without it, more slowly ({_first_line(error)})")
        return False
    return True


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


def versions() -> dict[str, Any]:
    """Return the versions of TensorFlow and Keras; on a card, also of the CUDA and cuDNN in it, and of the driver."""
    found = {"tensorflow": tf.__version__, "keras": keras.__version__}
    if uses_gpu():
        build = tf.sysconfig.get_build_info()
        driver = re.search(r"Kernel Module(?: for \S+)?\s+(\S+)", DRIVER.read_text()) if DRIVER.is_file() else None
        found["cuda"], found["cudnn"] = build.get("cuda_version"), build.get("cudnn_version")
        found["driver"] = driver[1] if driver else None
    return {name: version for name, version in found.items() if version is not None}


def has_card() -> bool:
    """Return whether this machine has an NVIDIA card that is not hidden by CUDA_VISIBLE_DEVICES."""
    return VISIBLE not in os.environ and any(CARDS.glob("nvidia[0-9]*"))


def _problem(cards: Sequence[tf.config.PhysicalDevice]) -> str | None:
    """Return why no card can be used, None if the first can."""
    if not cards and not has_card():
        return "there is no NVIDIA card here"
    if not cards:
        return f"TensorFlow cannot use the NVIDIA card of this machine; try {INSTALL}, or see why with {LOG_LEVEL}=0"
    major, minor = _capability(cards[0])
    built_for = tf.sysconfig.get_build_info().get("cuda_compute_capabilities", [])  # such as "sm_80", "compute_90"
    built = [divmod(int(name.rpartition("_")[2].rstrip("af")), 10) for name in built_for]
    # Machine code runs on cards of the same major version from its minor version on. For newer ones the driver would
    # have to compile intermediate code, where XLA ends the process.
    if not built or any(each[0] == major and each[1] <= minor for each in built):
        return None
    return (
        f"{_name(cards[0])} has compute capability {major}.{minor}, which TensorFlow {tf.__version__} is not built for "
        f"({', '.join(built_for)}); try a newer one, {INSTALL}"
    )


def _name(card: tf.config.PhysicalDevice) -> str:
    return str(tf.config.experimental.get_device_details(card).get("device_name", "GPU"))


def _capability(card: tf.config.PhysicalDevice) -> tuple[int, int]:
    major, minor = tf.config.experimental.get_device_details(card).get("compute_capability", (0, 0))
    return major, minor


@contextlib.contextmanager
def explained(advice: str) -> Iterator[None]:
    """Turn a failure of the device within the block into one line.

    Args:
        advice: A setting that needs less memory, such as "a smaller --batch_size".
    """
    try:
        yield
    except Exception as error:
        if "tensorflow" not in sys.modules or not isinstance(error, tf.errors.OpError):
            raise
        if isinstance(error, tf.errors.ResourceExhaustedError):
            raise UserError(f"the device has no memory left ({_first_line(error)}); take {advice}") from error
        if not uses_gpu():
            raise  # a processor does not fail: it is an error of this software
        raise UserError(
            f"the GPU failed ({_first_line(error)}); check its driver, CUDA and cuDNN ({INSTALL}; {LOG_LEVEL}=0 shows "
            "messages of TensorFlow), or go on with --device=cpu"
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
