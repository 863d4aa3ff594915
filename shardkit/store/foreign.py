"""A bounded, suspicious reader of tars that others made.

Here: one pass over a stream: plain headers, PAX path and mtime, GNU long names; everything else is refused.
Elsewhere: our own tars, which are read strictly (tar.py), samples and their index (tar_index.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import msgspec
import xxhash

from shardkit.errors import ShardDamaged
from shardkit.store.tar import BLOCK

FILE_TYPES = (b"0", b"\0", b"7")
FOLDER = b"5"
LONG_NAME, PAX, PAX_GLOBAL = b"L", b"x", b"g"
EXTENSIONS = (LONG_NAME, PAX, PAX_GLOBAL)
HARMLESS_PAX = {"path", "mtime", "atime", "ctime", "comment", "uid", "gid", "uname", "gname", "charset"}
HARMLESS_PREFIXES = ("SCHILY.xattr.", "SCHILY.dev", "SCHILY.ino", "SCHILY.nlink", "LIBARCHIVE.", "RHT.security.")
"""PAX records that say nothing about where bytes lie or how many there are; bsdtar and GNU tar write them."""

OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
CONTROL = re.compile(r"[\0-\x1f\x7f]")
PIECE_BYTES = 1 << 20
NAME_BYTES = 4096


class ForeignLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of what is read: bytes of a member and of an extension header, extension headers in a row, members.

    `end_bytes` are the zeros behind the last member at most. `unended` takes a tar that stops at a member's end
    without two zero blocks, as some tools write it: then a cut there cannot be told from the end.
    """

    member_bytes: int = (8 << 30) - 1
    extension_bytes: int = 64 << 10
    chained_extensions: int = 4
    members: int = 2_000_000
    end_bytes: int = 4 << 20
    unended: bool = False


class Stream(Protocol):
    """What is read from: as many bytes as asked for, fewer only at the end."""

    def read(self, size: int, /) -> bytes:
        """The next `size` bytes."""
        ...


class ForeignFile(NamedTuple):
    """One file or folder: its name as it stands, where its first header and its data begin, bytes, raw headers."""

    name: str
    start: int
    offset: int
    size: int
    headers: bytes
    is_folder: bool = False


class ForeignMember(NamedTuple):
    """One regular file: its name without `./`, where its data lie in the tar, and the data."""

    name: str
    offset: int
    data: bytes


def read_foreign(stream: Stream, where: str, limits: ForeignLimits | None = None) -> Iterator[ForeignMember]:
    """The regular files of a tar with their data, in order; folders are passed over. Raises as ForeignReader."""
    reader = ForeignReader(stream, where, limits or ForeignLimits(member_bytes=512 << 20))
    for file in reader.files():
        if not file.is_folder:
            yield ForeignMember(_plain(file.name), file.offset, b"".join(reader.pieces()))


class ForeignReader:
    """The regular files and folders of a tar, in order, their data piece by piece.

    Raises ShardDamaged for links, devices, sparse files, PAX sizes, numbers that are not octal, names that are
    absolute, climb, repeat or hold control characters, members beyond the limits or the tar's end (`total_bytes`,
    where it is known), a cut, or anything but zeros behind the end.
    """

    def __init__(self, stream: Stream, where: str, limits: ForeignLimits, total_bytes: int | None = None) -> None:
        self._stream, self._where, self._limits = stream, where, limits
        self._total = total_bytes
        self._seen: set[int] = set()
        self._left = self._pad = 0
        self.at = 0
        """Bytes read so far; at the end, those of the tar."""
        self.padding = b""
        """What stands behind the file's data, once they are read."""

    def files(self) -> Iterator[ForeignFile]:
        """Each file and folder; what its user leaves unread is passed over."""
        while True:
            start, headers = self.at, self._next_header()
            if headers is None:
                return
            yield self._file(headers, start)
            for _ in self.pieces():
                pass

    def pieces(self) -> Iterator[bytes]:
        """The present file's data, at most PIECE_BYTES at a time; `padding` is set at their end."""
        while self._left:
            size = min(self._left, PIECE_BYTES)
            last = size == self._left
            data = self._take(size + self._pad if last else size)
            self._left -= size
            if last:
                self.padding, self._pad = data[size:], 0
            yield data[:size] if last else data

    def _next_header(self) -> list[bytes] | None:
        """A header, the extension headers with their data before it; none at the tar's end."""
        found: list[bytes] = []
        while True:
            header = self._header()
            if header is None and found:
                raise self._damaged("ends behind an extension header")
            if header is None:
                return None
            found.append(header)
            if header[156:157] not in EXTENSIONS:
                return found
            if len(found) // 2 >= self._limits.chained_extensions:
                raise self._damaged("too many extension headers in a row")
            size = self._octal(header[124:136], "size")
            if size > self._limits.extension_bytes:
                raise self._damaged(f"an extension header of {size} bytes")
            found.append(self._take(size + -size % BLOCK))

    def _header(self) -> bytes | None:
        header = self._stream.read(BLOCK)
        if not header and self._limits.unended:
            return None
        if len(header) != BLOCK:
            raise self._cut(BLOCK, len(header))
        self.at += BLOCK
        if header.count(0) == BLOCK:
            self._check_end()
            return None
        wanted = sum(header) - sum(header[148:156]) + 8 * 0x20
        if self._octal(header[148:156], "checksum") != wanted:
            raise self._damaged("a header has a wrong checksum")
        return header

    def _check_end(self) -> None:
        zeros = BLOCK
        while chunk := self._stream.read(min(PIECE_BYTES, self._limits.end_bytes)):
            if chunk.count(0) != len(chunk):
                raise self._damaged("one zero block or data behind the end, where only zeros end a tar")
            zeros += len(chunk)
            self.at += len(chunk)
            if zeros > self._limits.end_bytes:
                raise self._damaged(f"more than {self._limits.end_bytes} zeros at the end")
        if zeros < 2 * BLOCK and not self._limits.unended:
            raise self._damaged("one zero block, where two end a tar")

    def _file(self, headers: list[bytes], start: int) -> ForeignFile:
        header = headers[-1]
        name = ""
        for extension, data in zip(headers[:-1:2], headers[1::2], strict=True):
            name = self._extended_name(extension, data) or name
        name = name or self._short_name(header)
        kind, size = header[156:157], self._octal(header[124:136], "size")
        self._left, self._pad, self.padding = size, -size % BLOCK, b""
        if (kind == FOLDER or (kind == b"\0" and name.endswith("/"))) and size == 0:
            return ForeignFile(name, start, self.at, 0, b"".join(headers), True)
        if kind not in FILE_TYPES:
            raise self._damaged(f"{name[:80]!r} is of type {kind!r}; only regular files are read")
        self._check_name(name)
        self._check_size(name, size)
        return ForeignFile(name, start, self.at, size, b"".join(headers))

    def _extended_name(self, header: bytes, data: bytes) -> str:
        data = data[: self._octal(header[124:136], "size")]
        if header[156:157] == LONG_NAME:
            return self._text(data.rstrip(b"\0"))
        path = self._pax(data)
        if path and header[156:157] == PAX_GLOBAL:
            raise self._damaged("a global PAX header names a path")
        return path

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
            if name not in HARMLESS_PAX and not name.startswith(HARMLESS_PREFIXES):
                raise self._damaged(f"a PAX record {name[:40]!r}; only path and times are read")
            path = self._text(value) if name == "path" else path
            data = data[size:]
        return path

    def _short_name(self, header: bytes) -> str:
        name, prefix = header[:100], header[345:500] if header[257:263] == b"ustar\0" else b""
        parts = [self._text(part.partition(b"\0")[0]) for part in (prefix, name)]
        if name.strip(b"\0") != name.partition(b"\0")[0]:
            raise self._damaged("a name with NUL")
        return "/".join(part for part in parts if part)

    def _check_name(self, name: str) -> None:
        plain = _plain(name)
        encoded = plain.encode()
        climbs = ".." in plain and ".." in plain.split("/")
        if not plain or "\\" in name or plain.startswith("/") or climbs or len(encoded) > NAME_BYTES:
            raise self._damaged(f"the name {name[:80]!r} is empty, absolute, too long, climbs or holds a backslash")
        if CONTROL.search(name):
            raise self._damaged(f"the name {name[:80]!r} holds control characters")
        mark = xxhash.xxh3_64_intdigest(encoded)
        if mark in self._seen or len(self._seen) >= self._limits.members:
            raise self._damaged(f"{name[:80]!r} occurs twice, or there are too many members")
        self._seen.add(mark)

    def _check_size(self, name: str, size: int) -> None:
        if size > self._limits.member_bytes:
            raise self._damaged(f"{name[:80]!r} has {size} bytes, at most {self._limits.member_bytes} are read")
        if self._total is not None and size > self._total - self.at:
            raise self._damaged(
                f"{name[:80]!r} has {size} bytes where {max(0, self._total - self.at)} are left; it is cut short"
            )

    def _take(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise self._cut(size, len(data))
        self.at += size
        return data

    def _octal(self, field: bytes, what: str) -> int:
        match = OCTAL.fullmatch(field)
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

    def _cut(self, wanted: int, found: int) -> ShardDamaged:
        remedy = "fetch it again from where it came"
        if not found and wanted == BLOCK:
            remedy += ", or where it is whole but without its last zero blocks, `shardkit index --unended` takes it"
        cut = f"cut short: {wanted} bytes wanted, {found} found"
        return ShardDamaged(f"{self._where}, offset {self.at}: {cut}; {remedy}")

    def _damaged(self, message: str) -> ShardDamaged:
        return ShardDamaged(f"{self._where}, offset {self.at}: {message}; make the tar again with plain regular files")


def _plain(name: str) -> str:
    """A name without the `./` that some tars have before each."""
    while name.startswith("./"):
        name = name[2:]
    return name
