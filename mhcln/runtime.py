"""TensorFlow, started quietly: import it from here, and only where it is needed (it takes seconds).

GPU memory grows with need, so that a shared card stays usable; which cards are seen is left to CUDA_VISIBLE_DEVICES.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _quiet_import() -> None:
    # Some start-up lines are written by C++ before its log level is read: the file descriptor is the only handle.
    kept = os.dup(2)
    silent = os.open(os.devnull, os.O_WRONLY)
    sys.stderr.flush()
    os.dup2(silent, 2)
    try:
        import tensorflow  # noqa: F401, the import itself is the point
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(silent)


_quiet_import()

import keras  # noqa: E402, only after the quiet import
import tensorflow as tf  # noqa: E402, as above

tf.get_logger().setLevel("ERROR")  # a sweep builds a network a run, which TensorFlow takes for retracing
for _gpu in tf.config.list_physical_devices("GPU"):
    tf.config.experimental.set_memory_growth(_gpu, True)

__all__ = ["keras", "tf"]
