"""The bytes of the 2015 Inception graph: a plain or gzipped file, or the archive that Google publishes it in."""

import contextlib
import functools
import gzip
import hashlib
import io
import itertools
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from mhcln.console import UserError
from mhcln.storage.files import one_line, sha256_of

GRAPH = "classify_image_graph_def.pb"
ARCHIVE = "inception-2015-12-05.tgz"
ARCHIVE_URL = f"http://download.tensorflow.org/models/image/imagenet/{ARCHIVE}"
GRAPHS = (GRAPH, f"{GRAPH}.gz", ARCHIVE)

MAX_BYTES = 2**27  # of a graph, and of an unpacked archive; the real graph has 95.7 MB
MAX_FIELDS = 2**19  # of a graph; the real graph has about 20,000
MAX_MEMBERS = 100  # of an archive; the real one has 5
PIECE_BYTES = 2**20


class GraphFile:
    """A file that may hold the graph. It is unpacked once, however often it is asked for.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @functools.cached_property
    def content(self) -> bytes:
        """The serialised GraphDef; raises UserError if the file cannot hold one."""
        with graph_errors(self.path):
            return _archived_graph(self.path) if _is_archive(self.path) else _single_file(self.path)

    @property
    def sha256(self) -> str:
        """The hex SHA-256 by which a recipe identifies the file.

        It is that of the file, but for an archive that of the graph inside, so that a graph and the archive of it give
        features of the same recipe. Raises UserError if an archive holds no graph.
        """
        return hashlib.sha256(self.content).hexdigest() if _is_archive(self.path) else sha256_of(self.path)


@contextlib.contextmanager
def graph_errors(path: Path) -> Iterator[None]:
    """Raise a UserError that says what to take instead of `path` if the block finds that it is not the graph."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError, DecodeError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is not the Inception graph of 2015-12-05 ({one_line(error)}); take {ARCHIVE_URL}, "
            f"or {GRAPH} out of it"
        ) from error


def check_fields(content: bytes, message: Descriptor) -> None:
    """Raise ValueError if a serialised message has too many fields, those of the messages in it included.

    A parser makes an object of a hundred bytes of a message that takes two in the file. The encoding is described at
    protobuf.dev/programming-guides/encoding.
    """
    fields = 0
    waiting = [(0, len(content), message)]
    while waiting:
        place, end, kind = waiting.pop()
        while place < end:
            fields += 1
            if fields > MAX_FIELDS:
                raise ValueError(f"it has more than {MAX_FIELDS} fields")
            key, place = _varint(content, place)
            wire_type = key & 7
            if wire_type == 2:  # its length, then a string, a message, or numbers one after another
                size, place = _varint(content, place)
                field = kind.fields_by_number.get(key >> 3)
                if field is not None and field.message_type is not None:
                    waiting.append((place, min(place + size, end), field.message_type))
                place += size
            elif wire_type == 0:
                _, place = _varint(content, place)
            elif wire_type in (1, 5):
                place += 8 if wire_type == 1 else 4
            else:
                raise ValueError(f"it has a field of wire type {wire_type}")


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Return the number at a place, seven bits a byte, and the place behind it."""
    value = 0
    for number, byte in enumerate(content[place : place + 10]):
        value |= (byte & 127) << 7 * number
        if byte < 128:
            return value, place + number + 1
    raise ValueError("it is cut, or not a graph")


def _is_archive(path: Path) -> bool:
    return path.suffix == ".tgz"


def _single_file(path: Path) -> bytes:
    with path.open("rb") as handle:
        zipped = handle.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as stream:
        return _Limited(stream).read()


def _archived_graph(path: Path) -> bytes:
    """Return the one file of the name GRAPH in a gzipped tar archive; nothing is written and no link is followed."""
    with gzip.open(path) as unzipped:
        stream = _Limited(unzipped)
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                members = itertools.islice(archive, MAX_MEMBERS)
                found = [_content(archive, member) for member in members if PurePosixPath(member.name).name == GRAPH]
        except RecursionError:  # tarfile calls itself for each of several long names in a row
            raise ValueError("its names are too long") from None
        while stream.read(PIECE_BYTES):  # gzip compares its checksum at the end of the file
            pass
    if len(found) != 1:
        raise ValueError(f"it holds {'several' if found else 'no'} {GRAPH}")
    return found[0]


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member) if member.isreg() and not member.issparse() else None
    if content is None:
        raise ValueError(f"its {GRAPH} is not a regular file")
    if not 0 <= member.size <= MAX_BYTES:
        raise ValueError(f"its {GRAPH} has {member.size} bytes")
    return content.read()


class _Limited(io.BufferedIOBase):
    """A stream that gives at most MAX_BYTES: a small gzip file may unpack to a thousand times its size."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self.stream = stream
        self.left = MAX_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        most = self.left + 1
        content = self.stream.read(most if size is None or size < 0 else min(size, most))
        self.left -= len(content)
        if self.left < 0:
            raise ValueError(f"it holds more than {MAX_BYTES} bytes")
        return content
