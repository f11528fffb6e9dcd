"""Published pickles are read; pickles that carry anything else are refused, and nothing of them runs."""

import codecs
import io
import os
import pickle
import signal
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mhcln.console import UserError
from mhcln.data import published_pickle

ROWS = [
    [np.arange(8, dtype=np.float32) + i, i // 2, f"/home/me/Images/{'ab'[i // 2]}/{'ab'[i // 2]}{i:02}.tif"]
    for i in range(4)
]


def python2(rows: list) -> bytes:
    """The rows as `pickle.dump(rows, f)` of Python 2 writes them: text protocol, byte strings, old NumPy names."""
    out = io.BytesIO()
    out.write(b"(lp0\n")
    for features, label, path in rows:
        raw = codecs.escape_encode(features.tobytes())[0]
        out.write(
            b"(lp1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nRp7\n"
        )
        out.write(b"(I1\n(I%d\ntp8\ncnumpy\ndtype\np9\n(S'f4'\np10\nI0\nI1\ntp11\nRp12\n" % len(features))
        out.write(b"(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\nS'" + raw + b"'\np15\ntp16\nb")
        out.write(b"aI%d\naS'%s'\np17\naa" % (label, path.encode()))
    out.write(b".")
    return out.getvalue()


def check(read: list[published_pickle.Row]) -> None:
    assert len(read) == len(ROWS)
    for row, (features, label, path) in zip(read, ROWS, strict=True):
        np.testing.assert_array_equal(row.vector, features)
        assert row.vector.dtype == np.float32
        assert (row.label, row.path) == (label, path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_python_3_are_read(tmp_path, protocol):
    path = tmp_path / "features.pkl"
    path.write_bytes(pickle.dumps(ROWS, protocol))
    check(published_pickle.read_rows(path))
    if protocol < 5:
        path.write_bytes(
            path.read_bytes().replace(b"numpy._core", b"numpy.core") if protocol < 2 else path.read_bytes()
        )
        check(published_pickle.read_rows(path))


def test_pickles_of_python_2_are_read(tmp_path):
    path = tmp_path / "features.pkl"
    path.write_bytes(python2(ROWS))
    oracle = pickle.loads(path.read_bytes(), encoding="latin1")
    np.testing.assert_array_equal(oracle[2][0], ROWS[2][0])
    check(published_pickle.read_rows(path))


def test_features_keep_the_order_of_the_pickle_within_a_class(tmp_path):
    path = tmp_path / "features.pkl"
    path.write_bytes(pickle.dumps(ROWS[::-1], 2))
    features = published_pickle.read_published(path)
    table = features.images
    assert table.paths == ["a/a01.tif", "a/a00.tif", "b/b03.tif", "b/b02.tif"]
    assert table.labels.tolist() == [0, 0, 1, 1]
    assert (table.class_names, table.images_dir, table.dataset) == (["a", "b"], "/home/me/Images", "Images")
    np.testing.assert_array_equal(features.vectors, np.stack([ROWS[i][0] for i in (1, 0, 3, 2)]))


class Runs:
    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


def nested(depth: int) -> bytes:
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


# A tuple of a tuple twice, forty times: 120 bytes that Python would print as 2^40 pairs of brackets.
ENDLESS = b")" + b"".join(b"q%ch%c\x86" % (number, number) for number in range(10, 50))
RECONSTRUCT, DTYPE = b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\ndtype\n"


def row(array: bytes = RECONSTRUCT + b")R", label: bytes = b"K\x00", path: bytes = b"X\x01\0\0\0a") -> bytes:
    """A pickle of one row, each part given as opcodes that leave one thing on the stack."""
    return b"\x80\x02]]" + b"(" + array + label + path + b"ea."


def array(shape: bytes, dtype: bytes, data: bytes) -> bytes:
    return RECONSTRUCT + b")R(K\x01" + shape + dtype + b"I00\n" + data + b"tb"


FLOATS = DTYPE + b"(U\x02f4I0\nI1\ntR"
FOUR_BYTES = b"U\x04\0\0\0\0"
WHOLE = array(b"K\x01\x85", FLOATS, FOUR_BYTES)


# What the hostile ones try to make, in the folder that a test runs in.
MARK = "ran"
HOSTILE = {
    "os.system": pickle.dumps([Runs(os.system, f"touch {MARK}")]),
    "eval": pickle.dumps([Runs(eval, f"open({MARK!r}, 'w')")]),
    "exec by text protocol": f"c__builtin__\nexec\n(S'open({MARK!r}, \"w\")'\ntR.".encode(),
    "through numpy": pickle.dumps([Runs(np.memmap, MARK, np.uint8, "w+", 0, (1,))]),
    "through numpy.load": f"cnumpy\nload\n(S'{MARK}'\nNI01\ntR.".encode(),
    "getattr chain": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR.",
    "attribute of a name": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
    "name changed": b"cnumpy\nndarray\n(N}S'call'\nNstb.",
    "object array": pickle.dumps([[np.array([Runs(os.system, f"touch {MARK}")], dtype=object), 0, "/a/b/c"]]),
    "extension registry": b"\x80\x02\x82\x01.",
    "persistent id": b"Pfile\n.",
    "new object": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "memo number": b"\x80\x02]r" + struct.pack("<I", 2**31) + b".",
    "text memo number": b"(lp99999999999\n.",
    "claimed length": b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b"x.",
    "claimed bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "claimed shape": python2([[np.zeros(4, np.float32), 0, "/a/b"]]).replace(b"(I4\n", b"(I99999999999999\n"),
    "deep nesting": nested(1_000_000),
    "escape that Python 2 never writes": b"(lp0\nS'\\u'\na.",
    "huge number": b"I" + b"9" * 1_000_000 + b"\n.",
    "dictionary": pickle.dumps({"a": 1}),
    "cut": pickle.dumps(ROWS)[:-20],
    "empty": b"",
    "text": b"hello",
    "endless label": row(WHOLE, label=ENDLESS),
    "endless path": row(WHOLE, path=ENDLESS),
    "endless array": row(ENDLESS),
    "endless shape": row(array(ENDLESS, FLOATS, FOUR_BYTES)),
    "endless side": row(array(ENDLESS + b"\x85", FLOATS, FOUR_BYTES)),
    "endless bytes": row(array(b"K\x01\x85", FLOATS, ENDLESS)),
    "endless dtype": row(array(b"K\x01\x85", DTYPE + ENDLESS + b"\x85R", FOUR_BYTES)),
    "endless byte order": row(array(b"K\x01\x85", FLOATS + b"K\x03" + ENDLESS + b"\x86b", FOUR_BYTES)),
    "endless state": row(RECONSTRUCT + b")R" + ENDLESS + b"b"),
    "endless call": row(RECONSTRUCT + ENDLESS + b"R"),
    "endless encoding": row(array(b"K\x01\x85", FLOATS, b"c_codecs\nencode\nX\0\0\0\0" + ENDLESS + b"\x86R")),
    "endless content": ENDLESS + b".",
    "cycle": row(b"]q\x01h\x01a"),
    "many things": b"\x80\x02]" + b"]" * 3_000_000 + b".",
    "long string": row(WHOLE, path=b"T" + struct.pack("<I", 2**20 + 1) + b"a" * (2**20 + 1)),
    "long path": row(WHOLE, path=b"T" + struct.pack("<I", 5000) + b"a" * 5000),
    "large label": row(WHOLE, label=b"\x8a\x06" + b"\1" * 6),
    "infinite": pickle.dumps([[np.array([1, np.inf], np.float32), 0, "/a/b/c.tif"]]),
    "too large for float32": pickle.dumps([[np.array([1, 1e300]), 0, "/a/b/c.tif"]]),
    "label missing": pickle.dumps([[ROWS[0][0], None, "/a/b/c.tif"]]),
    "label true": pickle.dumps([[ROWS[0][0], True, "/a/b/c.tif"]]),
    "path missing": pickle.dumps([[ROWS[0][0], 1]]),
    "whole numbers": pickle.dumps([[np.arange(3), 0, "/a/b/c.tif"]]),
    "no list": pickle.dumps("x"),
}


@pytest.fixture(autouse=True)
def _deadline():
    """Every test is over in ten seconds: printing or walking a nested tuple could take for ever."""

    def stop(*_signal):
        raise TimeoutError("still not done after ten seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_and_run_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "features.pkl"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(
        UserError, match=r"features\.pkl is not a features\.pkl of the published code .*nothing of it was run"
    ):
        published_pickle.read_rows(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("many things", "it has more than 2097152 opcodes"),
        ("long string", "it holds a BINSTRING of 1048577 bytes"),
        ("huge number", "it holds a INT of 1000001 bytes"),
        ("endless label", "a row has no label or no path"),
    ],
)
def test_what_is_too_large_is_refused_before_it_is_made(tmp_path, name, words):
    (tmp_path / "f.pkl").write_bytes(HOSTILE[name])
    with pytest.raises(UserError, match=words):
        published_pickle.read_rows(tmp_path / "f.pkl")


def test_opcodes_of_one_row_make_a_row(tmp_path):
    (tmp_path / "f.pkl").write_bytes(row(WHOLE))
    assert [(r.vector.tolist(), r.label, r.path) for r in published_pickle.read_rows(tmp_path / "f.pkl")] == [
        ([0.0], 0, "a")
    ]


SHARED = np.zeros(2**17, np.float32)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps([[SHARED, 0, f"/a/b/{number}"] for number in range(1000)]),
        # one text, encoded anew for each row, as Python 3 writes bytes for Python 2
        b"\x80\x02]q\x00(X"
        + struct.pack("<I", 2**19)
        + b"\0" * 2**19
        + b"q\x01"
        + b"c_codecs\nencode\nq\x02"
        + b"".join(b"h\x02h\x01X\x06\0\0\0latin1\x86R" for _ in range(3000))
        + b"e.",
    ],
    ids=["array", "text"],
)
def test_numbers_shared_by_rows_take_no_memory_for_each(tmp_path, content):
    (tmp_path / "f.pkl").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="nothing of it was run"):
            published_pickle.read_rows(tmp_path / "f.pkl")
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_pickles_are_read_or_refused(tmp_path_factory, data):
    whole = bytearray(data.draw(st.sampled_from([python2(ROWS), *(pickle.dumps(ROWS, p) for p in (1, 2, 4, 5))])))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "features.pkl"
    path.write_bytes(whole)
    try:
        assert all(row.vector.dtype == np.float32 for row in published_pickle.read_rows(path))
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("f.npy", b"\x93NUMPY\x01\0v\0", "a NumPy array"),
        ("f.pkl", b"\x93NUMPY\x01\0v\0", "a NumPy array"),
        ("f.pt", b"PK\3\4", "a zip archive"),
        ("f.mat", b"MATLAB 5.0 MAT-file", "a MATLAB file"),
        ("f.mat", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("f.csv", b"a/1.tif,0,0.5\n", "a table of text"),
    ],
)
def test_other_tables_are_named_and_the_line_that_writes_them(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        published_pickle.read_rows(tmp_path / name)
    advice = "--features takes a .npz that is written as mhcln/README.md says of features of another network"
    assert str(caught.value) == f"{tmp_path / name} is {what}; {advice}"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROWS[0], [np.zeros(4, np.float32), 1, "/x/b/1"]], "features of 2 widths"),
        ([ROWS[0], [ROWS[0][0], 1, "/x/a/2"]], "one label"),
        ([[ROWS[0][0], 3, "/x/a/2"]], "one label"),
    ],
)
def test_labels_and_widths_must_agree(tmp_path, rows, message):
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(rows))
    with pytest.raises(UserError, match=message):
        published_pickle.read_published(tmp_path / "f.pkl")
