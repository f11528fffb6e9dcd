"""Members of a zip archive: of the format, only what `numpy.savez` writes is read (PKWARE's APPNOTE.TXT, section 4.3).

Nothing that the archive claims is taken on trust. Members are stored or deflated; they lie in the file, not over one
another; the directory fills the place that the end of the file names; and a member's name stands in both its headers.
"""

import io
import struct
import zlib
from typing import NamedTuple

STORED, DEFLATED = 0, 8
UTF8_NAME = 0x800  # the one flag of a member that may be set
DIRECTORY_BYTES = 2**20  # some 15,000 members
PIECE_BYTES = 2**20

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = 20  # bytes of the pointer to the former
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_FULL = 0xFFFFFFFF  # a size or an offset that stands in the extra field instead
_SHOWN = 60  # characters of a name in a message


class DamagedError(Exception):
    """What is wrong with an archive. `mhcln.storage.files.read_npz` adds which it is, and what to do."""


class Member(NamedTuple):
    """A member as the directory of the archive describes it.

    Attributes:
        name: Its name.
        method: STORED or DEFLATED.
        crc: CRC-32 of its content.
        packed: Bytes that it takes in the archive.
        size: Bytes of its content.
        start: Where the content begins in the archive.
    """

    name: bytes
    method: int
    crc: int
    packed: int
    size: int
    start: int

    def __str__(self) -> str:
        return self.name.decode("latin-1").encode("unicode_escape").decode("ascii")[:_SHOWN]


def read_directory(handle: io.BufferedReader, length: int) -> list[Member]:
    """Read which members an archive of `length` bytes holds, and where.

    Raises:
        DamagedError: It is not an archive, or not one that can hold what it claims.
    """
    start, end, count = _find_directory(handle, length)
    directory = read_at(handle, start, end - start)
    entries, at = [], 0
    while at < len(directory):
        entry, at = _parse_entry(directory, at)
        entries.append(entry)
    if len(entries) != count or len({entry.name for entry in entries}) != count:
        raise DamagedError(f"its directory does not hold {count} different arrays")
    members, free = [], 0
    for entry in sorted(entries, key=lambda entry: entry.start):
        if entry.start < free:
            raise DamagedError(f"{entry} lies over another array")
        member = entry._replace(start=_content_start(handle, entry, start))
        free = member.start + member.packed
        if free > start:
            raise DamagedError(f"{entry} claims {entry.packed} bytes, more than the file has")
        members.append(member)
    return members


def _find_directory(handle: io.BufferedReader, length: int) -> tuple[int, int, int]:
    """Return where the directory starts and ends, and its number of entries."""
    end = length - _END.size
    if end < 0:
        raise DamagedError(f"it has only {length} bytes")
    mark, disk, first_disk, here, count, size, start, comment = _END.unpack(read_at(handle, end, _END.size))
    if mark != b"PK\5\6" or comment:
        raise DamagedError("no directory of arrays at its end")
    locator = end - _LOCATOR_64
    if locator >= _END_64.size and read_at(handle, locator, 4) == b"PK\6\7":  # an archive of more than 2 GiB
        end = locator - _END_64.size
        record = _END_64.unpack(read_at(handle, end, _END_64.size))
        disk, first_disk, here, count, size, start = record[4:]
        if record[0] != b"PK\6\6":
            raise DamagedError("no directory of arrays at its end")
    if disk or first_disk or here != count or start + size != end or size > DIRECTORY_BYTES:
        raise DamagedError("its directory of arrays is not where it should be")
    return start, end, count


def _parse_entry(directory: bytes, at: int) -> tuple[Member, int]:
    """Return the entry that begins at `at`, its `start` that of the local header; and where the next one begins."""
    body = at + _ENTRY.size
    if body > len(directory):
        raise DamagedError("its directory of arrays is cut short")
    fields = _ENTRY.unpack_from(directory, at)
    mark, flags, method, crc, offset = fields[0], fields[3], fields[4], fields[7], fields[16]
    name_length, extra_length, comment_length, disk = fields[10:14]
    extra = body + name_length
    end = extra + extra_length + comment_length
    if mark != b"PK\1\2" or disk or end > len(directory):
        raise DamagedError("its directory of arrays is not one")
    packed, size, start = _full_sizes(directory[extra : extra + extra_length], fields[8], fields[9], offset)
    member = Member(directory[body:extra], method, crc, packed, size, start)
    if flags & ~UTF8_NAME or method not in (STORED, DEFLATED):
        raise DamagedError(f"{member} is neither stored nor deflated")
    if method == STORED and packed != size:
        raise DamagedError(f"{member} is stored in {packed} bytes, claims {size}")
    return member, end


def _full_sizes(extra: bytes, packed: int, size: int, start: int) -> tuple[int, int, int]:
    """Return sizes and offset, those that do not fit into 32 bits from the extra field 1 (APPNOTE.TXT, 4.5.3)."""
    missing = (size, packed, start).count(_FULL)
    if not missing:
        return packed, size, start
    at = 0
    while at + 4 <= len(extra):
        number, room = struct.unpack_from("<2H", extra, at)
        if number == 1 and room >= 8 * missing and at + 4 + room <= len(extra):
            full = iter(struct.unpack_from(f"<{missing}Q", extra, at + 4))
            size, packed, start = (next(full) if value == _FULL else value for value in (size, packed, start))
            return packed, size, start
        at += 4 + room
    raise DamagedError("its directory of arrays lacks a size")


def _content_start(handle: io.BufferedReader, entry: Member, end: int) -> int:
    """Return where the content of a member begins: after its local header, which must name it too."""
    length = _LOCAL.size + len(entry.name)
    if entry.start + length > end:
        raise DamagedError(f"{entry} lies beyond the end of the file")
    header = read_at(handle, entry.start, length)
    mark, _, flags, method, *_, name_length, extra_length = _LOCAL.unpack_from(header)
    same_name = name_length == len(entry.name) and header.endswith(entry.name)
    if mark != b"PK\3\4" or not same_name or flags & ~UTF8_NAME or method != entry.method:
        raise DamagedError(f"{entry} is not where its directory says")
    return entry.start + length + int(extra_length)


def read_at(handle: io.BufferedReader, start: int, size: int) -> bytes:
    """Read `size` bytes from `start` on; raises DamagedError if the file ends before."""
    handle.seek(start)
    found = handle.read(size)
    if len(found) != size:
        raise DamagedError("it ends early")
    return found


class Content:
    """The content of a stored member, read once from front to back; its CRC-32 is computed on the way."""

    def __init__(self, handle: io.BufferedReader, member: Member) -> None:
        handle.seek(member.start)
        self.left = member.size  # bytes still to be read, as far as the directory is right
        self._handle, self._member, self._crc = handle, member, 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        found = bytearray(size)
        self.fill(memoryview(found))
        return bytes(found)

    def fill(self, target: memoryview) -> None:
        """Read as many bytes as `target` has, in pieces that are still in the cache when their CRC is computed."""
        for start in range(0, len(target), PIECE_BYTES):
            piece = target[start : start + PIECE_BYTES]
            if self._read_into(piece) != len(piece):
                raise DamagedError(f"{self._member} ends early")
            self._crc = zlib.crc32(piece, self._crc)
        self.left -= len(target)

    def finish(self) -> None:
        """Require that everything was read, and is what was written."""
        if self.left or self._goes_on():
            raise DamagedError(f"{self._member} does not end where it claims")
        if self._crc != self._member.crc:
            raise DamagedError(f"{self._member} is not what was written: its CRC is another")

    def _read_into(self, piece: memoryview) -> int:
        return self._handle.readinto(piece)

    def _goes_on(self) -> bool:
        return False  # a stored member ends with its bytes


class Inflated(Content):
    """The content of a deflated member."""

    def __init__(self, handle: io.BufferedReader, member: Member) -> None:
        super().__init__(handle, member)
        self._packed_left = member.packed
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)

    def _read_into(self, piece: memoryview) -> int:
        filled = 0
        while filled < len(piece):
            found = self._inflate(len(piece) - filled)
            if not found:
                break
            piece[filled : filled + len(found)] = found
            filled += len(found)
        return filled

    def _goes_on(self) -> bool:
        return bool(self._inflate(1)) or not self._inflater.eof

    def _inflate(self, most: int) -> bytes:
        """Return up to `most` more bytes, none at the end."""
        while not self._inflater.eof:
            source = self._inflater.unconsumed_tail or self._handle.read(min(self._packed_left, PIECE_BYTES))
            if not self._inflater.unconsumed_tail:
                self._packed_left -= len(source)
            try:
                found = self._inflater.decompress(source, most)
            except zlib.error as error:
                raise DamagedError(f"{self._member} cannot be inflated ({error})") from None
            if found or not source:
                return found
        return b""


def open_member(handle: io.BufferedReader, member: Member) -> Content:
    """Return the content of a member, to be read before that of the next one is opened."""
    return Inflated(handle, member) if member.method == DEFLATED else Content(handle, member)
