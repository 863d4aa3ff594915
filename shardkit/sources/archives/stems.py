"""Rows that are files of one name: loose ones, or the members of zip files.

Here: the listing of such files in order, which of them are one row, cursors.
Elsewhere: from members to fields and blobs (sources.members), names (store.tar_index), zips (zips.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from shardkit.errors import Refused, SourceChanged, SpecError
from shardkit.records.row import Cursor, Row
from shardkit.sources.archives.zip_directory import Member
from shardkit.sources.archives.zips import Found
from shardkit.sources.base import BadRow, Step
from shardkit.sources.listing import Entry, read_listing
from shardkit.sources.members import Members, row_of_members
from shardkit.sources.places import Place
from shardkit.sources.walk import shown
from shardkit.spec import HubSource
from shardkit.store.tar_index import split_name

MOST_FILES = 500_000
"""Files that are rows by their names are sorted in memory: some 300 bytes each."""

Fetch = Callable[[Entry], bytes]
"""Reads a listed file whole. Raises Refused for one that is damaged, and as Place."""


class _Numbered(NamedTuple):
    """A file of the listing: its number, its entry, the name that its row has, what it is to the row."""

    number: int
    entry: Entry
    stem: str
    member: str


class Stems:
    """Files of a listing, a row for each name. Partition p of P takes every P-th row."""

    def __init__(self, spec: HubSource, fetch: Fetch, most_bytes: int) -> None:
        self._spec, self._fetch, self._most = spec, fetch, most_bytes
        self._choices = [name for name in spec.columns.values() if ";" in name]

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """One row a name; the cursor is the number of the next file in the listing."""
        start = int(cursor["index"]) if cursor else 0
        for number, (stem, files) in enumerate(groupby(self._listed(folder), key=lambda file: file.stem)):
            own = list(files)
            if own[0].number >= start and number % partitions == partition:
                yield Step(row=self._row(stem, own), cursor={"index": own[-1].number + 1})

    def _listed(self, folder: Path) -> Iterator[_Numbered]:
        for number, entry in enumerate(read_listing(folder, self._spec.name)):
            split = split_name(shown(entry.path))
            if split is not None:
                yield _Numbered(number, entry, *split)

    def _row(self, stem: str, files: list[_Numbered]) -> Row | BadRow:
        sample = Members(stem, self._most)
        if len({file.member for file in files}) != len(files):
            return BadRow(position=stem, reason="schema", detail="two of its files have the same ending")
        try:
            for file in files:
                if sample.room_for(file.entry.size):
                    sample.members[file.member] = self._fetch(file.entry)
        except Refused as refused:
            return BadRow(position=stem, reason=refused.reason, detail=refused.detail)
        return row_of_members(sample, stem, self._choices)


def fetch_from(place: Place, name: str) -> Fetch:
    """Reading of loose files."""

    def fetch(entry: Entry) -> bytes:
        with place.open(entry) as stream:
            data = stream.read(entry.size)
        if len(data) != entry.size:
            raise SourceChanged(f"source {name}: {shown(entry.path)} became shorter while it was read; run again")
        return data

    return fetch


def sorted_files(entries: Iterable[Entry], name: str) -> list[Entry]:
    """Files in the order in which those of one name are neighbours. Raises SpecError (too many)."""
    found = list(islice(entries, MOST_FILES + 1))
    if len(found) > MOST_FILES:
        raise SpecError(
            f"source {name}: more than {MOST_FILES} files are rows by their names; name fewer of them as `data_files`"
        )
    return sorted(found, key=lambda entry: entry.path)


def member_entries(members: Iterable[tuple[int, Member]], archives: list[str]) -> Iterator[Entry]:
    """Members of zips as files of a listing, below their zip's name where there are several."""
    for number, member in members:
        path = f"{archives[number]}/{member.name}" if len(archives) > 1 else member.name
        found = Found(number, member.offset, member.packed, member.size, member.crc, member.method)
        yield Entry(path.encode("utf-8", "surrogatepass"), member.size, msgspec.msgpack.encode(tuple(found)))


def member_of(entry: Entry) -> Found:
    """What member_entries wrote of a member."""
    return Found(*msgspec.msgpack.decode(entry.digest, type=tuple[int, int, int, int, int, int]))
