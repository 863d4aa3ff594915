"""The central directory of a zip file, read as a stream.

Here: finding it, one member after the other, what is refused.
Elsewhere: the bytes of members (zips.py), how a row names one (names.py).

Format: APPNOTE.TXT 6.3.10 of PKWARE, with the records of zip64. Python's own reader holds every entry at once as an
object of half a kilobyte; a directory of a million members has to be read in the memory of one.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

from shardkit.errors import SourceDamaged

END, END64, LOCATOR, CENTRAL = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2"
END_FORMAT, END64_FORMAT, LOCATOR_FORMAT = "<4s4H2LH", "<4sQ2H2L4Q", "<4sLQL"
CENTRAL_FORMAT = "<4s6H3L5H2L"
END_BYTES, END64_BYTES, LOCATOR_BYTES, CENTRAL_BYTES = map(
    struct.calcsize, (END_FORMAT, END64_FORMAT, LOCATOR_FORMAT, CENTRAL_FORMAT)
)
COMMENT_BYTES = 0xFFFF
STORED, DEFLATED = 0, 8
ENCRYPTED, UTF8 = 1, 1 << 11
FULL2, FULL4 = 0xFFFF, 0xFFFFFFFF
"""What a field holds whose value stands in a record of zip64."""


class Member(NamedTuple):
    """A file in a zip: where its local header begins, its bytes as they lie there and unpacked, how they are packed."""

    name: str
    offset: int
    packed: int
    size: int
    crc: int
    method: int


class Directory(NamedTuple):
    """Where the directory begins, its bytes and entries; `shift` is what stands before the zip itself."""

    start: int
    size: int
    entries: int
    shift: int


def read_members(stream: io.BufferedReader, size: int, where: str) -> Iterator[Member]:
    """The entries of a zip of `size` bytes, folders too, in the directory's order.

    Raises SourceDamaged: no zip, cut, in parts, encrypted, packed in another way than stored or deflated.
    """
    directory = find_directory(stream, size, where)
    stream.seek(directory.start)
    left = directory.size
    for _ in range(directory.entries):
        member, length = _entry(stream, left, directory, where)
        left -= length
        yield member


def find_directory(stream: io.BufferedReader, size: int, where: str) -> Directory:
    """Find the central directory from the records at the end. Raises SourceDamaged."""
    start = max(0, size - END_BYTES - COMMENT_BYTES)
    stream.seek(start)
    tail = stream.read(size - start)
    at = tail.rfind(END)
    while at >= 0 and not _ends_whole(tail, at):
        at = tail.rfind(END, 0, at)
    if at < 0:
        raise _damaged(where, "has no directory at its end: it is no zip, or was cut")
    _, disk, first, here, count, length, offset, _ = struct.unpack_from(END_FORMAT, tail, at)
    behind = start + at
    wide = _zip64(stream, behind, where)  # some write it though the small record has room for all
    if wide is not None:
        behind, disk, first, here, count, length, offset = wide
    if disk or first or here != count:
        raise _damaged(where, "is one part of a zip in several parts")
    shift = behind - length - offset
    if shift < 0 or count * CENTRAL_BYTES > length:
        raise _damaged(where, f"says that it has {count} members in a directory that is not there")
    return Directory(offset + shift, length, count, shift)


def _ends_whole(tail: bytes, at: int) -> bool:
    """Whether the record at `at` and its comment, which may hold anything, end with the file."""
    comment = tail[at + END_BYTES - 2 : at + END_BYTES]
    return len(comment) == 2 and at + END_BYTES + int.from_bytes(comment, "little") == len(tail)


def _zip64(stream: io.BufferedReader, end: int, where: str) -> tuple[int, int, int, int, int, int, int] | None:
    """(where the record begins, then as in the small one); None where there is none."""
    if end < LOCATOR_BYTES:
        return None
    stream.seek(end - LOCATOR_BYTES)
    locator = stream.read(LOCATOR_BYTES)
    signature, _, offset, disks = struct.unpack(LOCATOR_FORMAT, locator)
    if signature != LOCATOR:
        return None
    if disks > 1:
        raise _damaged(where, "is one part of a zip in several parts")
    for at in (offset, end - LOCATOR_BYTES - END64_BYTES):  # the second, where something stands before the zip
        if 0 <= at <= end - LOCATOR_BYTES - END64_BYTES:
            stream.seek(at)
            record = stream.read(END64_BYTES)
            if record[:4] == END64:
                _, _, _, _, disk, first, here, count, length, start = struct.unpack(END64_FORMAT, record)
                return at, disk, first, here, count, length, start
    raise _damaged(where, "has no zip64 directory where it says")


def _entry(stream: io.BufferedReader, left: int, directory: Directory, where: str) -> tuple[Member, int]:
    """(an entry, its bytes in the directory)."""
    head = stream.read(CENTRAL_BYTES) if left >= CENTRAL_BYTES else b""
    if len(head) != CENTRAL_BYTES or head[:4] != CENTRAL:
        raise _damaged(where, "has a directory with fewer entries than it says")
    (_, _, _, flags, method, _, _, crc, packed, size, names, extras, comments, disk, _, _, offset) = struct.unpack(
        CENTRAL_FORMAT, head
    )
    length = CENTRAL_BYTES + names + extras + comments
    rest = stream.read(names + extras + comments) if length <= left else b""
    if len(rest) != length - CENTRAL_BYTES:
        raise _damaged(where, "has an entry that reaches beyond its directory")
    name = _name(rest[:names], flags)
    size, packed, offset, disk = _wide(rest[names : names + extras], (size, packed, offset, disk), name, where)
    if flags & ENCRYPTED or method not in (STORED, DEFLATED):
        how = "encrypted" if flags & ENCRYPTED else f"packed by method {method}"
        raise _damaged(where, f"holds {name[:80]!r}, which is {how}; only stored and deflated members are read")
    if disk or offset + directory.shift + packed > directory.start or (method == STORED and packed != size):
        raise _damaged(where, f"says that {name[:80]!r} lies where it cannot")
    return Member(name, offset + directory.shift, packed, size, crc, method), length


def _wide(extras: bytes, values: tuple[int, int, int, int], name: str, where: str) -> tuple[int, int, int, int]:
    """(size, packed, offset, disk), those that are full from the extra field of zip64 in this order."""
    size, packed, offset, disk = values
    if size != FULL4 and packed != FULL4 and offset != FULL4 and disk != FULL2:
        return values
    wide = _extra(extras, 1)
    at, found = 0, []
    for value, full, width in ((size, FULL4, 8), (packed, FULL4, 8), (offset, FULL4, 8), (disk, FULL2, 4)):
        if value == full and wide is not None:
            if at + width > len(wide):
                raise _damaged(where, f"has a broken zip64 entry for {name[:80]!r}")
            value = int.from_bytes(wide[at : at + width], "little")
            at += width
        found.append(value)
    return found[0], found[1], found[2], found[3]


def _extra(extras: bytes, wanted: int) -> bytes | None:
    """The extra field of a number."""
    at = 0
    while at + 4 <= len(extras):
        kind, length = struct.unpack_from("<HH", extras, at)
        if kind == wanted:
            return extras[at + 4 : at + 4 + length]
        at += 4 + length
    return None


def _name(data: bytes, flags: int) -> str:
    """UTF-8, where it is or is said to be; else the code page of the first zips."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", "backslashreplace") if flags & UTF8 else data.decode("cp437")


def _damaged(where: str, how: str) -> SourceDamaged:
    return SourceDamaged(f"{where} {how}; give another archive, or tell its owner")
