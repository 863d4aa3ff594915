"""Samples' bytes: read alone or by whole blocks, unpacked, checked, ahead of use where a network is in between.

Here: spans and blocks of shards as checked items, a batch at a time.
Elsewhere: which samples are wanted (loader.py), the index (table.py, places.py), servers and disks (store.urls).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from itertools import repeat
from operator import getitem
from typing import NamedTuple, TypeAlias, cast

import numpy as np
import xxhash

from shardkit.errors import ShardDamaged, ShardkitError, StorageFailed
from shardkit.read.cache import ByteCache
from shardkit.read.cached import read_views, rereading
from shardkit.read.item import Item
from shardkit.read.order import I64
from shardkit.read.places import Place, Places
from shardkit.read.spans import LocalSpans
from shardkit.read.table import Table, Tables
from shardkit.store.layout import Manifest, shard_path
from shardkit.store.manifest import decompress_block
from shardkit.store.ranges import join_ranges
from shardkit.store.urls import ByteStore, LocalStore

Found: TypeAlias = Item | ShardkitError
"""A sample, or why it cannot be had."""

JOINED_BYTES = 4 << 20
"""Neighbours that are announced together travel in requests of up to so many bytes; more would travel one by one
where several connections are faster."""


class Piece(NamedTuple):
    """Bytes to be fetched: their name in the cache, file, offset, bytes there, bytes in memory; what checks them."""

    key: Hashable
    path: str
    offset: int
    length: int
    size: int
    finish: Callable[[memoryview], memoryview]


_xxh3 = xxhash.xxh3_64_intdigest
_new_item: Callable[..., Found] = Item


class Fetcher:
    """Reads samples of one dataset. Shared by threads; `cache_bytes` bounds the blocks kept in memory.

    Blocks in the cache were checked when they came in, sample by sample, so that handing out costs no second look.
    """

    def __init__(self, store: ByteStore, manifest: Manifest, tables: Tables, cache_bytes: int) -> None:
        self._store, self._manifest, self._tables = store, manifest, tables
        self.is_remote = store.is_remote
        self._local = store if isinstance(store, LocalStore) else None
        self._paths = [shard_path(entry) for entry in manifest.shards]
        self._packed = [entry.codec != "tar" for entry in manifest.shards]
        self._spans = None if self._local is None else LocalSpans(self._local, self._paths)
        self._some_packed, self._all_packed = any(self._packed), all(self._packed)
        self._blocks: ByteCache[memoryview] = ByteCache(cache_bytes, len)

    def find(self, shards: I64, ordinals: I64) -> Places:
        """The places of many samples at once. A damaged index becomes the error of its samples."""
        places = Places(shards, ordinals, self._tables.blocks(shards, ordinals))
        for table, group in self._tables.find_many(places.shards, places.blocks, ordinals):
            places.fill(table, group)
        if self._spans is not None and places.sound and not self._all_packed:
            self._spans.advise(places)
        return places

    def find_one(self, shard: int, ordinal: int) -> Place:
        """The place of one sample. Raises ShardDamaged, StorageFailed."""
        table = self._tables.find(shard, ordinal)
        row = ordinal - table.first
        columns = (table.offsets, table.within, table.sizes, table.hashes)
        offset, within, size, wanted = (int(column[row]) for column in columns)
        return shard, ordinal, table, row, offset, within, size, wanted

    def read(self, place: Place, whole_block: bool = False) -> Item:
        """The sample at a place, checked; with `whole_block` its block is read and kept for its neighbours.

        Raises ShardDamaged, StorageFailed.
        """
        shard, ordinal, table, row, _, within, size, _ = place
        if isinstance(table, ShardkitError):
            raise table
        if not (whole_block or self._packed[shard]):
            return self._read_alone(place)
        block = self._block(shard, table, ordinal)
        if block is None:
            return self._read_alone(place)
        return Item(block[within : within + size], shard, ordinal, table, row)

    def read_many(self, places: Places, whole_blocks: bool = False) -> list[Found]:
        """The samples at places, each checked, in their order; or why one cannot be had."""
        if not places.sound:
            return [self._read_or_why(place, whole_blocks) for place in places]
        if (whole_blocks and self._spans is None) or self._all_packed:
            return self._from_blocks(places)
        if not self._some_packed:
            return self._from_spans(places)
        packed = np.array(self._packed)[places.shards]
        found: dict[int, Found] = {}
        for part, read in ((packed, self._from_blocks), (~packed, self._from_spans)):
            numbers = np.flatnonzero(part)
            found.update(zip(numbers.tolist(), read(places.pick(numbers)), strict=True))
        return [found[at] for at in range(len(places))]

    def read_block(self, shard: int, table: Table, ordinals: range) -> Iterable[Item]:
        """The samples of one block in stored order, from one read that nothing keeps."""
        piece, sound = self._block_piece(shard, table, ordinals.start), True
        try:
            block = self._load(piece)
        except _OneIsDamaged as error:
            sound, block = False, error.block
        for ordinal in ordinals:
            row = ordinal - table.first
            within, size = int(table.within[row]), int(table.sizes[row])
            span = block[within : within + size]
            item = Item(span, shard, ordinal, table, row)
            yield item if sound else self._check(span, item, int(table.hashes[row]))

    def announce(self, places: Iterable[Place], executor: Executor, *, whole_blocks: bool) -> int:
        """Begin to read what these samples need and is not there yet; how many bytes that will be.

        What does not fit a quarter of the cache is left to the reader itself. Errors come when the sample is read.
        """
        pieces: dict[Hashable, Piece] = {}
        for place in places:
            shard, ordinal, table = place[:3]
            if not isinstance(table, ShardkitError):
                blocks = whole_blocks or self._packed[shard]
                piece = self._block_piece(shard, table, ordinal) if blocks else self._span_piece(place)
                if 4 * piece.size <= self._blocks.max_bytes:
                    pieces[piece.key] = piece
        announced = self._blocks.announce({key: piece.size for key, piece in pieces.items()})
        for together in _neighbours([pieces[one.key] for one in announced]):
            chosen = [announced[number] for number in together]
            load = partial(self._load_together, [pieces[one.key] for one in chosen])
            self._blocks.fill(chosen, load, executor)
        return sum(one.size for one in announced)

    def forget(self) -> None:
        """Give up the blocks kept."""
        self._blocks.clear()

    def _from_blocks(self, places: Places) -> list[Found]:
        """Samples cut from blocks that are kept for their neighbours."""
        keys, shards, ordinals = places.blocks.tolist(), places.shards.tolist(), places.ordinals.tolist()
        tables: list[Table] = places.tables.tolist()
        blocks: list[memoryview | None] = list(map(self._blocks.ready.get, keys))
        if not all(blocks):
            loaded: dict[int, memoryview | None] = {}
            for at, block in enumerate(blocks):
                if block is None:
                    if keys[at] not in loaded:
                        loaded[keys[at]] = self._block_or_none(shards[at], tables[at], ordinals[at])
                    blocks[at] = loaded[keys[at]]
            if not all(blocks):
                return [
                    self._read_or_why(place, block is not None) for place, block in zip(places, blocks, strict=True)
                ]
        return _items(places, list(_cut(blocks, places.within, places.sizes)))

    def _from_spans(self, places: Places) -> list[Found]:
        """Samples read from their own spans; where one is not good, each is read alone to learn why."""
        spans = None if self._spans is None else self._spans.read(places)
        if spans is None:
            return [self._read_or_why(place, False) for place in places]
        return _items(places, spans)

    def _read_or_why(self, place: Place, whole_block: bool) -> Found:
        try:
            return self.read(place, whole_block)
        except (ShardDamaged, StorageFailed) as error:
            return error

    def _read_alone(self, place: Place) -> Item:
        """One sample from its own span, or cut from a block that is read for it and not kept."""
        shard, ordinal, table, row, offset, within, size, wanted = place
        assert isinstance(table, Table), "its absence was raised before"
        if self._packed[shard]:
            piece = self._block_piece(shard, table, ordinal)
            unpack = self._unpacking(shard, table, ordinal)

            def finish(data: memoryview) -> memoryview:
                span = unpack(data)[within : within + size]
                self._check(span, Item(span, shard, ordinal, table, row), wanted)
                return span

            return Item(self._load(piece._replace(finish=finish)), shard, ordinal, table, row)
        if self._local is None:
            piece = self._span_piece(place)
            return Item(self._blocks.take(piece.key, partial(self._load, piece)), shard, ordinal, table, row)
        span = memoryview(self._local.read_range(self._paths[shard], offset, size))
        return self._check(span, Item(span, shard, ordinal, table, row), wanted)

    def _block_or_none(self, shard: int, table: Table, ordinal: int) -> memoryview | None:
        try:
            return self._block(shard, table, ordinal)
        except (ShardDamaged, StorageFailed):
            return None  # each of its samples says why when it is read alone

    def _block(self, shard: int, table: Table, ordinal: int) -> memoryview | None:
        """A block whose every sample was checked, kept; None where one of them is damaged: then each is read alone."""
        block = self._blocks.ready.get(shard << 32 | ordinal // table.per_block)
        if block is not None:
            return block
        try:
            piece = self._block_piece(shard, table, ordinal)
            return self._blocks.get(piece.key, partial(self._load, piece))
        except _OneIsDamaged:
            return None

    def _span_piece(self, place: Place) -> Piece:
        shard, ordinal, table, row, offset, _, size, wanted = place
        assert isinstance(table, Table), "its absence was raised before"

        def finish(data: memoryview) -> memoryview:
            span = data
            self._check(span, Item(span, shard, ordinal, table, row), wanted)
            return span

        return Piece((shard, ordinal), self._paths[shard], offset, size, size, finish)

    def _block_piece(self, shard: int, table: Table, ordinal: int) -> Piece:
        ref = table.block(ordinal)
        unpack = self._unpacking(shard, table, ordinal)
        key = shard << 32 | ordinal // table.per_block
        return Piece(
            key, self._paths[shard], ref.file_offset, ref.file_bytes, ref.tar_bytes,
            lambda data: self._checked(shard, table, ordinal, unpack(data)),
        )  # fmt: skip

    def _unpacking(self, shard: int, table: Table, ordinal: int) -> Callable[[memoryview], memoryview]:
        if not self._packed[shard]:
            return memoryview
        where, size = f"{self._store.url}/{self._paths[shard]}", table.block(ordinal).tar_bytes
        return lambda data: memoryview(decompress_block(data, size, where))

    def _load(self, piece: Piece) -> memoryview:
        """The bytes of a piece, checked; a copy in a disk cache that fails is removed and fetched again."""
        _, path, offset, length, _, finish = piece
        return rereading(self._store, lambda: finish(read_views(self._store, path, [(offset, length)])[0]))

    def _load_together(self, pieces: list[Piece]) -> list[memoryview | Exception]:
        """The same of several pieces of one file, which travel in one request. What is wrong with one is its own."""
        if len(pieces) > 1:
            ranges = [(piece.offset, piece.length) for piece in pieces]
            with suppress(ShardDamaged):  # then each is asked for alone: most of them are good
                data = read_views(self._store, pieces[0].path, ranges, 0)
                return [piece.finish(one) for piece, one in zip(pieces, data, strict=True)]
        loaded: list[memoryview | Exception] = []
        for piece in pieces:
            try:
                loaded.append(self._load(piece))
            except ShardkitError as error:
                loaded.append(error)
        return loaded

    def _checked(self, shard: int, table: Table, ordinal: int, block: memoryview) -> memoryview:
        """A block after every sample in it was compared with the index, while its bytes are warm from reading."""
        start = ordinal - ordinal % table.per_block
        rows = slice(start - table.first, min(start + table.per_block - table.first, table.samples))
        spans = list(_cut(repeat(block), table.within[rows], table.sizes[rows]))
        if [_xxh3(span) for span in spans] != table.hashes[rows].tolist():
            raise _OneIsDamaged(block)
        if self.is_remote:
            for at, span in enumerate(spans):
                Item(span, shard, start + at, table, rows.start + at).check()
        return block

    def _check(self, span: memoryview, item: Item, wanted: int) -> Item:
        if _xxh3(span) != wanted:
            raise self._damaged(item.shard, item.key)
        if self.is_remote:
            item.check()
        return item

    def _damaged(self, shard: int, key: str) -> ShardDamaged:
        url = self._store.url
        return ShardDamaged(
            f"shard {url}/{self._paths[shard]}, sample {key}: its bytes do not have the digest that the index names; "
            f"run `shardkit verify {url}`"
        )


def _neighbours(pieces: list[Piece]) -> list[tuple[int, ...]]:
    """Which pieces, by number, travel together: those of one file that are next to each other, as they were given."""
    by_path: dict[str, list[int]] = {}
    for number, piece in enumerate(pieces):
        by_path.setdefault(piece.path, []).append(number)
    groups = []
    for numbers in by_path.values():
        ranges = [(pieces[number].offset, pieces[number].length) for number in numbers]
        for join in join_ranges(ranges, 0, JOINED_BYTES):  # what lies between is wanted later, and fetched then
            groups.append(tuple(numbers[member] for member in join.members))
    return sorted(groups, key=min)


def _items(places: Places, spans: list[memoryview]) -> list[Found]:
    columns = (column.tolist() for column in (places.shards, places.ordinals, places.tables, places.rows))
    return list(map(_new_item, spans, *columns, repeat(False), repeat(None), places.members(spans)))


def _cut(blocks: Iterable[memoryview | None], starts: I64, sizes: I64) -> Iterator[memoryview]:
    """The bytes [start, start + size) of each block: not a line of Python a sample."""
    spans = map(getitem, cast("Iterable[memoryview]", blocks), map(slice, starts.tolist(), (starts + sizes).tolist()))
    return cast("Iterator[memoryview]", spans)


class _OneIsDamaged(ShardDamaged):
    """A block cannot be kept as a whole. Never leaves this module."""

    def __init__(self, block: memoryview) -> None:
        super().__init__("a block holds a damaged sample")
        self.block = block
