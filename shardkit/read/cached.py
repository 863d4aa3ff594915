"""A remote store read through the disk cache.

Here: which paths have a digest to be named by, reading them, doing it again where a copy was bad.
Elsewhere: the cache (diskcache.py), the stores (store.urls).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from shardkit.errors import ShardDamaged
from shardkit.read.diskcache import Counts, DiskCache, Key
from shardkit.read.room import Lease
from shardkit.store.layout import Manifest, shard_path
from shardkit.store.ranges import GAP_BYTES
from shardkit.store.urls import ByteStore

NAMED = re.compile(r"(?:(?:shards|indexes|columns|deadletters)/[0-9a-f]{2}|versions)/([0-9a-f]{64})\.[a-z.]+")
"""Paths whose files are named by their digest."""

T = TypeVar("T")


class CachedStore:
    """Reads a remote dataset's files through a disk cache: ranges and whole files that have a digest.

    Bytes come as the server or the cache gave them: whoever reads compares them with the dataset's digests, as without
    a cache, within `rereading`, which removes what does not fit.
    """

    is_remote = True
    folder: Path | None = None

    def __init__(self, store: ByteStore, cache: DiskCache) -> None:
        self.store, self.cache = store, cache
        self._names: dict[str, str] = {}
        self._lease: Lease | None = None
        self._noting = threading.local()

    @property
    def url(self) -> str:
        """See ByteStore."""
        return self.store.url

    @property
    def requests(self) -> int:
        """Reads that the server answered."""
        return self.store.requests

    @property
    def bytes_read(self) -> int:
        """Bytes that came from the server."""
        return self.store.bytes_read

    @property
    def counts(self) -> Counts:
        """What the cache did for this process."""
        return self.cache.counts

    def use(self, manifest: Manifest, version: str) -> None:
        """Keep what belongs to this version in the cache while the store lives; its tars by others get their names."""
        self._names = {shard_path(entry): entry.shard.digest for entry in manifest.shards if entry.url}
        digests = [version, *(ref.file.digest for ref in manifest.columns)]
        for entry in manifest.shards:
            digests += (entry.shard.digest, entry.index.digest)
        self._lease = self.cache.lease(digests)

    def read(self, path: str, max_bytes: int) -> bytes:
        """See ByteStore."""
        digest = self._digest(path)
        if digest is None:
            return self.store.read(path, max_bytes)
        data = self._through([Key(digest, "whole")], lambda _: [self.store.read(path, max_bytes)])[0]
        if len(data) > max_bytes:
            raise ShardDamaged(f"{self.url}/{path}: has {len(data)} bytes, at most {max_bytes} are expected")
        return data

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """See ByteStore."""
        return self.read_ranges(path, [(offset, length)])[0]

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]], gap_bytes: int = GAP_BYTES) -> list[bytes]:
        """See ByteStore. Ranges that are not in the cache travel together."""
        digest = self._digest(path)
        if digest is None:
            return self.store.read_ranges(path, ranges, gap_bytes)

        def load(missing: list[int]) -> list[bytes]:
            if len(missing) == 1:
                return [self.store.read_range(path, *ranges[missing[0]])]
            return self.store.read_ranges(path, [ranges[at] for at in missing], gap_bytes)

        return self._through([Key(digest, f"{offset}-{length}") for offset, length in ranges], load)

    def size(self, path: str) -> int:
        """See ByteStore."""
        return self.store.size(path)

    def list_files(self, folder: str = "", *, deep: bool = True) -> list[str]:
        """See ByteStore."""
        return self.store.list_files(folder, deep=deep)

    @contextmanager
    def noting(self) -> Iterator[list[Key]]:
        """The keys that this thread reads while the context lasts."""
        noted: list[Key] = []
        self._noting.keys = noted
        try:
            yield noted
        finally:
            self._noting.keys = None

    def _through(self, keys: list[Key], load: Callable[[list[int]], list[bytes]]) -> list[bytes]:
        noted = getattr(self._noting, "keys", None)
        if noted is not None:
            noted += keys
        return self.cache.read(keys, load)

    def _digest(self, path: str) -> str | None:
        match = NAMED.fullmatch(path)
        return match[1] if match is not None else self._names.get(path)

    def __reduce__(self) -> tuple[type[CachedStore], tuple[ByteStore, DiskCache]]:
        return CachedStore, (self.store, self.cache)


def rereading(store: ByteStore, use: Callable[[], T]) -> T:
    """`use()`; where it finds damage in what may come from a cache, the copies are removed and it is done once more.

    Copies of what is damaged on the server, too, do not stay either.
    """
    if not isinstance(store, CachedStore):
        return use()
    try:
        with store.noting() as noted:
            return use()
    except ShardDamaged:
        if not _drop_all(store, noted):
            raise
    with store.noting() as noted:
        try:
            return use()
        except ShardDamaged:
            _drop_all(store, noted)
            raise


def _drop_all(store: CachedStore, keys: Iterable[Key]) -> bool:
    dropped = [store.cache.drop(key) for key in keys]
    return any(dropped)
