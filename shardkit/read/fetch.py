"""Samples' bytes: read one by one or by whole blocks, unpacked, checked, ahead of use where a network is in between.

Here: spans and blocks of shards as checked items.
Elsewhere: which samples are wanted (loader.py), the index (table.py), servers and disks (store.urls).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Executor
from typing import TypeAlias

import numpy as np
import xxhash

from shardkit.errors import ShardDamaged, ShardkitError
from shardkit.read.buffers import LARGEST, SMALLEST, Buffers
from shardkit.read.cache import ByteCache
from shardkit.read.item import Item
from shardkit.read.order import I64
from shardkit.read.table import Table, Tables
from shardkit.store.layout import Manifest, shard_path
from shardkit.store.manifest import decompress_block
from shardkit.store.urls import ByteStore, LocalStore

Place: TypeAlias = tuple[int, int, Table | ShardkitError, int, int, int, int, int]
"""Where a sample lies: shard, ordinal, table (or why there is none), row, offset in the tar and in the block, bytes,
XXH3-64."""

Loading: TypeAlias = tuple[Hashable, Callable[[], memoryview]]
"""What bytes are called in the cache, and how they are read."""

_xxh3 = xxhash.xxh3_64_intdigest


class Fetcher:
    """Reads samples of one dataset. Shared by threads; `cache_bytes` bounds the blocks kept in memory."""

    def __init__(self, store: ByteStore, manifest: Manifest, tables: Tables, cache_bytes: int) -> None:
        self._store, self._manifest, self._tables = store, manifest, tables
        self.is_remote = store.is_remote
        self._local = store if isinstance(store, LocalStore) else None
        self._buffers = Buffers()
        self._paths = [shard_path(entry) for entry in manifest.shards]
        self._packed = [entry.codec != "tar" for entry in manifest.shards]
        self._blocks: ByteCache[memoryview] = ByteCache(cache_bytes, len)

    def find(self, shards: I64, ordinals: I64) -> list[Place]:
        """The places of many samples at once. A damaged index becomes the error of its samples."""
        count = len(shards)
        tables: list[Table | ShardkitError] = [_NOWHERE] * count
        rows, offsets, within, sizes = (np.zeros(count, dtype=np.int64) for _ in range(4))
        hashes = np.zeros(count, dtype=np.uint64)
        for table, group in self._tables.find_many(shards, ordinals):
            for at in group.tolist():
                tables[at] = table
            if isinstance(table, ShardkitError):
                continue
            rows[group] = row = ordinals[group] - table.first
            offsets[group], within[group] = table.offsets[row], table.within[row]
            sizes[group], hashes[group] = table.sizes[row], table.hashes[row]
        columns = (shards, ordinals, tables, rows, offsets, within, sizes, hashes)
        return list(zip(*(column if isinstance(column, list) else column.tolist() for column in columns), strict=True))

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
        shard, ordinal, table, row, offset, within, size, wanted = place
        if isinstance(table, ShardkitError):
            raise table
        span: bytes | memoryview
        if whole_block or self._packed[shard]:
            block = self._blocks.ready.get(shard << 32 | ordinal // table.per_block)
            if block is None:
                block = self._blocks.get(*self._block_loader(shard, table, ordinal))
            span = block[within : within + size]
        elif self._local is None:
            span = self._blocks.take(*self._span_loader(shard, ordinal, offset, size))
        elif size < SMALLEST or size > LARGEST:
            span = self._local.read_range(self._paths[shard], offset, size)
        else:
            buffer = self._buffers.take(size)
            self._local.read_into(self._paths[shard], offset, buffer)
            span = buffer.toreadonly()
        if _xxh3(span) != wanted:
            raise self._damaged(shard, table.key(row))
        item = Item(span, (shard, ordinal), table, row)
        if self.is_remote:
            item.check()
        return item

    def read_block(self, shard: int, table: Table, ordinals: range) -> Iterable[Item]:
        """The samples of one block in stored order, from one read that nothing keeps."""
        block = self._load_block(shard, table, ordinals.start)
        for ordinal in ordinals:
            row = ordinal - table.first
            within, size = int(table.within[row]), int(table.sizes[row])
            span = block[within : within + size]
            if _xxh3(span) != int(table.hashes[row]):
                raise self._damaged(shard, table.key(row))
            item = Item(span, (shard, ordinal), table, row)
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

    def _span_loader(self, shard: int, ordinal: int, offset: int, size: int) -> Loading:
        return (shard, ordinal), lambda: memoryview(self._store.read_range(self._paths[shard], offset, size))

    def _block_loader(self, shard: int, table: Table, ordinal: int) -> Loading:
        return shard << 32 | ordinal // table.per_block, lambda: self._load_block(shard, table, ordinal)

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


_NOWHERE = ShardDamaged("a sample without an index")
