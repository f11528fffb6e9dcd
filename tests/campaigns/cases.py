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
import numpy as np
from mutations import mutated
from PIL import Image
from scripts import flag_seeds, random_flags, read_flags
from structures import assembled_pickle, edited_graph, mutated_json, mutated_member

from mhcln.backbone import decoding
from mhcln.backbone.frozen_graph import GRAPH, GRAPH_ARCHIVE
from mhcln.console import UserError
from mhcln.data import datasets, splits
from mhcln.data.images import load_image
from mhcln.data.published_pickle import read_published
from mhcln.demo.scenes import draw_scene
from mhcln.storage import layout, results, runs, source
from mhcln.storage.coded_images import read_codes, write_codes
from mhcln.storage.features import read_features, read_image_table, write_features
from mhcln.storage.run_record import TrainConfig
from mhcln.storage.split import read_split, write_split


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
    return decoding.decode(load_image(folder / "image.bin", tiff_as_jpeg=True).content)


def array_seeds(folder: Path) -> list[bytes]:
    features = factories.separable_features(3, 4, 5)
    write_features(folder, features)
    write_split(folder / layout.SPLIT, splits.stratified_split(features.images.paths, features.images.labels, 0.5, 0))
    codes = factories.noisy_codes()
    write_codes(folder, codes)
    return [(folder / name).read_bytes() for name in (layout.FEATURES, layout.SPLIT, layout.CODES)]


def read_as_arrays(folder: Path, content: bytes) -> object:
    for name in (layout.FEATURES, layout.SPLIT, layout.CODES):
        (folder / name).write_bytes(content)
    return first_value(
        lambda: read_features(folder),
        lambda: read_image_table(folder),
        lambda: read_split(folder / layout.SPLIT),
        lambda: read_codes(folder),
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
    runs.write_record(folder, factories.record(TrainConfig(bits=8), files={"a": "00"}))
    results.write_results(folder, factories.results())
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
            for name, number in (("run.json", runs.FORMAT), ("results.json", source.FORMAT)):
                source.write_json_content(folder / name, kept, number)
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
        backbone = graphs.opened(folder / name)
        return backbone.features(np.zeros((1, *backbone.scaling.size, 3), np.float32))

    return first_value(lambda: read(GRAPH), lambda: read(GRAPH_ARCHIVE))


KINDS = {
    "flags": Kind(flag_seeds, random_flags, read_flags),
    "images": Kind(image_seeds, mutated, read_as_image),
    "pickles": Kind(pickle_seeds, either(mutated, assembled_pickle), read_as_pickle),
    "graphs": Kind(graph_seeds, changed_graph, read_as_graph),
    "arrays": Kind(array_seeds, either(mutated, mutated_member), read_as_arrays),
    "json": Kind(json_seeds, either(mutated, changed_json, changed_json), read_as_json),
}
