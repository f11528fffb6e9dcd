"""Every kind of file that the scripts read, small, and its reader; and the flags of the scripts."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pickle
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import factories
import graphs
import h5py
import numpy as np
from mutations import mutated
from PIL import Image
from scripts import flag_seeds, random_flags, read_flags
from structures import assembled_pickle, edited_graph, mutated_json, mutated_member

from mhcln.backbone import decoding
from mhcln.backbone.backbone import open_backbone
from mhcln.backbone.graph_file import ARCHIVE, GRAPH
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import Quiet, UserError
from mhcln.data import datasets, splits
from mhcln.data.images import read_image
from mhcln.data.published_pickle import read_published
from mhcln.demo.scenes import draw_scene
from mhcln.storage import formats, keras_file, layout, results, runs, source
from mhcln.storage.features import read_features, read_image_table, write_features
from mhcln.storage.keras_file import Shapes
from mhcln.storage.run_record import TrainConfig
from mhcln.training.network_file import read_network
from mhcln.training.networks import orthohash_network, published_network


class Kind(NamedTuple):
    """One kind of input.

    Attributes:
        seeds: Makes good inputs in a folder.
        change: Makes a bad one of a good one and another.
        read: Reads the bad one, which lies in the folder, as the scripts do.
    """

    seeds: Callable[[Path], list[bytes]]
    change: Callable[[random.Random, bytes, bytes], bytes]
    read: Callable[[Path, bytes], object]


def either(*changes):
    return lambda rng, data, other: rng.choice(changes)(rng, data, other)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def image_seeds(_folder: Path) -> list[bytes]:
    scene = draw_scene("harbor", 1).resize((40, 30))
    grey, palette, frames = scene.convert("L"), scene.quantize(16), [scene, scene.rotate(90)]
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256)
    return [
        *(encoded(scene, "JPEG"), encoded(scene, "JPEG", progressive=True), encoded(grey, "JPEG", quality=100)),
        *(encoded(scene, "PNG"), encoded(palette, "PNG"), encoded(deep, "PNG"), encoded(scene.convert("RGBA"), "PNG")),
        *(encoded(scene, "TIFF"), encoded(deep, "TIFF"), encoded(Image.fromarray(np.asarray(grey) / 255), "TIFF")),
        *(encoded(scene, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        encoded(scene.convert("1"), "TIFF", compression="group4"),
        *(encoded(scene, "BMP"), encoded(palette, "BMP"), encoded(palette, "GIF")),
        encoded(scene, "GIF", save_all=True, append_images=frames),
        *(encoded(scene, "WEBP"), encoded(scene, "WEBP", lossless=True)),
        encoded(scene, "WEBP", save_all=True, append_images=frames),
    ]


def read_as_image(folder: Path, content: bytes) -> object:
    (folder / "image.bin").write_bytes(content)
    return decoding.decode(folder / "image.bin", read_image(folder / "image.bin", tiff_as_jpeg=True))


def array_seeds(folder: Path) -> list[bytes]:
    features = factories.separable_features(3, 4, 5)
    write_features(folder, features)
    formats.write_split(
        folder / layout.SPLIT, splits.stratified_split(features.images.paths, features.images.labels, 0.5, 0)
    )
    codes = factories.noisy_codes()
    formats.write_codes(folder, codes)
    return [(folder / name).read_bytes() for name in (layout.FEATURES, layout.SPLIT, layout.CODES)]


def read_as_arrays(folder: Path, content: bytes) -> object:
    for name in (layout.FEATURES, layout.SPLIT, layout.CODES):
        (folder / name).write_bytes(content)
    return first_value(
        lambda: read_features(folder),
        lambda: read_image_table(folder),
        lambda: formats.read_split(folder / layout.SPLIT),
        lambda: formats.read_codes(folder),
    )


def first_value(*reads: Callable[[], object]) -> object:
    """Return what the first reader that takes the file returns, after all were tried; raises UserError if none does."""
    values, error = [], None
    for read in reads:
        try:
            values.append(read())
        except UserError as refused:  # noqa: PERF203, some of a few files are refused
            error = refused
    if not values and error is not None:
        raise error
    return values


def json_seeds(folder: Path) -> list[bytes]:
    config = TrainConfig(bits=8)
    source.write_json_content(folder / "run.json", factories.record(config, files={"a": "00"}).to_json())
    source.write_json_content(folder / "results.json", factories.results().to_json())
    return [(folder / name).read_bytes() for name in ("run.json", "results.json")] + [
        (datasets.REPO_ROOT / name / "dataset.json").read_bytes() for name in ("UCMD", "AID")
    ]


def changed_json(rng: random.Random, data: bytes, _other: bytes) -> bytes:
    return json.dumps(mutated_json(rng, json.loads(data))).encode("utf-8", "surrogatepass")


def read_as_json(folder: Path, content: bytes) -> object:
    for name in ("run.json", "results.json", "dataset.json"):
        (folder / name).write_bytes(content)
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(content)
        if isinstance(value, dict):  # with the checksum of what it holds now
            kept = {key: inner for key, inner in value.items() if key not in ("checksum", "format")}
            for name in ("run.json", "results.json"):
                source.write_json_content(folder / name, kept)
    return first_value(
        lambda: runs.read_record(folder),
        lambda: results.read_results(folder),
        lambda: datasets.read_dataset(folder / "dataset.json"),
    )


def pickle_seeds(_folder: Path) -> list[bytes]:
    vectors = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    rows = [[vectors[row], row // 2, f"/home/me/Images/{'ab'[row // 2]}/{row}.tif"] for row in range(4)]
    wide = [[vector.astype(np.float64), label, path] for vector, label, path in rows]
    return [pickle.dumps(content, protocol) for content in (rows, wide) for protocol in range(6)]


def read_as_pickle(folder: Path, content: bytes) -> object:
    (folder / "features.pkl").write_bytes(content)
    return read_published(folder / "features.pkl")


def graph_seeds(_folder: Path) -> list[bytes]:
    plain = [graphs.small_graph(seed).SerializeToString() for seed in range(2)]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo(GRAPH)
        info.size = len(plain[0])
        archive.addfile(info, io.BytesIO(plain[0]))
    return [*plain, gzip.compress(plain[0]), gzip.compress(stream.getvalue())]


def changed_graph(rng: random.Random, data: bytes, other: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        return (
            gzip.compress(mutated(rng, gzip.decompress(data), other), 1)
            if rng.random() < 0.5
            else mutated(rng, data, other)
        )
    return edited_graph(rng, data) if rng.random() < 0.8 else mutated(rng, data, other)


def read_as_graph(folder: Path, content: bytes) -> object:
    def read(name: str) -> object:
        (folder / name).write_bytes(content)
        backbone = open_backbone(BackboneOptions(folder / name), Quiet())
        return backbone.features(np.zeros((1, *backbone.scaling.size, 3), np.float32))

    return first_value(lambda: read(GRAPH), lambda: read(ARCHIVE))


def keras_seeds(folder: Path) -> list[bytes]:
    path = folder / "model.keras"
    contents = []
    for network in (published_network(6, 4, seed=0), orthohash_network(6, 4, seed=0)[0]):
        network.save(path)
        contents.append(path.read_bytes())
    return contents


def read_as_keras(folder: Path, content: bytes) -> object:
    (folder / "model.keras").write_bytes(content)
    network = read_network(folder / "model.keras")
    return network(np.zeros((1, network.input_shape[1]), np.float32)).numpy()


HDF5_LAYERS = [
    Shapes("Conv2D", [(1, 1, 3, 4)]),
    Shapes("BatchNormalization", [(4,)] * 3),
    Shapes("Dense", [(4, 2), (2,)]),
]


def hdf5_seeds(folder: Path) -> list[bytes]:
    """The two formats of Keras, in the oldest and the newest version of HDF5."""
    names = ["conv2d", "batch_normalization", "dense"]
    contents = []
    for version in ("earliest", "latest"):
        for legacy in (False, True):
            path = folder / "weights.h5"
            with h5py.File(path, "w", libver=version) as file:
                for name, layer in zip(names, HDF5_LAYERS, strict=True):
                    group = file.create_group(name if legacy else f"layers/{name}/vars")
                    for place, shape in enumerate(layer.shapes):
                        group[str(place)] = np.ones(shape, np.float32)
                    if legacy:
                        group.attrs["weight_names"] = np.array([b"0", b"1", b"2"][: len(layer.shapes)])
                if legacy:
                    file.attrs["layer_names"] = np.array([name.encode() for name in names])
            contents.append(path.read_bytes())
    return contents


def read_as_hdf5(folder: Path, content: bytes) -> object:
    (folder / "weights.h5").write_bytes(content)
    return user_error(lambda: keras_file.read_weights(folder / "weights.h5", HDF5_LAYERS))


def user_error(read: Callable[[], object]) -> object:
    """Call a reader whose ValueErrors its callers turn into the user's."""
    try:
        return read()
    except ValueError as error:
        raise UserError(" ".join(str(error).split())) from error


KINDS = {
    "flags": Kind(flag_seeds, random_flags, read_flags),
    "images": Kind(image_seeds, mutated, read_as_image),
    "pickles": Kind(pickle_seeds, either(mutated, assembled_pickle), read_as_pickle),
    "hdf5": Kind(hdf5_seeds, mutated, read_as_hdf5),
    "keras": Kind(keras_seeds, either(mutated, mutated_member, mutated_member), read_as_keras),
    "graphs": Kind(graph_seeds, changed_graph, read_as_graph),
    "arrays": Kind(array_seeds, either(mutated, mutated_member), read_as_arrays),
    "json": Kind(json_seeds, either(mutated, changed_json, changed_json), read_as_json),
}
