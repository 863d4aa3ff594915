"""JSON objects, one a line: plain, .gz or .zst.

Here: lines, their partitions and cursors.
Elsewhere: one line's JSON (strict_json.py), decompression (compressed.py), digests of the files (listing.py).

Partitions of several files: every P-th file. Of one plain file: ranges of bytes. Of one compressed file, or one that
was not read when it was pinned: every P-th line, since where lines begin is not known; each partition reads all of it.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from shardkit.errors import Refused
from shardkit.records.row import Cursor, Row
from shardkit.sources.base import BadRow, Pinned, Step
from shardkit.sources.compressed import damage_named, is_compressed, open_stream
from shardkit.sources.listing import CHUNK_BYTES, Entry, read_listing
from shardkit.sources.patterns import selector
from shardkit.sources.places import LocalPlace, Place
from shardkit.sources.record_files import advance
from shardkit.sources.sampling import Scanned
from shardkit.sources.strict_json import parse_object
from shardkit.sources.walk import shown
from shardkit.spec import JsonlSource

ROW_BYTES = 512
"""A row's objects take so much besides its text, which is at most as long as its line."""

NEAR_BYTES = 256 << 10
"""Rows so near are reached by reading on, where only some are wanted."""


class Line(NamedTuple):
    """A line at byte `start` (decompressed) with `number` lines before it; `data` is None where it is too long."""

    start: int
    end: int
    number: int
    data: bytes | None


class Share(NamedTuple):
    """Which lines of a file a partition takes: those that start in [start, stop) and are `rest` modulo `every`."""

    start: int = 0
    stop: int | None = None
    every: int = 1
    rest: int = 0


class Jsonl:
    """A `jsonl` source. `place` is where its files lie: the local folder of its spec, unless another is given."""

    def __init__(self, spec: JsonlSource, place: Place | None = None) -> None:
        self.spec = spec
        self._place = place or LocalPlace(spec.path, spec.name)
        self._packed: bytes | None = None

    def missing_tool(self) -> str:
        """Empty: nothing is needed."""
        return ""

    def pin(self, folder: Path) -> Pinned:
        """List the files with their digests. Rows are not counted, compressed files not opened."""
        revision, _, total = self._place.pin(folder, selector(self.spec.include, (), self.spec.name))
        packed = any(is_compressed(shown(entry.path)) for entry in read_listing(folder, self.spec.name))
        reread = "the decompressed start of the open .gz or .zst file" if packed else ""
        return Pinned(revision=revision, bytes=total, reread=reread)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """One row a line; blank lines are none. The cursor: file in the listing, byte and line in it (decompressed)."""
        first = int(cursor["file"]) if cursor else 0
        alone = len(list(islice(read_listing(folder, self.spec.name), 2))) == 1
        for index, entry in enumerate(read_listing(folder, self.spec.name)):
            if index < first or (not alone and index % partitions != partition):
                continue
            share = _share(entry, partition, partitions) if alone else Share()
            at = (int(cursor["offset"]), int(cursor["line"])) if cursor and index == first else None
            yield from self._file_rows(index, entry, share, at)

    def _file_rows(self, index: int, entry: Entry, share: Share, at: tuple[int, int] | None) -> Iterator[Step]:
        path, spec = shown(entry.path), self.spec
        with self._place.open(entry) as raw, damage_named(raw, path, spec.name):
            stream = open_stream(raw, path)
            offset, number = at or _seek_share(stream, entry, share)
            if at:
                advance(stream, 0, offset)
            for line in read_lines(stream, offset, number, spec.line_bytes):
                if share.stop is not None and line.start >= share.stop:
                    return
                if line.number % share.every == share.rest and (line.data is None or not line.data.isspace()):
                    row = _row(line, path, spec.line_bytes)
                    yield Step(row=row, cursor=_behind(line, index), size=ROW_BYTES + line.end - line.start)

    def scan(self, folder: Path, columns: tuple[str, ...]) -> Iterator[Scanned]:
        """Every row's fields, parsed only where some are wanted, and the cursor before it."""
        before: Cursor | None = None
        for index, entry in enumerate(read_listing(folder, self.spec.name)):
            path = shown(entry.path)
            with self._place.open(entry) as raw, damage_named(raw, path, self.spec.name):
                for line in read_lines(open_stream(raw, path), 0, 0, self.spec.line_bytes):
                    if line.data is None or not line.data.isspace():
                        row = _row(line, path, self.spec.line_bytes) if columns else None
                        yield Scanned(row.fields if isinstance(row, Row) else {}, before)
                        before = _behind(line, index)

    def reads_on(self, folder: Path, at: Cursor | None, wanted: Cursor) -> bool:
        """Within a file: opening one anew reads a chunk of 1 MiB, and a compressed one from its beginning."""
        file = int(wanted["file"])
        if (0 if at is None else at["file"]) != file:
            return False
        if self._packed is None:
            listing = read_listing(folder, self.spec.name)
            self._packed = bytes(is_compressed(shown(entry.path)) for entry in listing)
        return bool(self._packed[file]) or int(wanted["offset"]) - int(at["offset"] if at else 0) < NEAR_BYTES


def read_lines(stream: io.BufferedReader, offset: int, number: int, limit: int) -> Iterator[Line]:
    """Lines from where the stream stands; of one with more than `limit` bytes no more than those are held."""
    while data := stream.readline(limit + 1):
        end, long = offset + len(data), len(data) > limit and not data.endswith(b"\n")
        while long and (rest := stream.readline(CHUNK_BYTES)):
            end += len(rest)
            if rest.endswith(b"\n"):
                break
        yield Line(offset, end, number, None if long else data)
        offset, number = end, number + 1


def _behind(line: Line, file: int) -> Cursor:
    return {"file": file, "offset": line.end, "line": line.number + 1}


def _row(line: Line, path: str, limit: int) -> Row | BadRow:
    position = f"{path}:{line.number + 1}"
    if line.data is None:
        return BadRow(position=position, reason="too-big", detail=f"a line of more than {limit} bytes")
    try:
        data = line.data if line.start else line.data.removeprefix(codecs.BOM_UTF8)  # a mark of the file, not text
        return Row(position=position, fields=parse_object(data.rstrip(b"\r\n")))
    except Refused as refused:
        return BadRow(position=position, reason=refused.reason, detail=refused.detail)


def _share(entry: Entry, partition: int, partitions: int) -> Share:
    if is_compressed(shown(entry.path)) or not entry.newlines:  # the number of a line in the middle is not known
        return Share(every=partitions, rest=partition)
    return Share(start=entry.size * partition // partitions, stop=entry.size * (partition + 1) // partitions)


def _seek_share(stream: io.BufferedReader, entry: Entry, share: Share) -> tuple[int, int]:
    """Go to the first line that starts at or behind `share.start`; returns its offset and the lines before it."""
    if not share.start:
        return 0, 0
    offset = share.start - 1  # a line that starts exactly at share.start has its line feed here
    chunk = offset // CHUNK_BYTES
    stream.seek(chunk * CHUNK_BYTES)
    before = int.from_bytes(entry.newlines[chunk * 8 : chunk * 8 + 8], "little")
    number = before + stream.read(offset - chunk * CHUNK_BYTES).count(b"\n")
    while data := stream.readline(CHUNK_BYTES):
        offset += len(data)
        if data.endswith(b"\n"):
            number += 1
            break
    return offset, number
