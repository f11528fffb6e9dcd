"""TensorFlow and Keras, loaded quietly when they are first used: `from mhcln.quiet_tensorflow import keras, tf`.

Loading takes seconds, so importing a module that uses TensorFlow must not load it: `--help`, a mistyped flag and an
evaluation would wait for it. `mhcln.device` chooses what TensorFlow runs on.
"""

import contextlib
import functools
import importlib
import os
import signal
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mhcln.console import UserError

BACKEND = "tensorflow"
EPSILON = 1e-7  # keras/src/backend/config.py
_LOCK = threading.RLock()


class _Lazy(types.ModuleType):
    """A module that is imported when one of its attributes is first used."""

    def __getattr__(self, name: str) -> object:
        with _LOCK:
            _load()
        value = getattr(sys.modules[self.__name__], name)
        setattr(self, name, value)  # found without a call from now on
        return value


def startup_output() -> str:
    """Return what TensorFlow wrote to stderr while it was loaded, for the case that something fails later."""
    with _LOCK:
        return _load()


@functools.cache
def _load() -> str:
    """Load both modules at the first call; return what they wrote to stderr."""
    os.environ["KERAS_BACKEND"] = BACKEND  # goes before what keras.json says
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only, since a failing card is explained by them
    if onednn_pays(_processor_features()):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with _stderr_held_back() as written:
        tensorflow = _load_both()
        gpus = tensorflow.config.list_physical_devices("GPU")
    tensorflow.get_logger().setLevel("ERROR")  # a sweep builds one network a run, which it reports as retracing
    # On by default on NVIDIA cards since Ampere, it keeps 10 of the 23 bits of what convolutions and products read.
    tensorflow.config.experimental.enable_tensor_float_32_execution(False)
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):  # a notebook uses the GPU already, and has chosen for itself
            tensorflow.config.experimental.set_memory_growth(gpu, True)  # a shared card stays usable
    return "".join(written)


def _load_both() -> types.ModuleType:
    """Load TensorFlow and Keras, with the settings that the networks here are written for; return TensorFlow.

    Both read the user's keras.json when they are loaded, and end at values that they do not know.
    """
    try:
        tensorflow, keras = importlib.import_module("tensorflow"), importlib.import_module("keras")
    except AssertionError:
        where = os.environ.get("KERAS_HOME") or "~/.keras"
        raise UserError(f"{where}/keras.json has a value that Keras does not take; correct or delete it") from None
    if keras.config.backend() != BACKEND:
        raise UserError(f"Keras runs on {keras.config.backend()} here; import mhcln before Keras, or set KERAS_BACKEND")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(EPSILON)
    keras.config.set_image_data_format("channels_last")
    return tensorflow


def onednn_pays(features: frozenset[str]) -> bool:
    """Return whether TensorFlow's oneDNN kernels should be switched on for a processor with these features.

    TensorFlow does so by itself only if there is AVX-512 VNNI or newer. With AVX2 alone the float32 network is 1.2 to
    1.3 times as fast with them, and features move by about 1e-6. (Measured with ONEDNN_MAX_CPU_ISA=AVX2 on a newer
    processor, where TensorFlow then fails at bfloat16, since it sees that the processor has it; no processor with AVX2
    alone was tried.)
    """
    return {"avx2", "fma"} <= features


def _processor_features() -> frozenset[str]:
    """Return the features that Linux lists for the first processor; none on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split()) for line in lines if line.startswith("flags")), frozenset())


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[list[str]]:
    """Hold back what is written to stderr within the block; show it if the block fails.

    C++ writes some lines before it reads its log level: the file descriptor is the only way to hold them back.

    Yields:
        A list, to which the text is added at the end of the block.
    """
    written: list[str] = []
    sys.stderr.flush()
    with tempfile.TemporaryFile() as buffer, _shown_if_the_process_dies(buffer):
        stderr = os.dup(2)
        os.dup2(buffer.fileno(), 2)
        failed = True
        try:
            yield written
            failed = False
        except UserError:  # says all that there is to say
            failed = False
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            buffer.seek(0)
            written.append(buffer.read().decode(errors="replace"))
            if failed:
                sys.stderr.write(written[0])


@contextlib.contextmanager
def _shown_if_the_process_dies(buffer: IO[bytes]) -> Iterator[None]:
    """Write `buffer` to stderr if the process dies within the block.

    Without AVX, for example, TensorFlow aborts when it is loaded, and no code of this process runs any more. So a copy
    of the process waits for the end of the block.
    """
    stays_open, closes_at_death = os.pipe()
    with warnings.catch_warnings():
        # Python warns of threads, those of NumPy among them; the copy calls nothing that could wait for one
        warnings.simplefilter("ignore", DeprecationWarning)
        watcher = os.fork()
    if watcher == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.close(closes_at_death)
            if os.read(stays_open, 1) == b"":
                os.write(2, os.pread(buffer.fileno(), os.fstat(buffer.fileno()).st_size, 0))
        finally:
            os._exit(0)
    os.close(stays_open)
    try:
        yield
    finally:
        os.write(closes_at_death, b".")
        os.close(closes_at_death)
        os.waitpid(watcher, 0)


if TYPE_CHECKING:
    import keras
    import tensorflow as tf
else:
    keras, tf = _Lazy("keras"), _Lazy("tensorflow")

__all__ = ["keras", "startup_output", "tf"]
