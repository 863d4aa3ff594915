"""Comma and tab separated values: plain, .gz or .zst.

Here: where a record ends (quotes may hold line feeds), its fields, the header.
Elsewhere: partitions and cursors (record_files.py), decompression (compressed.py), where the files lie (places.py).

Format: RFC 4180, and beyond it what Python's csv module takes: a quote within an unquoted field is a character. All
values are text.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shardkit.errors import SourceDamaged, SpecError
from shardkit.records.normalize import columns_read
from shardkit.records.row import Cursor, Row
from shardkit.sources.base import BadRow, Pinned, Step
from shardkit.sources.listing import CHUNK_BYTES
from shardkit.sources.places import LocalPlace, Place
from shardkit.sources.record_files import Found, Mark, RecordFiles, advance
from shardkit.spec import CsvSource

START, PLAIN, QUOTED, CLOSED = range(4)
"""Where a scan stands: at a field's start, in an unquoted field, within quotes, behind a quote that may close them."""


class Raw(NamedTuple):
    """The bytes of a record with its line end (none where they are too many), the byte behind it, an open quote."""

    data: bytes | None
    end: int
    unclosed: bool = False


class Csv:
    """A `csv` source. `place` is where its files lie: the local folder of its spec, unless another is given."""

    def __init__(self, spec: CsvSource, place: Place | None = None) -> None:
        self.spec = spec
        self._files = RecordFiles(spec.name, place or LocalPlace(spec.path, spec.name), self._read, self._check)
        csv.field_size_limit(max(csv.field_size_limit(), spec.record_bytes))  # ours is checked before

    def missing_tool(self) -> str:
        """Empty: nothing is needed."""
        return ""

    def pin(self, folder: Path) -> Pinned:
        """List the files and read their headers. Raises SpecError where a header lacks all columns that are read."""
        return self._files.pin(folder, self.spec.include)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """One row a record; see RecordFiles."""
        return self._files.rows(folder, partition, partitions, cursor)

    def _check(self, stream: io.BufferedReader, path: str) -> None:
        names, _ = self._header(stream, path)
        wanted = columns_read(self.spec)
        if not any(name in names for name in wanted):
            raise SpecError(
                f"source {self.spec.name}: {path} has none of the columns that {self.spec.normalizer} reads "
                f"({', '.join(wanted)}); it has: {', '.join(names)[:500]}; map them under `columns`, check `delimiter`"
            )

    def _header(self, stream: io.BufferedReader, path: str) -> tuple[tuple[str, ...], int]:
        """(names of the columns, the byte behind the header)."""
        spec, where = self.spec, f"source {self.spec.name}: {path}"
        if not spec.header:
            return spec.names, 0
        first = next(read_records(stream, 0, spec.record_bytes, self._dialect(path)), None)
        try:
            if first is None or first.data is None or first.unclosed:
                raise ValueError
            names = tuple(_fields(first.data.removeprefix(codecs.BOM_UTF8), self._dialect(path)))
        except (ValueError, csv.Error):
            raise SourceDamaged(f"{where} begins with no header of csv in UTF-8; give a whole csv file") from None
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SourceDamaged(f"{where} has a column twice in its header: {', '.join(twice)[:200]}; rename one")
        if spec.names and len(spec.names) != len(names):
            raise SourceDamaged(f"{where} has {len(names)} columns in its header, `names` has {len(spec.names)}")
        return spec.names or names, first.end

    def _read(self, stream: io.BufferedReader, path: str, mark: Mark) -> Iterator[Found]:
        names, behind = self._header(stream, path)
        start = max(mark.offset, behind)
        advance(stream, behind, start)
        number, dialect = mark.number, self._dialect(path)
        for raw in read_records(stream, start, self.spec.record_bytes, dialect):
            data = raw.data
            if data is not None and raw.end - len(data) == 0:
                data = data.removeprefix(codecs.BOM_UTF8)
            if data is None or data.strip(b"\r\n"):
                number += 1
                yield Found(raw.end, self._row(Raw(data, raw.end, raw.unclosed), names, dialect, f"{path}:{number}"))

    def _row(self, raw: Raw, names: tuple[str, ...], dialect: Dialect, position: str) -> Row | BadRow:
        if raw.unclosed:
            return BadRow(position=position, reason="not-csv", detail="a quote that is never closed")
        if raw.data is None:
            detail = f"a record of more than {self.spec.record_bytes} bytes"
            return BadRow(position=position, reason="too-big", detail=detail)
        try:
            values = _fields(raw.data, dialect)
        except UnicodeDecodeError:
            return BadRow(position=position, reason="not-utf8", detail="the record is not UTF-8")
        except csv.Error:
            return BadRow(position=position, reason="not-csv", detail="a carriage return outside quotes")
        if len(values) != len(names):
            detail = f"{len(values)} fields, wanted {len(names)}"
            return BadRow(position=position, reason="not-csv", detail=detail)
        return Row(position=position, fields=dict(zip(names, values, strict=True)))

    def _dialect(self, path: str) -> Dialect:
        tabs = path.lower().removesuffix(".gz").removesuffix(".zst").endswith((".tsv", ".tab"))
        return Dialect(self.spec.delimiter or ("\t" if tabs else ","), self.spec.quote)


class Dialect(NamedTuple):
    """The character between fields, and the one around them (empty: none has a meaning)."""

    delimiter: str = ","
    quote: str = '"'


def read_records(stream: io.BufferedReader, offset: int, limit: int, dialect: Dialect) -> Iterator[Raw]:
    """Records from where the stream stands, at byte `offset`; of one with more than `limit` bytes few are held."""
    held = bytearray()
    quote, delimiter = dialect.quote.encode(), dialect.delimiter.encode()
    begin, end, state = offset, offset, START
    while piece := stream.readline(CHUNK_BYTES):
        end += len(piece)
        whole = piece.endswith(b"\n")
        if quote and (state != START or not whole or quote in piece):
            state = _scan(piece.rstrip(b"\r\n") if whole else piece, state, quote, delimiter)
        if whole and state != QUOTED and begin + len(piece) == end <= begin + limit:
            yield Raw(piece, end)  # a line, as most are
            begin, state = end, START
            continue
        held += piece if end - begin <= limit else b""
        if whole and state != QUOTED:
            yield Raw(bytes(held) if end - begin <= limit else None, end)
            held, begin, state = bytearray(), end, START
    if end > begin:
        yield Raw(bytes(held) if end - begin <= limit else None, end, state == QUOTED)


def _scan(piece: bytes, state: int, quote: bytes, delimiter: bytes) -> int:
    """The state behind a piece of a record, by jumps from quote to quote and from field to field."""
    at = 0
    while at < len(piece):
        here = piece[at : at + 1]
        if state == QUOTED:
            at = piece.find(quote, at) + 1
            if not at:
                return QUOTED
            state = CLOSED
        elif state == CLOSED and here in (quote, delimiter):
            at, state = at + 1, QUOTED if here == quote else START
        elif state == START and here == quote:
            at, state = at + 1, QUOTED
        else:
            at = piece.find(delimiter, at) + 1
            if not at:
                return PLAIN
            state = START
    return state


def _fields(data: bytes, dialect: Dialect) -> list[str]:
    """The fields of one record. Raises UnicodeDecodeError, csv.Error."""
    lines, delimiter = [data.decode()], dialect.delimiter
    if not dialect.quote:
        return next(csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE))
    return next(csv.reader(lines, delimiter=delimiter, quotechar=dialect.quote))
