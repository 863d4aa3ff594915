"""A JSON file that is one list of objects, or an object with such a list, read item by item.

Here: finding the list and where each item ends, in bounded memory.
Elsewhere: what one item is (strict_json.py), partitions and cursors (record_files.py), where the files lie (places.py).
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from pathlib import Path

from shardkit.errors import Refused, SourceDamaged
from shardkit.records.row import Cursor, Row
from shardkit.sources.base import BadRow, Pinned, Step
from shardkit.sources.places import LocalPlace, Place
from shardkit.sources.record_files import Found, Mark, RecordFiles, advance
from shardkit.sources.strict_json import parse_object
from shardkit.spec import JsonSource

PIECE_BYTES = 1 << 18
KEY_BYTES = 1 << 12
SPACE = re.compile(rb"[ \t\r\n]*")
OUTSIDE = re.compile(rb'["{}\[\]]')
INSIDE = re.compile(rb'["\\]')
SCALAR_END = re.compile(rb"[,\]} \t\r\n]")


class Json:
    """A `json` source. `place` is where its files lie: the local folder of its spec, unless another is given."""

    def __init__(self, spec: JsonSource, place: Place | None = None) -> None:
        self.spec = spec
        self._files = RecordFiles(spec.name, place or LocalPlace(spec.path, spec.name), self._read, self._check)

    def missing_tool(self) -> str:
        """Empty: nothing is needed."""
        return ""

    def pin(self, folder: Path) -> Pinned:
        """List the files and find the list in each. Raises SpecError where one has none."""
        return self._files.pin(folder, self.spec.include)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """One row an item; see RecordFiles."""
        return self._files.rows(folder, partition, partitions, cursor)

    def _check(self, stream: io.BufferedReader, path: str) -> None:
        self._begin(stream, path)

    def _begin(self, stream: io.BufferedReader, path: str) -> tuple[Document, bool]:
        """The document in front of its list's first item, and whether the list lies in an object."""
        document = Document(stream, f"source {self.spec.name}: {path}", self.spec.item_bytes)
        return document, document.find_list(self.spec.key)

    def _read(self, stream: io.BufferedReader, path: str, mark: Mark) -> Iterator[Found]:
        document, inside = self._begin(stream, path)
        if mark.offset:
            document.go_to(mark.offset)
        number = mark.number
        for data in document.items(first=not mark.offset):
            number += 1
            yield Found(document.at, _row(data, f"{path}:{number}", self.spec.item_bytes))
        document.finish(inside)


class Document:
    """A JSON document while it is read; `at` is the next byte. Raises SourceDamaged where it is none or is cut."""

    def __init__(self, stream: io.BufferedReader, where: str, limit: int) -> None:
        self._stream, self._where, self._limit = stream, where, limit
        self._buffer, self._next, self._before = b"", 0, 0

    @property
    def at(self) -> int:
        """The byte that comes next."""
        return self._before + self._next

    def find_list(self, key: str) -> bool:
        """Go to the first item of the list: the document itself, or what its `key` holds (then True)."""
        self._skip(codecs.BOM_UTF8)
        if self._take() == b"[":
            return False
        self._next -= 1
        for name in self._keys():
            if name == key and self._peek() == b"[":
                self._next += 1
                return True
            self.value(0)
        raise SourceDamaged(
            f"{self._where} is an object without a list {key!r}; name the list's key under `key`, or read the file as "
            "jsonl where it holds an object a line"
        )

    def items(self, *, first: bool) -> Iterator[bytes | None]:
        """The items of the list up to its end; None for those of more than the limit. `first`: none was read yet."""
        if first and self._peek() == b"]":
            self._next += 1
            return
        while True:
            if not first and self._take() == b"]":
                return
            elif not first and self._last() != b",":
                raise self._broken()
            first = False
            self._peek()
            yield self.value(self._limit)

    def finish(self, inside: bool) -> None:
        """Read what is behind the list, to know that the document is whole."""
        if inside:
            for _ in self._keys(started=True):
                self.value(0)
        if self._more() and self._peek_or_end():
            raise self._broken()

    def go_to(self, offset: int) -> None:
        """Go on at a byte further on, which may have been read already."""
        if offset <= self._before + len(self._buffer):
            self._next = offset - self._before
            return
        advance(self._stream, self._before + len(self._buffer), offset)
        self._buffer, self._next, self._before = b"", 0, offset

    def value(self, limit: int) -> bytes | None:
        """The bytes of the value that comes next, or None where they are more than `limit`."""
        parts: list[bytes] = []
        first = self._peek()
        if first in (b",", b"]", b"}", b":"):
            raise self._broken()
        size, scan = 0, Scan(first)
        while True:
            if not self._more():
                raise self._broken()
            end = scan.end(self._buffer, self._next)
            stop = len(self._buffer) if end < 0 else end
            size += stop - self._next
            if size <= limit:
                parts.append(self._buffer[self._next : stop])
            else:
                parts.clear()
            self._next = stop
            if end >= 0:
                return b"".join(parts) if size <= limit else None

    def _keys(self, *, started: bool = False) -> Iterator[str]:
        """The keys of the object that begins here (or, `started`, is in its middle); each value is read in between."""
        if not started and (self._take() != b"{"):
            raise self._broken()
        separator = self._take()
        if not started and separator == b'"':
            self._next -= 1
            separator = b","
        while separator == b",":
            if self._peek() != b'"':
                raise self._broken()
            name = self.value(KEY_BYTES)
            if self._take() != b":":
                raise self._broken()
            self._peek()
            yield (name or b'""')[1:-1].decode("utf-8", "replace")
            separator = self._take()
        if separator != b"}":
            raise self._broken()

    def _take(self) -> bytes:
        """The next byte that is no space, consumed."""
        self._peek()
        self._next += 1
        return self._last()

    def _last(self) -> bytes:
        return self._buffer[self._next - 1 : self._next]

    def _peek(self) -> bytes:
        """The next byte that is no space."""
        found = self._peek_or_end()
        if not found:
            raise self._broken()
        return found

    def _peek_or_end(self) -> bytes:
        while self._more():
            match = SPACE.match(self._buffer, self._next)
            self._next = match.end() if match else self._next
            if self._next < len(self._buffer):
                return self._buffer[self._next : self._next + 1]
        return b""

    def _skip(self, mark: bytes) -> None:
        if self._more() and self._buffer.startswith(mark):
            self._next = len(mark)

    def _more(self) -> bool:
        """Whether a byte comes next; the buffer holds it then."""
        if self._next < len(self._buffer):
            return True
        self._before += len(self._buffer)
        self._buffer, self._next = self._stream.read(PIECE_BYTES), 0
        return bool(self._buffer)

    def _broken(self) -> SourceDamaged:
        return SourceDamaged(
            f"{self._where} is no whole JSON list near byte {self.at}; replace it with a whole copy, or read it as "
            "jsonl where it holds an object a line"
        )


class Scan:
    """Finds the end of one value, piece by piece: strings and brackets are followed, the rest is not looked at."""

    def __init__(self, first: bytes) -> None:
        self._scalar = first not in (b'"', b"{", b"[")
        self._depth, self._string, self._escaped = 0, False, False

    def end(self, data: bytes, at: int) -> int:
        """The index behind the value, or -1 where it goes on behind this piece."""
        if self._scalar:
            match = SCALAR_END.search(data, at)
            return match.start() if match else -1
        while at < len(data):
            if self._escaped:
                at, self._escaped = at + 1, False
                continue
            match = (INSIDE if self._string else OUTSIDE).search(data, at)
            if match is None:
                return -1
            at = match.end()
            self._follow(match[0])
            if not self._depth and not self._string:
                return at
        return -1

    def _follow(self, mark: bytes) -> None:
        if mark == b"\\":
            self._escaped = True
        elif mark == b'"':
            self._string = not self._string
        else:
            self._depth += 1 if mark in (b"{", b"[") else -1


def _row(data: bytes | None, position: str, limit: int) -> Row | BadRow:
    if data is None:
        return BadRow(position=position, reason="too-big", detail=f"an item of more than {limit} bytes")
    try:
        return Row(position=position, fields=parse_object(data))
    except Refused as refused:
        return BadRow(position=position, reason=refused.reason, detail=refused.detail)
