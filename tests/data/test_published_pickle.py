"""Published pickles are read; pickles that carry anything else are refused, and nothing of them runs."""

import codecs
import io
import os
import pickle
import struct

import numpy as np
import pytest

from mhcln.console import UserError
from mhcln.data.published_pickle import read_published

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


@pytest.fixture
def path(tmp_path):
    return tmp_path / "features.pkl"


def test_pickles_of_every_python_are_read(path):
    numpy_1 = pickle.dumps(ROWS, 0).replace(b"numpy._core", b"numpy.core")  # a module by another name
    assert np.array_equal(pickle.loads(python2(ROWS), encoding="latin1")[2][0], ROWS[2][0])
    for content in (python2(ROWS), numpy_1, *(pickle.dumps(ROWS, protocol) for protocol in range(6))):
        path.write_bytes(content)
        features = read_published(path)
        assert features.vectors.dtype == np.float32
        np.testing.assert_array_equal(features.vectors, np.stack([row[0] for row in ROWS]))
        assert features.images.labels.tolist() == [0, 0, 1, 1]


def test_features_keep_the_order_of_the_pickle_within_a_class(path):
    path.write_bytes(pickle.dumps([[vector.astype(np.float64)[None], *rest] for vector, *rest in ROWS[::-1]], 2))
    features = read_published(path)
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


MARK = "ran"  # what the hostile ones try to make, in the folder that a test runs in
FEATURE = ROWS[0][0]
REFUSED = {
    "names os": (pickle.dumps([Runs(os.system, f"touch {MARK}")]), "it names posix.system"),
    "names eval": (pickle.dumps([Runs(eval, f"open({MARK!r}, 'w')")]), "it names builtins.eval"),
    "names exec by text protocol": (
        f"c__builtin__\nexec\n(S'open({MARK!r}, \"w\")'\ntR.".encode(),
        "it names __builtin__.exec",
    ),
    "names numpy.memmap": (pickle.dumps([Runs(np.memmap, MARK, np.uint8, "w+", 0, (1,))]), "it names numpy.memmap"),
    "names an attribute": (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "it names numpy.ndarray.tofile"),
    "extension registry": (b"\x80\x02\x82\x01.", "unregistered extension code 1"),
    "persistent id": (b"Pfile\n.", "unsupported persistent id"),
    "object array": (pickle.dumps([[np.array([1, None]), 0, "/a/b/c"]]), "a feature is not of float32 or float64"),
    "memo number": (b"\x80\x02]r" + struct.pack("<I", 2**31) + b".", "need at least one array"),
    "claimed length": (b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b"x.", "it is damaged"),
    "deep nesting": (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "a row is not .feature, label, path."),
    "huge number": (b"I" + b"9" * 10_000 + b"\n.", "limit|not iterable"),
    "no row": (pickle.dumps([]), "need at least one array"),
    "cut": (pickle.dumps(ROWS)[:-20], "damaged|truncated|exhausted|end"),
    "empty": (b"", "it is damaged"),
    "text": (b"a/1.tif,0,0.5\n", "."),
    "row of two": (pickle.dumps([[FEATURE, 1]]), "a row is not .feature, label, path."),
    "whole numbers": (pickle.dumps([[np.arange(3), 0, "/a/b/c.tif"]]), "a feature is not of float32 or float64"),
    "no array": (pickle.dumps([[[0.5], 0, "/a/b/c.tif"]]), "a row has no array"),
    "no label": (pickle.dumps([[FEATURE, None, "/a/b/c.tif"]]), "a row has no label or no path"),
    "true label": (pickle.dumps([[FEATURE, True, "/a/b/c.tif"]]), "a row has no label or no path"),
    "no path": (pickle.dumps([[FEATURE, 0, 7]]), "a row has no label or no path"),
    "infinite": (pickle.dumps([[np.array([1, 1e300]), 0, "/a/b/c.tif"]]), "its features are not finite"),
    "two widths": (pickle.dumps([ROWS[0], [FEATURE[:4], 1, "/x/b/1"]]), "same shape"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_pickles_are_refused_in_one_line_and_run_nothing(path, monkeypatch, name):
    monkeypatch.chdir(path.parent)
    content, reason = REFUSED[name]
    path.write_bytes(content)
    line = rf"{path} is not a features\.pkl of the published code \(.*{reason}.*\), and nothing of it was run; --feat"
    with pytest.raises(UserError, match=line):
        read_published(path)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("rows", [[ROWS[0], [FEATURE, 1, "/x/a/2"]], [[FEATURE, 3, "/x/a/2"]]])
def test_each_class_folder_has_one_label(path, rows):
    path.write_bytes(pickle.dumps(rows))
    with pytest.raises(UserError, match="does not give each class folder one label"):
        read_published(path)


def test_a_missing_pickle_is_named(path):
    with pytest.raises(UserError, match=r"features\.pkl is missing; give --features"):
        read_published(path)
