"""Hash codes for the retrieval of remote-sensing images (MHCLN / MiLaN), as four scripts and as a library.

    import mhcln

    features = mhcln.read_features("dump_dir")
    split = mhcln.stratified_split(features.images.paths, features.images.labels, ratio=0.6, seed=0)
    hasher = mhcln.fit(features, split, mhcln.TrainConfig(bits=32, loss="orthohash", iterations=2000))
    print(mhcln.evaluate(hasher.encode_split(features, split), k=20).metrics["mAP@20"])

The names below are loaded when they are first used; TensorFlow only to train and to extract.
"""

from __future__ import annotations  # no annotation is looked at by a Python that is too old, which `cli` then says

import importlib
from typing import Any

_HOMES = {
    "Hasher": "mhcln.pipeline.hasher",
    "Index": "mhcln.hamming.index",
    "TrainConfig": "mhcln.storage.run_record",
    "UserError": "mhcln.console",
    "equal_images": "mhcln.data.duplicates",
    "evaluate": "mhcln.evaluation.evaluate",
    "fit": "mhcln.pipeline.hasher",
    "pack": "mhcln.hamming.codes",
    "read_features": "mhcln.storage.features",
    "read_rotations": "mhcln.pipeline.rotations",
    "stratified_split": "mhcln.data.splits",
    "unpack": "mhcln.hamming.codes",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:  # noqa: ANN401, of twelve types
    if name not in _HOMES:
        raise AttributeError(f"module 'mhcln' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
