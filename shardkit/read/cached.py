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
from shardkit.read.diskcache import Buffer, Counts, DiskCache, Key
from shardkit.read.room import Lease
from shardkit.store.layout import Manifest, shard_path
from shardkit.store.ranges import GAP_BYTES, Viewing
from shardkit.store.ranges import read_views as read_joined_views
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
        data = bytes(self._through([Key(digest, "whole")], lambda _: [self.store.read(path, max_bytes)])[0])
        if len(data) > max_bytes:
            raise ShardDamaged(f"{self.url}/{path}: has {len(data)} bytes, at most {max_bytes} are expected")
        return data

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """See ByteStore."""
        return bytes(self.read_view(path, offset, length))

    def read_view(self, path: str, offset: int, length: int) -> memoryview:
        """See ranges.Viewing."""
        return self.read_views(path, [(offset, length)])[0]

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]], gap_bytes: int = GAP_BYTES) -> list[bytes]:
        """See ByteStore."""
        return [bytes(view) for view in self.read_views(path, ranges, gap_bytes)]

    def read_views(self, path: str, ranges: Sequence[tuple[int, int]], gap_bytes: int = GAP_BYTES) -> list[memoryview]:
        """The same without a last copy. Ranges that are not in the cache travel together."""

        def load(missing: list[int]) -> list[memoryview]:
            return read_views(self.store, path, [ranges[at] for at in missing], gap_bytes)

        digest = self._digest(path)
        if digest is None:
            return load(list(range(len(ranges))))
        found = self._through([Key(digest, f"{offset}-{length}") for offset, length in ranges], load)
        return [memoryview(data) for data in found]

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

    def _through(self, keys: list[Key], load: Callable[[list[int]], Sequence[Buffer]]) -> list[Buffer]:
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


def read_views(
    store: ByteStore, path: str, ranges: Sequence[tuple[int, int]], gap_bytes: int = GAP_BYTES
) -> list[memoryview]:
    """Ranges of a file with as few copies as the store allows; neighbours travel in one request. Raises as it does."""
    if isinstance(store, CachedStore):
        return store.read_views(path, ranges, gap_bytes)
    if isinstance(store, Viewing):
        return read_joined_views(store.read_view, path, ranges, gap_bytes)
    return [memoryview(data) for data in store.read_ranges(path, ranges, gap_bytes)]
