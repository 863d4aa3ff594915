"""The index in memory: where samples lie, as arrays for many at once and as plain numbers for one.

Here: a table over a whole shard or one block, and which of the two a dataset's size allows.
Elsewhere: the index's bytes and their digests (store.index), reading the samples (fetch.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from shardkit.errors import ShardDamaged, ShardkitError, StorageFailed
from shardkit.read.cache import ByteCache
from shardkit.read.cached import rereading
from shardkit.read.order import I64
from shardkit.read.where import FactColumns
from shardkit.store import tar
from shardkit.store.index import IndexHead, IndexPage, IndexReader, MemberEntry, PageRef, decode_name
from shardkit.store.layout import Manifest
from shardkit.store.urls import ByteStore

INDEX_BYTES = 512 << 20
"""Bound of all tables in memory: about six million samples. Larger datasets keep single blocks' tables instead."""

HEAD_BYTES = 256 << 20
PAGE_REF_BYTES = 300
"""What one page's entry in a head takes in memory: a struct, its digest, five numbers."""

LAID_OUT = 4
"""Most members of a sample whose places are looked up for many samples at once."""


class Table:
    """Rows of samples `first` … of one shard.

    `offsets` of samples are those in the tar, `within` those in their block; members' are those in the span.
    Where all samples have members of the same names, `layout` is these names and `cuts` (samples, members, 2) is where
    each begins and ends in its span. `foreign` names the source of a tar that others made, and is empty for our own.
    """

    __slots__ = (
        "_called", "_chunk_starts", "_chunks", "_counts", "_digests", "_keys", "_name_starts", "_names", "_offsets",
        "_sizes", "_starts", "blocks", "cuts", "facts", "first", "foreign", "hashes", "layout", "offsets",
        "page_bytes", "per_block", "samples", "sizes", "sources", "within",
    )  # fmt: skip

    def __init__(self, head: IndexHead, page: IndexPage, first: int) -> None:
        self.first, self.samples = first, page.samples
        self.per_block = per_block = head.block_samples
        # Its own blocks only: tables of single blocks would keep as many whole heads in memory.
        self.blocks: tuple[PageRef, ...] = head.pages[first // per_block : -(-(first + page.samples) // per_block)]
        self.facts = FactColumns(head, page)
        self.offsets = _native(page, "offsets").astype(np.int64)
        self.sizes = _native(page, "sizes").astype(np.int64)
        self.hashes = _native(page, "hashes")
        rows = np.arange(page.samples)
        starts = np.array([ref.tar_offset for ref in self.blocks], dtype=np.int64)
        self.within = self.offsets - starts[rows // per_block]
        self.sources = _words(head.sources, page.column("sources"))
        counts = page.column("member_counts").astype(np.int64)
        self._starts = (np.cumsum(counts) - counts).data
        self._counts = counts.data
        self._names = _words(head.member_names, page.column("member_names"))
        self._offsets = _native(page, "member_offsets").data
        self._sizes = _native(page, "member_sizes").data
        self._check_spans(rows)
        self._check_members(page, counts)
        self.layout, self.cuts = _layout(page, counts, head.member_names)
        self._digests, self._keys = page.member_digests, page.keys
        self.foreign = head.sources[0] if page.names and head.sources else ""
        self._called, self._name_starts = page.names, page.name_starts().data if self.foreign else None
        self._chunks, self._chunk_starts = page.chunk_digests, page.chunk_starts().data if self.foreign else None
        members = len(self._names)
        self.page_bytes = 72 * page.samples + 48 * members + 256 + 2 * len(page.names) + len(page.chunk_digests)

    def _check_spans(self, rows: I64) -> None:
        """Every sample lies in its block. A forged index would have other bytes read, or none."""
        room = np.array([ref.tar_bytes for ref in self.blocks], dtype=np.int64)[rows // self.per_block]
        if bool((self.within < 0).any() or (self.sizes < 0).any() or (self.within > room - self.sizes).any()):
            raise ShardDamaged("an index places a sample outside of its block; run `shardkit verify`")

    def _check_members(self, page: IndexPage, counts: I64) -> None:
        """Every member lies behind a header and within its sample's span; checked here once for all."""
        offsets, sizes = _native(page, "member_offsets"), _native(page, "member_sizes")
        room = np.repeat(self.sizes.astype(np.uint64), counts)
        if bool((offsets < tar.BLOCK).any() or (sizes > room).any() or (offsets > room - sizes).any()):
            raise ShardDamaged("an index places a member outside of its sample; run `shardkit verify`")

    def key(self, row: int) -> str:
        """The key of a row: 32 hex digits, or its name in a tar that others made."""
        if self._name_starts is not None:
            return decode_name(self._called[self._name_starts[row] : self._name_starts[row + 1]])
        return self._keys[16 * row : 16 * row + 16].hex()

    def chunk_digests(self, row: int) -> list[bytes]:
        """BLAKE3-128 of every CHUNK_BYTES (store.index) of a row's span; none for short ones and shards of ours."""
        if self._chunk_starts is None:
            return []
        chunks = range(self._chunk_starts[row], self._chunk_starts[row + 1])
        return [self._chunks[16 * chunk : 16 * chunk + 16] for chunk in chunks]

    def members(self, row: int) -> list[MemberEntry]:
        """The members of a row, KEY.json (`json`) first."""
        start = self._starts[row]
        return [
            MemberEntry(self._names[at], self._offsets[at], self._sizes[at], self._digests[16 * at : 16 * at + 16])
            for at in range(start, start + self._counts[row])
        ]

    def views(self, row: int, span: memoryview) -> dict[str, memoryview]:
        """The members of a row by name, as views of its span."""
        names, offsets, sizes = self._names, self._offsets, self._sizes
        start, count = self._starts[row], self._counts[row]
        if count == 1:
            offset = offsets[start]
            return {names[start]: span[offset : offset + sizes[start]]}
        found = {}
        for at in range(start, start + count):
            offset = offsets[at]
            found[names[at]] = span[offset : offset + sizes[at]]
        return found

    def block(self, ordinal: int) -> PageRef:
        """Where the block of a sample lies in the tar and in the file."""
        return self.blocks[(ordinal - self.first) // self.per_block]


class Tables:
    """Tables of a dataset's shards, loaded when first used, checked, bounded in memory, shared by threads."""

    def __init__(self, store: ByteStore, manifest: Manifest) -> None:
        self._store, self._manifest = store, manifest
        self._per_block = np.array([entry.block_samples for entry in manifest.shards], dtype=np.int64)
        self.whole = sum(entry.index.bytes for entry in manifest.shards) <= INDEX_BYTES
        self._tables: ByteCache[Table] = ByteCache(2 * INDEX_BYTES, lambda table: table.page_bytes)
        self._readers: ByteCache[IndexReader] = ByteCache(
            HEAD_BYTES, lambda reader: PAGE_REF_BYTES * len(reader.head.pages)
        )

    def find(self, shard: int, ordinal: int) -> Table:
        """The table that holds a sample. Raises ShardDamaged, StorageFailed."""
        if self.whole:
            return self._tables.get((shard, 0), lambda: rereading(self._store, lambda: self._load_whole(shard)))
        block = ordinal // self._manifest.shards[shard].block_samples
        return self._tables.get((shard, block), lambda: rereading(self._store, lambda: self._load_block(shard, block)))

    def blocks(self, shards: I64, ordinals: I64) -> I64:
        """A number over all shards for the block of each sample: shard * 2**32 + block."""
        return (shards << 32) + ordinals // self._per_block[shards]

    def find_many(self, shards: I64, blocks: I64, ordinals: I64) -> Iterator[tuple[Table | ShardkitError, I64 | slice]]:
        """Each table, or why it cannot be had, with the places in the arrays that it answers for."""
        keys = shards if self.whole else blocks
        if len(keys) and bool((keys == keys[0]).all()):
            yield self._find_or_why(int(shards[0]), int(ordinals[0])), slice(None)
            return
        order = np.argsort(keys, kind="stable")
        cuts = np.flatnonzero(np.diff(keys[order])) + 1
        for group in np.split(order, cuts):
            if group.size:
                yield self._find_or_why(int(shards[group[0]]), int(ordinals[group[0]])), group

    def _find_or_why(self, shard: int, ordinal: int) -> Table | ShardkitError:
        try:
            return self.find(shard, ordinal)
        except (ShardDamaged, StorageFailed) as error:
            return error

    def _load_whole(self, shard: int) -> Table:
        reader = IndexReader(self._store, self._manifest.shards[shard])
        page = reader.whole()
        return Table(reader.head, page, 0)

    def _load_block(self, shard: int, block: int) -> Table:
        reader = self._readers.get(shard, lambda: self._open(shard))
        return Table(reader.head, reader.page(block), block * reader.head.block_samples)

    def _open(self, shard: int) -> IndexReader:
        reader = IndexReader(self._store, self._manifest.shards[shard])
        assert reader.head is not None  # fetched here, once
        return reader


U64: TypeAlias = NDArray[np.uint64]


def _native(page: IndexPage, name: str) -> U64:
    return page.column(name).astype(np.uint64, copy=False)


def _layout(page: IndexPage, counts: I64, words: tuple[str, ...]) -> tuple[tuple[str, ...], I64]:
    """The names that all samples share, and their members' places; no names where samples differ."""
    each = int(counts[0]) if counts.size else 0
    names = page.column("member_names")
    if not 0 < each <= LAID_OUT or not bool((counts == each).all()):
        return (), _NO_CUTS
    names = names.reshape(-1, each)
    if not bool((names == names[0]).all()):
        return (), _NO_CUTS
    offsets, sizes = page.column("member_offsets").astype(np.int64), page.column("member_sizes").astype(np.int64)
    cuts = np.stack((offsets, offsets + sizes), axis=-1).reshape(-1, each, 2)
    return tuple(words[at] for at in names[0].tolist()), cuts


_NO_CUTS: I64 = np.zeros((0, 0, 2), dtype=np.int64)


def _words(words: tuple[str, ...], positions: NDArray[np.uint16]) -> list[str]:
    if not positions.size:
        return []
    if int(positions.max()) >= len(words):
        raise ShardDamaged(f"an index names a word outside of its dictionary of {len(words)} words")
    found: list[str] = np.array(words, dtype=object)[positions].tolist()
    return found
