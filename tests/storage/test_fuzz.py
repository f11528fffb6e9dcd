"""Random changes of the bytes of every kind of file: nothing else is read without a word, nothing ends in a traceback.

MHCLN_FUZZ says how many inputs each reader gets; the default keeps the test short.
"""

import os
import pickle

import numpy as np
import pytest
from conftest import REPO_ROOT
from dump_files import READERS, plain, write_dump
from graphs import small_graph
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mhcln.backbone.frozen_graph import read_graph
from mhcln.console import UserError
from mhcln.data import datasets
from mhcln.data.published_pickle import read_published
from mhcln.data.split_lists import split_from_lists
from mhcln.storage.features import read_features

EXAMPLES = int(os.environ.get("MHCLN_FUZZ", "60"))
fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    write_dump(folder)
    (folder / "test.txt").write_text("b/2.jpg 1\n", encoding="utf-8")
    return folder


@st.composite
def mutated(draw, whole: bytes) -> bytes:
    """The bytes of a file with a few of them changed, removed, repeated or put elsewhere."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        end = min(len(data), start + draw(st.integers(1, 64)))
        change = draw(st.sampled_from(("flip", "cut", "repeat", "noise", "zero")))
        if change == "flip":
            data[start:end] = bytes(byte ^ draw(st.integers(1, 255)) for byte in data[start : start + 1])
        elif change == "cut":
            del data[start:end]
        elif change == "repeat":
            data[end:end] = data[start:end]
        elif change == "noise":
            data[start:end] = draw(st.binary(max_size=64))
        else:
            data[start:end] = bytes(end - start)
    return bytes(data)


def value_or_line(read, path) -> object:
    """What is read, None if the file is refused, which takes one line that names it."""
    try:
        return read(path)
    except UserError as error:
        assert path.name in str(error)
        assert "\n" not in str(error)
        return None


@pytest.mark.parametrize("name", READERS)
@fuzz
@given(st.data())
def test_changed_files_of_a_dump_folder_are_read_as_they_were_or_refused(dump, name, data):
    path, read = dump / name, READERS[name].read
    whole, right = path.read_bytes(), plain(read(dump))
    path.write_bytes(data.draw(mutated(whole)))
    try:
        assert value_or_line(lambda _: plain(read(dump)), path) in (None, right)
    finally:
        path.write_bytes(whole)


def of_other_programs(path, name: str) -> bytes:
    """The content of a file that people or other programs write, and that carries no checksum."""
    if name == "mine.npz":
        texts = {"class_names": ["a"], "dataset": "x", "images_dir": "/i", "extractor": "x"}
        np.savez_compressed(path, features=np.ones((2, 3)), labels=[0, 0], paths=["a/1", "a/2"], format=1, **texts)
        return path.read_bytes()
    rows = [[np.ones(3, np.float32), label, f"/i/{label}/x.tif"] for label in (0, 1)]
    return {
        "dataset.json": (REPO_ROOT / "AID/dataset.json").read_bytes(),
        "train.txt": b"a/1.jpg 0\nb/2.jpg 1\n",
        "features.pkl": pickle.dumps(rows, 2),
        "classify_image_graph_def.pb": small_graph().SerializeToString(),
    }[name]


OTHERS = {
    "mine.npz": read_features,
    "dataset.json": datasets.read_dataset,
    "train.txt": lambda path: split_from_lists(path.parent, ["a/1.jpg", "b/2.jpg"], np.array([0, 1])),
    "features.pkl": read_published,
    "classify_image_graph_def.pb": lambda path: read_graph(path),
}


@pytest.mark.parametrize("name", OTHERS)
@fuzz
@given(st.data())
def test_changed_files_of_other_programs_are_a_value_or_a_line(dump, name, data):
    path = dump / name
    if not path.exists():
        (dump / f"{name}.whole").write_bytes(of_other_programs(path, name))
    path.write_bytes(data.draw(mutated((dump / f"{name}.whole").read_bytes())))
    value_or_line(OTHERS[name], path)
