"""Samples' bytes: read alone or by whole blocks, unpacked, checked, ahead of use where a network is in between.

Here: spans and blocks of shards as checked items, a batch at a time.
Elsewhere: which samples are wanted (loader.py), the index (table.py, places.py), servers and disks (store.urls).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Executor
from itertools import repeat
from operator import getitem
from typing import TypeAlias, cast

import numpy as np
import xxhash

from shardkit.errors import ShardDamaged, ShardkitError, StorageFailed
from shardkit.read.buffers import Buffers
from shardkit.read.cache import ByteCache
from shardkit.read.item import Item
from shardkit.read.order import I64
from shardkit.read.places import Place, Places
from shardkit.read.table import Table, Tables
from shardkit.store.layout import Manifest, shard_path
from shardkit.store.manifest import decompress_block
from shardkit.store.urls import ByteStore, LocalStore

ARENA_BYTES = 1 << 20
"""Samples that are read alone for one batch share buffers of about this size, which stay in the processor's cache."""

LARGEST_ARENA = 16 << 20

Found: TypeAlias = Item | ShardkitError
"""A sample, or why it cannot be had."""

Loading: TypeAlias = tuple[Hashable, Callable[[], memoryview]]
"""What bytes are called in the cache, and how they are read."""

_xxh3 = xxhash.xxh3_64_intdigest
_new_item: Callable[[memoryview, int, int, Table, int], Found] = Item


class Fetcher:
    """Reads samples of one dataset. Shared by threads; `cache_bytes` bounds the blocks kept in memory.

    Blocks in the cache were checked when they came in, sample by sample, so that handing out costs no second look.
    """

    def __init__(self, store: ByteStore, manifest: Manifest, tables: Tables, cache_bytes: int) -> None:
        self._store, self._manifest, self._tables = store, manifest, tables
        self.is_remote = store.is_remote
        self._local = store if isinstance(store, LocalStore) else None
        self._buffers = Buffers()
        self._paths = [shard_path(entry) for entry in manifest.shards]
        self._packed = [entry.codec != "tar" for entry in manifest.shards]
        self._some_packed, self._all_packed = any(self._packed), all(self._packed)
        self._blocks: ByteCache[memoryview] = ByteCache(cache_bytes, len)

    def find(self, shards: I64, ordinals: I64) -> Places:
        """The places of many samples at once. A damaged index becomes the error of its samples."""
        places = Places(shards, ordinals, self._tables.blocks(shards, ordinals))
        for table, group in self._tables.find_many(places.shards, places.blocks, ordinals):
            places.fill(table, group)
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
        if whole_blocks or self._all_packed:
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
        block = self._load_block(shard, table, ordinals.start)
        for ordinal in ordinals:
            row = ordinal - table.first
            within, size = int(table.within[row]), int(table.sizes[row])
            span = block[within : within + size]
            if _xxh3(span) != int(table.hashes[row]):
                raise self._damaged(shard, table.key(row))
            item = Item(span, shard, ordinal, table, row)
            if self.is_remote:
                item.check()
            yield item

    def announce(self, places: Iterable[Place], executor: Executor, *, whole_blocks: bool) -> int:
        """Begin to read what these samples need and is not there yet; how many bytes that will be.

        What does not fit a quarter of the cache is left to the reader itself. Errors come when the sample is read.
        """
        expected = 0
        for place in places:
            shard, ordinal, table, _, offset, _, size, _ = place
            if isinstance(table, ShardkitError):
                continue
            if whole_blocks or self._packed[shard]:
                key, load = self._block_loader(shard, table, ordinal)
                size = table.block(ordinal).tar_bytes
            else:
                key, load = self._span_loader(shard, ordinal, offset, size)
            if 4 * size <= self._blocks.max_bytes and self._blocks.start(key, load, executor):
                expected += size
        return expected

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
        spans = _cut(blocks, places.within, places.sizes)
        return list(map(_new_item, spans, shards, ordinals, tables, places.rows.tolist()))

    def _from_spans(self, places: Places) -> list[Found]:
        """Samples read one by one, neighbours in the batch into one buffer: one view of it holds up to a MiB."""
        if self._local is None:
            return [self._read_or_why(place, False) for place in places]
        read_into, paths, xxh3 = self._local.read_into, self._paths, _xxh3
        found: list[Found] = []
        left = int(places.sizes.sum())
        at = room = 0
        for shard, ordinal, table, row, offset, _, size, wanted in places:
            if at + size > room:
                room = min(max(size, ARENA_BYTES), max(size, left))
                buffer = self._buffers.take(room)
                shown, at = buffer.toreadonly(), 0
            left -= size
            end = at + size
            span = buffer[at:end]
            try:
                read_into(paths[shard], offset, span)
            except (ShardDamaged, StorageFailed) as error:
                found.append(error)
                continue
            if xxh3(span) != wanted:
                found.append(self._damaged(shard, table.key(row)))  # type: ignore[union-attr]
                continue
            found.append(Item(shown[at:end], shard, ordinal, table, row))  # type: ignore[arg-type]
            at = end
        return found

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
            span = self._load_block(shard, table, ordinal)[within : within + size]
        elif self._local is None:
            span = self._blocks.take(*self._span_loader(shard, ordinal, offset, size))
        else:
            buffer = self._buffers.take(size) if size <= LARGEST_ARENA else memoryview(bytearray(size))
            self._local.read_into(self._paths[shard], offset, buffer)
            span = buffer.toreadonly()
        if _xxh3(span) != wanted:
            raise self._damaged(shard, table.key(row))
        item = Item(span, shard, ordinal, table, row)
        if self.is_remote:
            item.check()
        return item

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
            return self._blocks.get(*self._block_loader(shard, table, ordinal))
        except _OneIsDamaged:
            return None

    def _span_loader(self, shard: int, ordinal: int, offset: int, size: int) -> Loading:
        return (shard, ordinal), lambda: memoryview(self._store.read_range(self._paths[shard], offset, size))

    def _block_loader(self, shard: int, table: Table, ordinal: int) -> Loading:
        def load() -> memoryview:
            return self._checked(shard, table, ordinal, self._load_block(shard, table, ordinal))

        return shard << 32 | ordinal // table.per_block, load

    def _checked(self, shard: int, table: Table, ordinal: int, block: memoryview) -> memoryview:
        """A block after every sample in it was compared with the index, while its bytes are warm from reading."""
        start = ordinal - ordinal % table.per_block
        rows = slice(start - table.first, min(start + table.per_block - table.first, table.samples))
        spans = list(_cut(repeat(block), table.within[rows], table.sizes[rows]))
        if [_xxh3(span) for span in spans] != table.hashes[rows].tolist():
            raise _OneIsDamaged(f"a block of shard {self._paths[shard]} holds a damaged sample")
        if self.is_remote:
            for at, span in enumerate(spans):
                Item(span, shard, start + at, table, rows.start + at).check()
        return block

    def _load_block(self, shard: int, table: Table, ordinal: int) -> memoryview:
        ref = table.block(ordinal)
        data = self._store.read_range(self._paths[shard], ref.file_offset, ref.file_bytes)
        if self._packed[shard]:
            data = decompress_block(data, ref.tar_bytes, f"{self._store.url}/{self._paths[shard]}")
        return memoryview(data)

    def _damaged(self, shard: int, key: str) -> ShardDamaged:
        url = self._store.url
        return ShardDamaged(
            f"shard {url}/{self._paths[shard]}, sample {key}: its bytes do not have the digest that the index names; "
            f"run `shardkit verify {url}`"
        )


def _cut(blocks: Iterable[memoryview | None], starts: I64, sizes: I64) -> Iterator[memoryview]:
    """The bytes [start, start + size) of each block: not a line of Python a sample."""
    spans = map(getitem, cast("Iterable[memoryview]", blocks), map(slice, starts.tolist(), (starts + sizes).tolist()))
    return cast("Iterator[memoryview]", spans)


class _OneIsDamaged(ShardDamaged):
    """A block cannot be kept as a whole. Never leaves this module."""
