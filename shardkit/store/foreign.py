"""A bounded, suspicious reader of tars that others made.

Here: one pass over a stream: plain headers, PAX path and mtime, GNU long names; everything else is refused.
Elsewhere: our own tars, which are read strictly (tar.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import msgspec

from shardkit.errors import ShardDamaged
from shardkit.store.tar import BLOCK

FILE_TYPES = (b"0", b"\0", b"7")
FOLDER = b"5"
LONG_NAME, PAX, PAX_GLOBAL = b"L", b"x", b"g"
HARMLESS_PAX = {"path", "mtime", "atime", "ctime", "comment", "uid", "gid", "uname", "gname"}


class ForeignLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of what is read: bytes of a member and of an extension header, extension headers in a row, members."""

    member_bytes: int = 512 << 20
    extension_bytes: int = 64 << 10
    chained_extensions: int = 4
    members: int = 10_000_000


class ForeignMember(NamedTuple):
    """One regular file: its name without `./`, where its data lie in the tar, and the data."""

    name: str
    offset: int
    data: bytes


def read_foreign(stream: BinaryIO, where: str, limits: ForeignLimits | None = None) -> Iterator[ForeignMember]:
    """The regular files of a tar, in order; folders are passed over.

    Raises ShardDamaged for links, devices, sparse files, PAX sizes, numbers that are not octal, names that are
    absolute, climb, repeat or hold NUL, members beyond the limits, a cut or anything but zeros behind the end.
    """
    return _Reader(stream, where, limits or ForeignLimits()).members()


class _Reader:
    def __init__(self, stream: BinaryIO, where: str, limits: ForeignLimits) -> None:
        self._stream, self._where, self._limits = stream, where, limits
        self._at = 0
        self._seen: set[str] = set()

    def members(self) -> Iterator[ForeignMember]:
        while (header := self._next_header()) is not None:
            long_name = ""
            chained = 0
            while header[156:157] in (LONG_NAME, PAX, PAX_GLOBAL):
                chained += 1
                if chained > self._limits.chained_extensions:
                    raise self._damaged("too many extension headers in a row")
                long_name = self._extension(header) or long_name
                following = self._next_header()
                if following is None:
                    raise self._damaged("ends behind an extension header")
                header = following
            member = self._member(header, long_name)
            if member is not None:
                yield member

    def _next_header(self) -> bytes | None:
        header = self._take(BLOCK)
        if header.strip(b"\0"):
            wanted = sum(header) - sum(header[148:156]) + 8 * 0x20
            if self._octal(header[148:156], "checksum") != wanted:
                raise self._damaged("a header has a wrong checksum")
            return header
        self._check_end()
        return None

    def _check_end(self) -> None:
        if self._take(BLOCK).strip(b"\0"):
            raise self._damaged("one zero block, where two end a tar")
        while chunk := self._stream.read(1 << 16):
            if chunk.strip(b"\0"):
                raise self._damaged("data behind the end of the tar")

    def _extension(self, header: bytes) -> str:
        size = self._octal(header[124:136], "size")
        if size > self._limits.extension_bytes:
            raise self._damaged(f"an extension header of {size} bytes")
        data = self._padded(size)
        if header[156:157] == LONG_NAME:
            return self._text(data.rstrip(b"\0"))
        return self._pax(data)

    def _pax(self, data: bytes) -> str:
        path = ""
        while data:
            match = re.match(rb"([1-9][0-9]{0,5}) ", data)
            size = int(match[1]) if match else 0
            record = data[:size]
            if match is None or len(record) != size or record[-1:] != b"\n" or b"=" not in record:
                raise self._damaged("a PAX record of a wrong form")
            key, _, value = record[match.end() : -1].partition(b"=")
            name = self._text(key)
            if name not in HARMLESS_PAX:
                raise self._damaged(f"a PAX record {name[:40]!r}; only path and times are read")
            path = self._text(value) if name == "path" else path
            data = data[size:]
        return path

    def _member(self, header: bytes, long_name: str) -> ForeignMember | None:
        size = self._octal(header[124:136], "size")
        kind = header[156:157]
        name = self._name(long_name or self._short_name(header))
        if kind == FOLDER and size == 0:
            return None
        if kind not in FILE_TYPES:
            raise self._damaged(f"{name[:80]!r} is of type {kind!r}; only regular files are read")
        if size > self._limits.member_bytes:
            raise self._damaged(f"{name[:80]!r} has {size} bytes, at most {self._limits.member_bytes} are read")
        if name in self._seen or len(self._seen) >= self._limits.members:
            raise self._damaged(f"{name[:80]!r} occurs twice, or there are too many members")
        self._seen.add(name)
        offset = self._at
        return ForeignMember(name, offset, self._padded(size))

    def _short_name(self, header: bytes) -> str:
        name, prefix = header[:100], header[345:500] if header[257:263] == b"ustar\0" else b""
        parts = [self._text(part.rstrip(b"\0")) for part in (prefix, name)]
        return "/".join(part for part in parts if part)

    def _name(self, name: str) -> str:
        while name.startswith("./"):
            name = name[2:]
        parts = name.rstrip("/").split("/")
        if "\0" in name or "\\" in name or name.startswith("/") or ".." in parts:
            raise self._damaged(f"the name {name[:80]!r} is absolute, climbs, or holds NUL")
        return name

    def _padded(self, size: int) -> bytes:
        return self._take(size + -size % BLOCK)[:size]

    def _take(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise self._damaged(f"cut short: {size} bytes wanted, {len(data)} found")
        self._at += size
        return data

    def _octal(self, field: bytes, what: str) -> int:
        match = re.fullmatch(rb" *([0-7]+)[ \0]*", field)
        if match is None:
            raise self._damaged(f"the {what} {field!r} is not an octal number")
        return int(match[1], 8)

    def _text(self, data: bytes) -> str:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise self._damaged("a name that is not UTF-8") from None
        if "\0" in text:
            raise self._damaged("a name with NUL")
        return text

    def _damaged(self, message: str) -> ShardDamaged:
        return ShardDamaged(f"{self._where}, offset {self._at}: {message}; make the tar again with plain regular files")
