"""Samples' spans from local files, many with one call: pread into memory that is used again, digests compared at once.

Here: the spans of a batch, all of them good or none; telling the system which blocks come next.
Elsewhere: what is wrong with a batch that is not good (fetch.py), memory (buffers.py), descriptors (store.urls).

A batch of 64 chats of 1.5 KB costs 1.7 microseconds a sample so, against 3.2 by blocks that the process keeps itself:
their memory is new, and a page fault costs as much as reading two samples. The page cache keeps blocks better, and once
for all processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import xxhash

from shardkit.errors import ShardDamaged, StorageFailed
from shardkit.read.places import Places
from shardkit.store.buffers import Buffers
from shardkit.store.urls import LocalStore

SMALL_BYTES = 16 << 10
"""Up to this the allocator's own memory serves; above it comes from Buffers, as the allocator gives it back."""

GROUP_BYTES = 512 << 10
"""Larger spans share buffers of about this size: read, then hashed while the processor's cache still has them."""

MOST_ADVISED = 1 << 16

WAITING_SECONDS = 20e-6
"""A read of a small span takes 1 microsecond from the page cache and 80 from a fast disk."""

_xxh3 = xxhash.xxh3_64_intdigest


class LocalSpans:
    """Reads spans of plain tars on this machine. Shared by threads."""

    def __init__(self, store: LocalStore, paths: Sequence[str]) -> None:
        self._store, self._paths = store, paths
        self._buffers = Buffers()
        self._advised: set[int] = set()
        self._waits = False

    def read(self, places: Places) -> list[memoryview] | None:
        """The bytes at places, each with its digest; None where one is not as it should be, or cannot be read."""
        shards, sizes, offsets = places.shards.tolist(), places.sizes.tolist(), places.offsets.tolist()
        wanted = places.hashes.tolist()
        try:
            files = {shard: self._store.open_file(self._paths[shard]) for shard in set(shards)}
            fds = [files[shard].fd for shard in shards]
            read = self._small if not sizes or max(sizes) <= SMALL_BYTES else self._large
            spans = read(fds, sizes, offsets, wanted)
        except (OSError, ShardDamaged, StorageFailed):
            return None
        if spans is not None:
            self._store.requests += len(sizes)
            self._store.bytes_read += sum(sizes)
        return spans

    def advise(self, places: Places) -> None:
        """Have the system read the blocks of small samples ahead, where the last batch had to wait for the disk."""
        if not self._waits:
            return
        for at in np.unique(places.blocks, return_index=True)[1].tolist():
            key, table = int(places.blocks[at]), places.tables[at]
            if key in self._advised or int(places.sizes[at]) > SMALL_BYTES:
                continue
            if len(self._advised) >= MOST_ADVISED:
                self._advised.clear()
            self._advised.add(key)
            ref = table.block(int(places.ordinals[at]))
            try:
                file = self._store.open_file(self._paths[int(places.shards[at])])
                os.posix_fadvise(file.fd, ref.file_offset, ref.file_bytes, os.POSIX_FADV_WILLNEED)
            except (OSError, ShardDamaged, StorageFailed):
                return  # advice is not needed; what is wrong is said when the sample is read

    def _small(
        self, fds: list[int], sizes: list[int], offsets: list[int], wanted: list[int]
    ) -> list[memoryview] | None:
        started = time.perf_counter()
        data = list(map(os.pread, fds, sizes, offsets))
        self._waits = time.perf_counter() - started > WAITING_SECONDS * len(data)
        return [memoryview(span) for span in data] if list(map(_xxh3, data)) == wanted else None

    def _large(
        self, fds: list[int], sizes: list[int], offsets: list[int], wanted: list[int]
    ) -> list[memoryview] | None:
        spans: list[memoryview] = []
        for group in _groups(sizes):
            ends = list(accumulate(sizes[group]))
            cuts = list(map(slice, [0, *ends[:-1]], ends))
            total = ends[-1]
            buffer = self._buffers.take(GROUP_BYTES if GROUP_BYTES // 2 < total < GROUP_BYTES else total)
            parts = list(map(buffer.__getitem__, cuts))
            done = list(map(os.preadv, fds[group], zip(parts, strict=True), offsets[group]))
            if done != sizes[group] or list(map(_xxh3, parts)) != wanted[group]:
                return None
            spans += map(buffer.toreadonly().__getitem__, cuts)
        return spans


def _groups(sizes: Sequence[int]) -> Iterator[slice]:
    """Runs of spans that share a buffer: about GROUP_BYTES together, or a single larger one."""
    start = total = 0
    for at, size in enumerate(sizes):
        if total and total + size > GROUP_BYTES:
            yield slice(start, at)
            start, total = at, 0
        total += size
    if total:
        yield slice(start, len(sizes))
