"""Files of records whose ends only reading finds (csv, lists of json): partitions and cursors over them.

Here: which files and records a partition takes, going on behind a cursor.
Elsewhere: where one record ends and what is in it (csv.py, json_list.py), where the files lie (places.py).

Partitions of several files: every P-th file. Of one file: every P-th record, since where a record begins is known only
from the file's start; each partition reads all of it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from shardkit.errors import SourceDamaged, SpecError
from shardkit.records.row import Cursor, Row
from shardkit.sources.base import BadRow, Pinned, Step
from shardkit.sources.compressed import damage_named, is_compressed, open_stream
from shardkit.sources.listing import CHUNK_BYTES, Entry, read_listing
from shardkit.sources.patterns import selector
from shardkit.sources.places import Place
from shardkit.sources.walk import shown


class Found(NamedTuple):
    """A record of a file: the byte behind it (decompressed), and its row."""

    end: int
    row: Row | BadRow


class Mark(NamedTuple):
    """How far a file was read: `offset` is the byte behind the last record (0: none yet), `number` counts records."""

    offset: int = 0
    number: int = 0


Read = Callable[[io.BufferedReader, str, Mark], Iterator[Found]]
"""Records of a stream that stands at its beginning, behind a mark, with the path for positions."""
Check = Callable[[io.BufferedReader, str], None]
"""Looks at the beginning of a file when it is pinned; raises SpecError."""


class RecordFiles:
    """Files of a place, a record a row."""

    def __init__(self, name: str, place: Place, read: Read, check: Check) -> None:
        self._name, self._place, self._read, self._check = name, place, read, check

    def pin(self, folder: Path, include: tuple[str, ...]) -> Pinned:
        """List the files and look at the beginning of each. Rows are not counted."""
        revision, _, total = self._place.pin(folder, selector(include, (), self._name))
        packed = False
        for entry in read_listing(folder, self._name):
            path = shown(entry.path)
            packed = packed or is_compressed(path)
            try:
                with self._place.open(entry) as raw, damage_named(raw, path, self._name):
                    self._check(open_stream(raw, path), path)
            except SourceDamaged as error:
                raise SpecError(str(error)) from None
        reread = "the decompressed start of the open .gz or .zst file" if packed else ""
        return Pinned(revision=revision, bytes=total, reread=reread)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """One row a record. The cursor: file in the listing, byte and record in it (decompressed)."""
        first = int(cursor["file"]) if cursor else 0
        alone = len(list(islice(read_listing(folder, self._name), 2))) == 1
        for index, entry in enumerate(read_listing(folder, self._name)):
            if index < first or (not alone and index % partitions != partition):
                continue
            mark = Mark(int(cursor["offset"]), int(cursor["record"])) if cursor and index == first else Mark()
            number = mark.number
            for end, row in self._file_rows(entry, mark):
                if not alone or number % partitions == partition:
                    yield Step(row=row, cursor={"file": index, "offset": end, "record": number + 1})
                number += 1

    def _file_rows(self, entry: Entry, mark: Mark) -> Iterator[Found]:
        path = shown(entry.path)
        with self._place.open(entry) as raw, damage_named(raw, path, self._name):
            yield from self._read(open_stream(raw, path), path, mark)


def advance(stream: io.BufferedReader, at: int, to: int) -> None:
    """Go from byte `at` to byte `to`: at once in a plain file, by decompressing what is between in a compressed one."""
    if isinstance(stream.raw, io.RawIOBase) and stream.seekable():
        stream.seek(to)
        return
    while at < to and (data := stream.read(min(to - at, CHUNK_BYTES))):
        at += len(data)
