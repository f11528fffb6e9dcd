"""Google's archive of the graph: the one file in it that is read, and archives that are damaged or hostile."""

import gzip
import io
import shutil
import tarfile
import tracemalloc

import graphs
import numpy as np
import pytest

from mhcln.backbone import graph_file
from mhcln.backbone.backbone import open_backbone, reopen_backbone
from mhcln.backbone.graph_file import ARCHIVE, GRAPH, GraphFile
from mhcln.backbone.recipe import BackboneOptions
from mhcln.console import UserError
from mhcln.storage.files import sha256_of

CONTENT = b"a graph" * 3000
LICENCE = ("LICENSE", b"Apache" * 500)


def tar_of(*members, **options) -> bytes:
    """A tar file of (name or TarInfo, content) pairs."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", **options) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if info.isreg():
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def write_archive(folder, tar: bytes, name: str = ARCHIVE):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(gzip.compress(tar, mtime=0))
    return folder / name


def refusal(path) -> str:
    """What is said about an archive, the same by everything that reads one, in less memory than 64 MiB."""
    tracemalloc.start()
    messages = []
    readers = (
        lambda path: GraphFile(path).content,
        lambda path: GraphFile(path).sha256,
        lambda path: open_backbone(BackboneOptions(path), None),
    )
    for read in readers:
        with pytest.raises(UserError) as caught:
            read(path)
        messages.append(str(caught.value))
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()
    assert len(set(messages)) == 1
    assert messages[0].startswith(f"{path} is not the Inception graph of 2015-12-05 (")
    assert messages[0].endswith(f"); take {graph_file.ARCHIVE_URL}, or {GRAPH} out of it")
    assert "\n" not in messages[0]
    return messages[0]


def kind(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", [GRAPH, f"./{GRAPH}", f"inception/2015/{GRAPH}"])
def test_the_graph_in_an_archive_is_read_and_nothing_is_unpacked(tmp_path, monkeypatch, tar_format, name):
    monkeypatch.chdir(tmp_path)
    others = [LICENCE, (f"{GRAPH}.txt", b"text"), (f"not_{GRAPH}", b"x"), (f"/etc/{GRAPH}/x", b"x")]
    tar = tar_of(*others, (name, CONTENT), (kind("link", tarfile.SYMTYPE, GRAPH), b""), format=tar_format)
    path = write_archive(tmp_path / "model", tar)
    assert GraphFile(path).content == CONTENT
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert [entry.name for entry in path.parent.iterdir()] == [ARCHIVE]


def test_an_archive_is_unpacked_once_to_be_opened(tmp_path, console, monkeypatch):
    tar = tar_of((GRAPH, graphs.small_graph().SerializeToString()))
    path = write_archive(tmp_path / "model", tar)
    opened = []
    unzip = gzip.open
    monkeypatch.setattr(gzip, "open", lambda file: opened.append(file) or unzip(file))
    backbone = open_backbone(BackboneOptions(path), console)
    assert opened == [path]
    reopen_backbone(backbone.recipe, str(path), None)
    assert opened == [path, path]


def test_the_archive_and_its_graph_are_the_same_backbone(tmp_path, console):
    plain = graphs.write_graph(tmp_path / "plain")
    archive = write_archive(tmp_path / "archive", tar_of((GRAPH, plain.read_bytes()), LICENCE))
    renamed = shutil.copy(archive, tmp_path / "inception-2015-12-05 (1).tgz")
    made = open_backbone(BackboneOptions(plain.parent), console)
    images = np.random.default_rng(0).uniform(0, 255, (2, graphs.SIDE, graphs.SIDE, 3)).astype(np.float32)
    assert sha256_of(plain) in made.extractor
    for model_dir in (archive.parent, archive, renamed):
        backbone = open_backbone(BackboneOptions(model_dir), console)
        assert backbone.extractor == made.extractor
        np.testing.assert_array_equal(backbone.features(images), made.features(images))
    assert open_backbone(BackboneOptions(archive.parent), console).model_file == str(archive)
    for model_file, model_dir in ((plain, None), (archive, None), (plain, archive), (archive, plain.parent)):
        assert reopen_backbone(made.recipe, str(model_file), model_dir).recipe == made.recipe
    other = write_archive(tmp_path / "other", tar_of((GRAPH, graphs.small_graph(1).SerializeToString())))
    with pytest.raises(UserError, match="is not the backbone that made the archive"):
        reopen_backbone(made.recipe, str(plain), other)


def test_an_archive_beside_its_graph_is_one_backbone_too_many(tmp_path, console):
    plain = graphs.write_graph(tmp_path)
    write_archive(tmp_path, tar_of((GRAPH, plain.read_bytes())))
    with pytest.raises(UserError, match=rf"several backbones \({GRAPH}, {ARCHIVE}\); leave one there"):
        open_backbone(BackboneOptions(tmp_path), console)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([LICENCE], f"it holds no {GRAPH}"),
        ([], f"it holds no {GRAPH}"),
        ([(f"{GRAPH}/x", b"x")], f"it holds no {GRAPH}"),
        ([(GRAPH, CONTENT), (f"again/{GRAPH}", CONTENT)], f"it holds several {GRAPH}"),
        ([(kind(GRAPH, tarfile.DIRTYPE), b"")], "is not a regular file"),
        ([LICENCE, (kind(GRAPH, tarfile.SYMTYPE, "LICENSE"), b"")], "is not a regular file"),
        ([LICENCE, (kind(GRAPH, tarfile.LNKTYPE, "LICENSE"), b"")], "is not a regular file"),
        ([(kind(GRAPH, tarfile.SYMTYPE, "/etc/passwd"), b"")], "is not a regular file"),
        ([(kind(GRAPH, tarfile.FIFOTYPE), b"")], "is not a regular file"),
        ([(kind(GRAPH, tarfile.CHRTYPE), b"")], "is not a regular file"),
    ],
)
def test_an_archive_without_the_graph_as_a_file_is_refused(tmp_path, members, reason):
    assert reason in refusal(write_archive(tmp_path, tar_of(*members)))


def test_an_archive_cut_anywhere_is_refused(tmp_path):
    whole = gzip.compress(tar_of((GRAPH, np.random.default_rng(0).bytes(5000)), LICENCE), mtime=0)
    path = tmp_path / ARCHIVE
    for size in [*range(0, 60, 7), *range(60, len(whole), 401), len(whole) - 1]:
        path.write_bytes(whole[:size])
        refusal(path)
    path.write_bytes(whole)
    assert len(GraphFile(path).content) == 5000


@pytest.mark.parametrize("zipped", [False, True])
def test_an_interrupted_download_of_the_graph_is_one_line(tmp_path, console, zipped):
    path = graphs.write_graph(tmp_path, zipped=zipped)
    whole = path.read_bytes()
    for size in [0, 1, 2, 9, *range(10, len(whole), len(whole) // 60), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"is not the Inception graph of 2015-12-05 \(") as caught:
            open_backbone(BackboneOptions(path), console)
        assert "\n" not in str(caught.value)


def test_a_tar_cut_anywhere_is_refused(tmp_path):
    whole = tar_of((GRAPH, CONTENT))
    for size in (0, 1, 511, 512, 513, 5000, 512 + len(CONTENT) - 1):
        refusal(write_archive(tmp_path, whole[:size]))


def test_a_changed_byte_anywhere_is_noticed(tmp_path):
    whole = gzip.compress(tar_of((GRAPH, np.random.default_rng(0).bytes(5000)), LICENCE), mtime=0)
    path = tmp_path / ARCHIVE
    for place in [0, 1, 2, *range(10, len(whole), 97), len(whole) - 8, len(whole) - 1]:
        changed = bytearray(whole)
        changed[place] ^= 4
        path.write_bytes(changed)
        refusal(path)


def test_what_is_not_a_gzipped_tar_is_refused(tmp_path):
    path = tmp_path / ARCHIVE
    for content in (b"", b"<html>not found</html>", tar_of((GRAPH, CONTENT)), gzip.compress(CONTENT)):
        path.write_bytes(content)
        refusal(path)
    path.write_bytes(gzip.compress(tar_of((GRAPH, CONTENT))) + b"and more")
    assert "gzipped" in refusal(path)


def test_a_graph_that_claims_a_huge_size_is_refused(tmp_path):
    info = tarfile.TarInfo(GRAPH)
    for size in (graph_file.MAX_BYTES + 1, 2**40, 2**80):
        info.size = size
        header = info.tobuf(tarfile.GNU_FORMAT)
        assert f"has {size} bytes" in refusal(write_archive(tmp_path, header + CONTENT))
    info.size = graph_file.MAX_BYTES
    assert "unexpected end of data" in refusal(write_archive(tmp_path, info.tobuf() + CONTENT))


def test_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(graph_file, "MAX_BYTES", 2**20)
    zeros = bytes(2**20 + 1)
    wanted = f"it holds more than {2**20} bytes"
    assert "has 1048577 bytes" in refusal(write_archive(tmp_path, tar_of((GRAPH, zeros))))
    assert wanted in refusal(write_archive(tmp_path, tar_of(("other", zeros), (GRAPH, CONTENT))))
    assert wanted in refusal(write_archive(tmp_path, tar_of((GRAPH, CONTENT), ("other", zeros))))
    assert wanted in refusal(write_archive(tmp_path, tar_of((GRAPH, CONTENT)) + zeros))
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**40
    assert wanted in refusal(write_archive(tmp_path, header.tobuf(tarfile.GNU_FORMAT) + zeros))


def test_many_members_and_many_long_names_are_refused(tmp_path):
    many = [(str(number), b"") for number in range(3000)]
    assert f"it holds no {GRAPH}" in refusal(write_archive(tmp_path, tar_of(*many, (GRAPH, CONTENT))))
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 512
    long_names = (header.tobuf(tarfile.GNU_FORMAT) + b"x" * 512) * 3000
    with pytest.raises(UserError, match="is not the Inception graph"):
        open_backbone(BackboneOptions(write_archive(tmp_path, long_names + tar_of((GRAPH, CONTENT)))), None)


def test_a_sparse_graph_is_refused(tmp_path):
    info = tarfile.TarInfo(GRAPH)
    info.pax_headers = {"GNU.sparse.map": "0,512,1073741312,512", "GNU.sparse.size": str(2**30)}
    assert "is not a regular file" in refusal(write_archive(tmp_path, tar_of((info, CONTENT))))
