"""One sample as it is handed out: its record, decoded when asked for, and its members as views of the bytes read.

Here: the item, and the row of the index that it stands on.
Elsewhere: reading and checking the bytes (fetch.py).
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from shardkit.errors import Refused, ShardDamaged
from shardkit.records.sample import Sample, decode_sample, member_names
from shardkit.store import tar
from shardkit.store.index import MemberEntry, blake3_128


class Rows(Protocol):
    """What an item needs of the index."""

    @property
    def foreign(self) -> str:
        """The name of the source where others made the tar; empty for a shard of ours."""
        ...

    def key(self, row: int) -> str:
        """The key of a row: 32 hex digits, or its name in a tar that others made."""
        ...

    def members(self, row: int) -> list[MemberEntry]:
        """The members of a row, KEY.json (`json`) first."""
        ...

    def views(self, row: int, span: memoryview) -> dict[str, memoryview]:
        """The same by name, as views of the row's span."""
        ...


class Item(msgspec.Struct, eq=False, gc=False):
    """A sample whose bytes were checked against the index when they were read.

    `shard` is the shard's number in the manifest, `ordinal` the sample's number in the shard. `padded` marks a
    repetition that only fills a batch. Members are views: keep `bytes(item.members[name])` of what must stay, as a
    view keeps the whole block in memory. Equal items have equal bytes. Pickling copies this sample's bytes alone.
    """

    _span: memoryview
    shard: int
    ordinal: int
    _rows: Rows
    _row: int
    padded: bool = False
    _sample: Sample | None = None
    _members: dict[str, memoryview] | None = None

    @property
    def key(self) -> str:
        """The sample's key: 32 hex digits; in a tar that others made its name, as webdataset gives it."""
        return self._rows.key(self._row)

    @property
    def members(self) -> dict[str, memoryview]:
        """The bytes of every member by name; `json` is the record itself."""
        members = self._members
        if members is None:
            members = self._members = self._rows.views(self._row, self._span)
        return members

    @property
    def sample(self) -> Sample:
        """The record, decoded strictly on first use. Raises ShardDamaged where it does not fit its members.

        In a tar that others made it is what shapes.py makes of the members; raises Refused where no shape fits.
        """
        if self._sample is None:
            members = self.members
            if self._rows.foreign:
                from shardkit.read.shapes import sample_of  # only here: it brings the decoders of media

                self._sample = sample_of(self.key, self._rows.foreign, members)
                return self._sample
            try:
                sample = decode_sample(members[tar.JSON])
            except Refused as error:
                raise ShardDamaged(f"sample {self.key}: its KEY.json is not a record: {error.detail}") from None
            missing = [name for name in member_names(sample) if name not in members]
            if missing:
                raise ShardDamaged(f"sample {self.key}: its record names {missing[0]}, which its shard does not hold")
            self._sample = sample
        return self._sample

    @property
    def is_foreign(self) -> bool:
        """Whether others made its tar: then nobody has looked at its members before they were stored."""
        return bool(self._rows.foreign)

    @property
    def size_bytes(self) -> int:
        """Bytes of the sample in the tar, headers and padding included."""
        return len(self._span)

    def as_padding(self) -> Item:
        """The same sample, marked as padding."""
        return Item(self._span, self.shard, self.ordinal, self._rows, self._row, True)

    def detached(self) -> Item:
        """The same sample with a copy of its bytes, which keeps no block in memory."""
        return Item(memoryview(bytes(self._span)), self.shard, self.ordinal, self._rows, self._row, self.padded)

    def check(self) -> None:
        """Compare the tar's headers and every member's BLAKE3-128 with the index; for bytes from a network.

        On local files the span's XXH3-64 is enough: it covers the headers as they were written. Raises ShardDamaged.
        Headers of tars that others made are not looked at again: names and places come from the index alone.
        """
        span, start, members = self._span, self.key.encode(), self.members
        foreign = bool(self._rows.foreign)
        for name, offset, _, digest in self._rows.members(self._row):
            wanted = b"%b.%b\0" % (start, name.encode())
            if not foreign and bytes(span[offset - tar.BLOCK :][: len(wanted)]) != wanted:
                raise ShardDamaged(f"sample {self.key}: the index places member {name} at {offset}, the tar does not")
            if blake3_128(members[name]) != digest:
                raise ShardDamaged(f"sample {self.key}: member {name} does not have the digest of the index")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Item):
            return NotImplemented
        same_place = (self.shard, self.ordinal, self.padded) == (other.shard, other.ordinal, other.padded)
        return same_place and self.key == other.key and self._span == other._span

    def __hash__(self) -> int:
        return hash((self.shard, self.ordinal))

    def __repr__(self) -> str:
        return f"Item(key={self.key!r}, shard={self.shard}, ordinal={self.ordinal}, padded={self.padded})"

    def __reduce__(self) -> tuple[object, ...]:
        row = _OneRow(name=self.key, entries=tuple(self._rows.members(self._row)), foreign=self._rows.foreign)
        return _restore, (bytes(self._span), self.shard, self.ordinal, row, self.padded)


class _OneRow(msgspec.Struct, frozen=True):
    """The row of a single item that left its process."""

    name: str
    entries: tuple[MemberEntry, ...]
    foreign: str = ""

    def key(self, row: int) -> str:
        return self.name

    def members(self, row: int) -> list[MemberEntry]:
        return list(self.entries)

    def views(self, row: int, span: memoryview) -> dict[str, memoryview]:
        return {name: span[offset : offset + size] for name, offset, size, _ in self.entries}


def _restore(span: bytes, shard: int, ordinal: int, row: _OneRow, padded: bool) -> Item:
    return Item(memoryview(span), shard, ordinal, row, 0, padded)
