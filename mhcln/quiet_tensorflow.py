"""TensorFlow and Keras, loaded quietly when they are first used: `from mhcln.quiet_tensorflow import keras, tf`.

Loading takes seconds, so importing a module that uses TensorFlow must not load it: `--help`, a mistyped flag and an
evaluation would wait for it. `mhcln.device` chooses the device.
"""

import contextlib
import functools
import importlib
import os
import sys
import tempfile
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mhcln.console import UserError

BACKEND = "tensorflow"
EPSILON = 1e-7  # keras/src/backend/config.py
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # environment variable: 0 shows all that TensorFlow logs
_LOCK = threading.RLock()


class _Lazy(types.ModuleType):
    """A module that is imported when one of its attributes is first used."""

    def __getattr__(self, name: str) -> object:
        with _LOCK:
            _load()
        value = getattr(sys.modules[self.__name__], name)
        setattr(self, name, value)  # found without a call from now on
        return value


@functools.cache
def _load() -> None:
    """Load both modules at the first call, with the settings that the networks here are written for."""
    os.environ["KERAS_BACKEND"] = BACKEND  # overrides the backend in keras.json
    if _has_avx2():
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    quiet = os.environ.setdefault(LOG_LEVEL, "2") != "0"  # 2 logs errors only
    with _stderr_captured() if quiet else contextlib.nullcontext():
        tensorflow, keras = _import_both()
        gpus = tensorflow.config.list_physical_devices("GPU")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(EPSILON)
    keras.config.set_image_data_format("channels_last")
    tensorflow.get_logger().setLevel("ERROR")  # a sweep builds one network a run, which it reports as retracing
    # On by default on NVIDIA cards since Ampere, it keeps 10 of the 23 bits of the inputs of convolutions and products.
    tensorflow.config.experimental.enable_tensor_float_32_execution(False)
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):  # a notebook uses the GPU already, and has chosen for itself
            tensorflow.config.experimental.set_memory_growth(gpu, True)  # a shared card stays usable


def _import_both() -> tuple[types.ModuleType, types.ModuleType]:
    try:
        tensorflow, keras = importlib.import_module("tensorflow"), importlib.import_module("keras")
    except AssertionError:  # both read keras.json, and end at a value that they do not know
        where = os.environ.get("KERAS_HOME") or "~/.keras"
        raise UserError(f"{where}/keras.json has a value that Keras does not take; correct or delete it") from None
    if keras.config.backend() != BACKEND:
        raise UserError(f"Keras runs on {keras.config.backend()} here; import mhcln before Keras, or set KERAS_BACKEND")
    return tensorflow, keras


def _has_avx2() -> bool:
    """Return whether the processor has AVX2, with which the float32 network is faster through TensorFlow's oneDNN.

    TensorFlow uses oneDNN by itself only if there is AVX-512 VNNI or newer. With AVX2 alone the network is 1.2 to 1.3
    times as fast with it, and features move by about 1e-6 (measured with ONEDNN_MAX_CPU_ISA=AVX2 on a newer processor).
    """
    try:
        return " avx2 " in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return False


@contextlib.contextmanager
def _stderr_captured() -> Iterator[None]:
    """Capture stderr within the block; show it if the block fails.

    C++ writes some lines before it reads its log level: only the file descriptor can capture them.
    """
    with tempfile.TemporaryFile() as written:
        stderr = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        except UserError:  # explains itself
            raise
        except BaseException:
            written.seek(0)
            os.write(stderr, written.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


if TYPE_CHECKING:
    import keras
    import tensorflow as tf
else:
    keras, tf = _Lazy("keras"), _Lazy("tensorflow")

__all__ = ["keras", "tf"]
