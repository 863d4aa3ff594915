"""Rows with the members of zip files that they name.

Here: the rows of a reader, each with its media, in the reader's own order and with its cursors.
Elsewhere: members and their table (zips.py), names (names.py), tars, which have an order of their own (in_order.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from shardkit.errors import Refused
from shardkit.records.row import Cursor, Row
from shardkit.sources.archives.names import mark_of, named_by
from shardkit.sources.archives.table import Table
from shardkit.sources.archives.zips import Zips, found_in, open_members
from shardkit.sources.base import BadRow, Passed, Step
from shardkit.sources.gather import is_wanted
from shardkit.sources.listing import Entry
from shardkit.sources.places import Place
from shardkit.sources.sampling import Scanned, scan_rows
from shardkit.spec import Archive, HubSource

SEVERAL = "several members have the name"


class Reader(Protocol):
    """What reads the rows."""

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """See Source."""
        ...


class Column(NamedTuple):
    """One column's members: what the spec says, the table of names, the zips."""

    name: str
    archive: Archive
    table: Table
    zips: Zips


class Joined:
    """A reader whose rows get the members of zips. `archives` are the zips by column, `most_bytes` a member's."""

    def __init__(
        self, reader: Reader, spec: HubSource, place: Place, archives: Mapping[str, Sequence[Entry]], most_bytes: int
    ) -> None:
        self._reader, self._spec, self._place = reader, spec, place
        self._archives, self._most = archives, most_bytes

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """The reader's rows with their media; a row whose member is not there, or is damaged, is refused."""
        columns = [self._column(name, folder) for name in self._spec.archives]
        try:
            for step in self._reader.rows(folder, partition, partitions, cursor):
                yield Step(row=self._complete(step.row, columns), cursor=step.cursor)
        finally:
            for column in columns:
                column.zips.close()

    def scan(self, folder: Path, columns: tuple[str, ...]) -> Iterator[Scanned]:
        """See sampling.Scans: no media are read."""
        yield from scan_rows(self._reader, folder, columns)

    def reads_on(self, folder: Path, at: Cursor | None, wanted: Cursor) -> bool:
        """See sampling.ReadsOn: between two rows there may be many media that nobody wants."""
        del folder, at, wanted
        return False

    def _column(self, name: str, folder: Path) -> Column:
        zips = Zips(self._place, self._archives[name], self._most)
        return Column(name, self._spec.archives[name], open_members(table_path(folder, name), self._spec.name), zips)

    def _complete(self, row: Row | BadRow | Passed, columns: Sequence[Column]) -> Row | BadRow | Passed:
        if not isinstance(row, Row) or not is_wanted(row.fields, self._spec):
            return row
        found: dict[str, bytes] = {}
        for column in columns:
            name = named_by(row.fields, column.name, column.archive)
            try:
                found |= {column.name: _read(name, column)} if name else {}
            except Refused as refused:
                detail = f"{name[:200]}: {refused.detail}"
                return BadRow(position=row.position, reason=refused.reason, detail=detail)
        return msgspec.structs.replace(row, blobs={**row.blobs, **found})


def table_path(folder: Path, column: str) -> Path:
    """Where the table of a column's members lies in a source's private folder."""
    return folder / f"members-{column.encode().hex()}"


def _read(name: str, column: Column) -> bytes:
    records = column.table.find(mark_of(name, column.archive))
    if not len(records):
        raise Refused("no-media", "no member of the archives has the name")
    if len(records) > 1:
        raise Refused("no-media", SEVERAL)
    return column.zips.read(found_in(records[0]))
