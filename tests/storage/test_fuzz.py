"""Any bytes, and any well-formed content that makes no sense, end as a value or as one line, never as a traceback.

MHCLN_FUZZ says how many inputs each reader gets; the default keeps the test short. Pickles have a test of their own.
"""

import json
import os
import string

import factories
import numpy as np
import pytest
from graphs import small_graph
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mhcln.backbone.frozen_graph import read_graph
from mhcln.backbone.graph_file import GraphFile
from mhcln.console import UserError
from mhcln.data import datasets
from mhcln.data.split_lists import split_from_lists
from mhcln.storage import files, formats, results, runs, text_files
from mhcln.storage.features import read_features

EXAMPLES = int(os.environ.get("MHCLN_FUZZ", "60"))
fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


def json_of(numbers: st.SearchStrategy) -> st.SearchStrategy:
    return st.recursive(
        st.none() | st.booleans() | st.integers() | numbers | TEXT,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
        max_leaves=12,
    )


JSON, FINITE = json_of(st.floats()), json_of(st.floats(allow_nan=False, allow_infinity=False))
ARRAY = arrays.arrays(
    st.sampled_from([np.dtype(kind) for kind in ("f4", "f8", "i4", "i8", "u1", "U3", "S2", "?", "c8", "M8[s]")]),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def value_or_line(read, *arguments) -> bool:
    """Whether a reader returns a value; if not, it must raise UserError with one printable line."""
    try:
        read(*arguments)
    except UserError as error:
        assert str(error).strip()
        assert len(str(error)) < 2000
        return False
    return True


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


VALID = {
    "features.npz": {
        "features": np.ones((2, 3), np.float32),
        **vars(factories.image_table(["a/1", "b/2"], [0, 1], ["a", "b"])),
    },
    "split.npz": vars(formats.Split(["a/1"], ["b/2"], 0.5, 0, "lists", ["c/3"], ["d/4"])),
    "codes.npz": {**vars(factories.noisy_codes()), "database_paths": ["beach/06.png"]},
    "added.npz": vars(
        formats.Addition(
            np.ones((2, 1), np.uint8), 8, np.array([-1, -1]), ["a", "b"], np.array([], "U1"), "/i", "x", "0"
        )
    ),
}
READERS = {
    "features.npz": read_features,
    "split.npz": lambda folder: formats.read_split(folder / "split.npz"),
    "codes.npz": formats.read_codes,
    "added.npz": lambda folder: formats.read_addition(folder / "added.npz"),
}


@pytest.mark.parametrize("name", VALID)
@fuzz
@given(st.data())
def test_damaged_npz_files_are_a_value_or_a_line(folder, name, data):
    files.write_npz(folder / name, {**VALID[name], "format": 1})
    assert value_or_line(READERS[name], folder)
    (folder / name).write_bytes(data.draw(mutated((folder / name).read_bytes())))
    value_or_line(READERS[name], folder)


@pytest.mark.parametrize("name", VALID)
@fuzz
@given(st.data())
def test_npz_files_of_other_content_are_a_value_or_a_line(folder, name, data):
    content = {**VALID[name], "format": 1}
    for key in data.draw(st.lists(st.sampled_from(sorted(content)), min_size=1, unique=True)):
        content[key] = data.draw(ARRAY)
    files.write_npz(folder / name, content)
    value_or_line(READERS[name], folder)


AID = (datasets.REPO_ROOT / "AID" / "dataset.json").read_bytes()


@fuzz
@given(st.one_of(JSON.map(json.dumps), st.text(string.printable), mutated(AID)))
def test_descriptions_of_data_sets_are_a_value_or_a_line(folder, content):
    path = folder / "dataset.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    value_or_line(datasets.read_dataset, path)


@fuzz
@given(st.data())
def test_descriptions_of_data_sets_with_other_values_are_a_value_or_a_line(folder, data):
    content = json.loads((datasets.REPO_ROOT / "UCMD/dataset.json").read_text(encoding="utf-8"))
    place = data.draw(st.sampled_from([content, content["classes"][0], content["published"][0]]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(JSON)
    path = folder / "dataset.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    value_or_line(datasets.read_dataset, path)


@fuzz
@given(st.one_of(st.binary(max_size=200), mutated(b"a/1.jpg 0\nb/2.jpg 1\n")), st.binary(max_size=60))
def test_lists_of_images_are_a_value_or_a_line(folder, train, test):
    (folder / "train.txt").write_bytes(train)
    (folder / "test.txt").write_bytes(test)
    value_or_line(split_from_lists, folder, ["a/1.jpg", "b/2.jpg"], np.array([0, 1]))


@fuzz
@given(JSON)
def test_results_are_a_value_or_a_line(folder, content):
    (folder / "results.json").write_text(json.dumps(content), encoding="utf-8")
    value_or_line(results.read_results, folder)


@fuzz
@given(st.dictionaries(TEXT, FINITE, max_size=4))
def test_records_of_runs_are_a_value_or_a_line(folder, content):
    text_files.write_json(folder / "run.json", content)
    value_or_line(runs.read_record, folder)


@pytest.fixture(scope="module")
def graph_bytes():
    return small_graph().SerializeToString()


@fuzz
@given(st.data())
def test_graphs_are_a_value_or_a_line(folder, graph_bytes, data):
    path = folder / "classify_image_graph_def.pb"
    path.write_bytes(data.draw(mutated(graph_bytes)))
    value_or_line(lambda path: read_graph(GraphFile(path)), path)
