"""TensorFlow and Keras, loaded quietly when they are first used: `from mhcln.quiet_tensorflow import keras, tf`.

Loading takes seconds, so importing a module that uses TensorFlow must not load it: `--help`, a mistyped flag and an
evaluation would wait for it. GPU memory grows with need, so that a shared card stays usable; which cards are used is
left to CUDA_VISIBLE_DEVICES.
"""

import contextlib
import functools
import importlib
import os
import sys
import threading
import types
from typing import TYPE_CHECKING

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
    """Load both modules at the first call."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # C++ writes some lines before it reads its log level: the file descriptor is the only way to silence them.
    stderr, silence = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    sys.stderr.flush()
    os.dup2(silence, 2)
    try:
        tensorflow = importlib.import_module("tensorflow")
        importlib.import_module("keras")
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(silence)
    tensorflow.get_logger().setLevel("ERROR")  # a sweep builds one network a run, which it reports as retracing
    for gpu in tensorflow.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # a notebook uses the GPU already, and has chosen for itself
            tensorflow.config.experimental.set_memory_growth(gpu, True)


if TYPE_CHECKING:
    import keras
    import tensorflow as tf
else:
    keras, tf = _Lazy("keras"), _Lazy("tensorflow")

__all__ = ["keras", "tf"]
