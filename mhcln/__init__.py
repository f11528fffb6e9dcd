"""Hash codes for the retrieval of remote-sensing images (MHCLN / MiLaN), as four scripts and as a library.

    import mhcln

    features = mhcln.read_features("dump_dir")
    split = mhcln.stratified_split(features.images.paths, features.images.labels, ratio=0.6, seed=0)
    hasher = mhcln.fit(features, split, mhcln.TrainConfig(bits=32, loss="orthohash", iterations=2000))
    print(mhcln.evaluate(hasher.encode_split(features, split), k=20).metrics["mAP@20"])

The names below are loaded when they are first used; TensorFlow only when something is trained or described.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mhcln.console import UserError as UserError
    from mhcln.data.duplicates import equal_images as equal_images
    from mhcln.data.splits import stratified_split as stratified_split
    from mhcln.evaluation.evaluate import evaluate as evaluate
    from mhcln.hamming.codes import pack as pack
    from mhcln.hamming.codes import unpack as unpack
    from mhcln.hamming.index import Index as Index
    from mhcln.pipeline.hasher import Hasher as Hasher
    from mhcln.pipeline.hasher import fit as fit
    from mhcln.pipeline.views import read_views as read_views
    from mhcln.storage.features import read_features as read_features
    from mhcln.storage.run_record import TrainConfig as TrainConfig

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
    "read_views": "mhcln.pipeline.views",
    "stratified_split": "mhcln.data.splits",
    "unpack": "mhcln.hamming.codes",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'mhcln' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
