"""Members of zip files by name, read by ranges.

Here: the table of all members, unpacking one within the limits, its checksum.
Elsewhere: the directory of a zip (zip_directory.py), where the zips lie (places.py).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from shardkit.errors import Refused
from shardkit.sources.archives.names import is_rubbish, mark_of
from shardkit.sources.archives.table import MARK, Table, write_table
from shardkit.sources.archives.zip_directory import DEFLATED, Member, read_members
from shardkit.sources.listing import Entry
from shardkit.sources.places import Place
from shardkit.sources.walk import shown
from shardkit.spec import Archive

RECORD: np.dtype[np.void] = np.dtype(
    [*MARK, ("offset", "<u8"), ("packed", "<u8"), ("size", "<u8"), ("crc", "<u4"), ("file", "<u4"), ("method", "<u2")]
)
LOCAL, LOCAL_FORMAT, LOCAL_BYTES = b"PK\3\4", "<4s5H3L2H", 30
SLACK_BYTES = 1 << 10
"""Read with the member for its name and extra field, whose lengths its own header tells: so one request does."""


class Found(NamedTuple):
    """Where a member lies: the number of its zip, and as its directory says."""

    file: int
    offset: int
    packed: int
    size: int
    crc: int
    method: int


def all_members(place: Place, archives: Iterable[Entry], name: str) -> Iterator[tuple[int, Member]]:
    """(number of the zip, member) of every file in these zips. Raises SourceDamaged."""
    for number, entry in enumerate(archives):
        with place.open(entry) as stream:
            for member in read_members(stream, entry.size, f"source {name}: {shown(entry.path)}"):
                if not is_rubbish(member.name):
                    yield number, member


def write_members(path: Path, members: Iterable[tuple[int, Member]], archive: Archive) -> int:
    """The table of members by what of their names counts; returns how many there are."""

    def records() -> Iterator[tuple[int, ...]]:
        for number, member in members:
            yield (
                *mark_of(member.name, archive), member.offset, member.packed, member.size, member.crc, number,
                member.method,
            )  # fmt: skip

    return write_table(path, RECORD, records())


class Zips:
    """Zip files of a place. One is open at a time. Memory: a member twice."""

    def __init__(self, place: Place, archives: Sequence[Entry], most_bytes: int) -> None:
        self._place, self._archives, self._most = place, archives, most_bytes
        self._number, self._stream = -1, None

    _stream: io.BufferedReader | None

    def read(self, found: Found) -> bytes:
        """The bytes of a member. Raises Refused (too big, not as its directory says), and as Place."""
        if max(found.size, found.packed) > self._most:
            raise Refused("too-big", f"a member of {found.size} bytes")
        data = _unpacked(self._packed(found), found)
        if len(data) != found.size or zlib.crc32(data) != found.crc:
            raise Refused("member-damaged", "its checksum is another one than its archive says")
        return data

    def close(self) -> None:
        """Close the open zip."""
        if self._stream is not None:
            self._stream.close()
        self._number, self._stream = -1, None

    def _packed(self, found: Found) -> memoryview:
        """The bytes as they lie in the zip, behind the member's own header."""
        raw = cast(
            io.RawIOBase, self._opened(found.file).raw
        )  # which asks for all of it at once; what lies around is of no use
        raw.seek(found.offset)
        data = _up_to(raw, LOCAL_BYTES + SLACK_BYTES + found.packed)
        if data[:4] != LOCAL or len(data) < LOCAL_BYTES:
            raise Refused("member-damaged", "there is no member where its archive says")
        names, extras = struct.unpack_from(LOCAL_FORMAT, data)[-2:]
        start = LOCAL_BYTES + names + extras
        if start + found.packed > len(data):
            data += _up_to(raw, start + found.packed - len(data))
        return memoryview(data)[start : start + found.packed]

    def _opened(self, number: int) -> io.BufferedReader:
        if self._stream is None or self._number != number:
            self.close()
            self._number, self._stream = number, self._place.open(self._archives[number])
        return self._stream


def found_in(record: Any) -> Found:
    """A record of the table."""
    return Found(*(int(record[field]) for field in Found._fields))


def _up_to(raw: io.RawIOBase, count: int) -> bytes:
    """`count` bytes, fewer only at the end."""
    parts = []
    while count and (part := raw.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _unpacked(packed: memoryview, found: Found) -> bytes:
    """As many bytes as the directory says and one: more are never made of a member that lies."""
    if found.method != DEFLATED:
        return bytes(packed)
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, found.size + 1)
    except zlib.error:
        raise Refused("member-damaged", "its bytes cannot be unpacked") from None


def open_members(path: Path, name: str) -> Table:
    """The table that write_members wrote. Raises SourceFailed."""
    return Table(path, RECORD, name)
