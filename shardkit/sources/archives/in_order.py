"""Rows with the members of tars that they name, in the order of the tars.

Here: the table of rows by the members that they name, going through the tars, the rows whose member never came.
Elsewhere: the members of one tar (tar_members.py), zips, which need no order (joined.py).

A compressed tar has no random access and a plain one no directory: so the rows are looked up, which are small, and the
tars are read once from their beginnings, no further than rows are wanted. The rows that no tar had a member for come
last: refused where they name one, as they are where they name none.

Which rows have come is a bit each. It is kept on disk at the end of each tar; within one, a resume goes through its
members again, of a plain tar by their headers alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shardkit.errors import SourceChanged, SourceFailed
from shardkit.records.row import Cursor, Row
from shardkit.sources.archives.joined import Reader
from shardkit.sources.archives.names import Mark, mark_of, named_by
from shardkit.sources.archives.table import MARK, Records, Table, write_table
from shardkit.sources.archives.tar_members import TarMember, tar_members
from shardkit.sources.base import BadRow, Step
from shardkit.sources.gather import is_wanted
from shardkit.sources.listing import Entry, write_private
from shardkit.sources.places import Place
from shardkit.sources.sampling import scan_rows
from shardkit.sources.sampling.chosen import Place as At
from shardkit.sources.sampling.sampled import Reader as RowReader
from shardkit.spec import HubSource

ROW: np.dtype[np.void] = np.dtype([*MARK, ("number", "<u8"), ("cursor", "<u8")])
"""A row by the member that it names: its number, and where in CURSORS the cursor before it stands."""
ROWS, CURSORS = "rows", "rows-cursors"
INNER = "rows."
"""Before the fields of the rows' own cursor in one of a row whose member never came."""


class InOrder:
    """A reader's rows in the order of the tars that hold their media; one column, one partition."""

    def __init__(
        self, reader: Reader, spec: HubSource, place: Place, archives: Sequence[Entry], most_bytes: int
    ) -> None:
        self._reader, self._spec, self._place = reader, spec, place
        self._archives, self._most = archives, most_bytes
        [(self._column, self._archive)] = spec.archives.items()

    def pin(self, folder: Path) -> int:
        """Read all rows once for the names in them, of which the table is kept; returns how many rows there are."""
        count = 0

        def cursors() -> Iterator[bytes]:
            nonlocal count
            for scanned in scan_rows(self._reader, folder, self._needed):
                count += 1
                yield msgspec.msgpack.encode((scanned.before, self._wanted(scanned.fields)))

        write_private(folder / CURSORS, _lengths(cursors()))
        write_table(folder / ROWS, ROW, self._records(folder))
        return count

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """The rows that a tar has the member of, then the others. The cursor: tar, byte in it, rows of that member."""
        del partition, partitions
        last = len(self._archives)
        number, offset, done = (int(cursor[name]) for name in ("tar", "offset", "done")) if cursor else (0, 0, 0)
        met = self._load_met(folder, number)
        reader = _Rows(self._reader, folder, self._spec.name)
        try:
            for at in range(number, last):
                start = (offset, done) if at == number else (0, 0)
                yield from self._tar(at, start, met, reader)
                write_private(folder / f"met-{at + 1}", [bytes(met.bits)])
        finally:
            reader.close()
        yield from self._others(folder, met, cursor if number == last else None)

    @property
    def _needed(self) -> tuple[str, ...]:
        """The columns that tell what a row wants."""
        return (self._archive.key or self._column, *self._spec.where, *self._spec.unless)

    def _wanted(self, fields: Any) -> str:
        """The member that a row wants; none where the row itself is not wanted."""
        return named_by(fields, self._column, self._archive) if is_wanted(fields, self._spec) else ""

    def _records(self, folder: Path) -> Iterator[tuple[int, ...]]:
        for number, (at, record) in enumerate(_read_lengths(folder / CURSORS)):
            name = msgspec.msgpack.decode(record)[1]
            if name:
                yield *mark_of(name, self._archive), number, at

    def _tar(self, at: int, start: tuple[int, int], met: _Met, reader: _Rows) -> Iterator[Step]:
        """The rows of one tar's members, behind `done` rows of the member at `offset`."""
        offset, done = start
        for member in tar_members(self._place, self._archives[at], self._spec.name):
            rows = reader.find(mark_of(member.name, self._archive))
            new = [row for row in rows if row["number"] not in met]
            met.add(int(row["number"]) for row in new)
            if member.start < offset or not new:
                continue
            skip = done if member.start == offset else 0
            medium = self._data(member)
            for count, row in enumerate(new[skip:], skip + 1):
                whole = count == len(new)
                cursor: Cursor = {
                    "tar": at, "offset": member.end if whole else member.start, "done": 0 if whole else count,
                }  # fmt: skip
                yield Step(row=self._joined(reader.read(row), medium, member.name), cursor=cursor)

    def _data(self, member: TarMember) -> bytes | None:
        return member.read() if member.size <= self._most else None

    def _joined(self, row: Any, medium: bytes | None, name: str) -> Any:
        if not isinstance(row, Row):
            return row
        if medium is None:
            return BadRow(position=row.position, reason="too-big", detail=name[:200])
        return msgspec.structs.replace(row, blobs={**row.blobs, self._column: medium})

    def _others(self, folder: Path, met: _Met, cursor: Cursor | None) -> Iterator[Step]:
        """Rows whose member was in no tar."""
        start = int(cursor["done"]) if cursor else 0
        inner = {name.removeprefix(INNER): value for name, value in (cursor or {}).items() if name.startswith(INNER)}
        for number, step in enumerate(self._reader.rows(folder, 0, 1, inner or None), start):
            if number in met:
                continue
            row = step.row
            name = self._wanted(row.fields) if isinstance(row, Row) else ""
            if name:
                row = BadRow(position=row.position, reason="no-media", detail=f"{name[:200]}: no archive has it")
            behind: Cursor = {f"{INNER}{field}": value for field, value in step.cursor.items()}
            yield Step(row=row, cursor={"tar": len(self._archives), "offset": 0, "done": number + 1, **behind})

    def _load_met(self, folder: Path, number: int) -> _Met:
        """The rows that have come before a tar."""
        try:
            return _Met((folder / f"met-{number}").read_bytes() if number else b"")
        except OSError:
            raise SourceFailed(
                f"source {self._spec.name}: what it notes under .build is missing; build with --update to begin again"
            ) from None


class _Met:
    """Numbers of rows that have come, a bit each."""

    def __init__(self, bits: bytes) -> None:
        self.bits = bytearray(bits)

    def add(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            self.bits.extend(bytes(max(0, number // 8 + 1 - len(self.bits))))
            self.bits[number // 8] |= 1 << number % 8

    def __contains__(self, number: object) -> bool:
        at = int(number)  # type: ignore[call-overload]
        return at // 8 < len(self.bits) and bool(self.bits[at // 8] >> at % 8 & 1)


class _Rows:
    """The rows of a reader at any place, and the table of the members that they name."""

    def __init__(self, reader: Reader, folder: Path, name: str) -> None:
        self._reader, self._folder, self._name = reader, folder, name
        self._open: RowReader | None = None
        self._table = Table(folder / ROWS, ROW, name)
        self._cursors = (folder / CURSORS).open("rb")

    def find(self, mark: Mark) -> Records:
        """The records of the rows that name a member."""
        return self._table.find(mark)

    def read(self, record: Any) -> Any:
        """The row that a record of the table tells of."""
        self._cursors.seek(int(record["cursor"]))
        length = int.from_bytes(self._cursors.read(4), "little")
        before = msgspec.msgpack.decode(self._cursors.read(length))[0]
        place = At(int(record["number"]), before)
        if self._open is None or not self._open.is_near(place):
            self._close_reader()
            self._open = RowReader(self._reader, self._folder, place)  # type: ignore[arg-type]
        step = self._open.read(place.number)
        if step is None:
            raise SourceChanged(
                f"source {self._name}: it has fewer rows than were planned; build with --update to plan it again"
            )
        return step.row

    def close(self) -> None:
        self._close_reader()
        self._cursors.close()

    def _close_reader(self) -> None:
        if self._open is not None:
            self._open.close()


def _lengths(records: Iterator[bytes]) -> Iterator[bytes]:
    for record in records:
        yield len(record).to_bytes(4, "little") + record


def _read_lengths(path: Path) -> Iterator[tuple[int, bytes]]:
    """(where a record begins, the record)."""
    at = 0
    with path.open("rb") as stream:
        while head := stream.read(4):
            record = stream.read(int.from_bytes(head, "little"))
            yield at, record
            at += 4 + len(record)
