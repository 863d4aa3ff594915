"""A dataset whose tars lie elsewhere: its index in one store, each tar where its URL says.

Here: which store a path belongs to, and which URLs in a manifest may be followed.
Elsewhere: the rules for addresses found in data (guard.py, addresses.py), the stores (urls.py).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shardkit.errors import UrlRefused
from shardkit.store.guard import open_found
from shardkit.store.layout import Manifest
from shardkit.store.patterns import open_file, split_file
from shardkit.store.ranges import GAP_BYTES, Viewing
from shardkit.store.scrub import scrub
from shardkit.store.urls import ByteStore, LocalStore
from shardkit.store.web import origin

Origin = tuple[str, str, int]
"""Scheme, host and port."""

BUCKETS = ("s3", "gs", "gcs", "az", "abfs", "hf")


def route(store: ByteStore, manifest: Manifest, trusted: frozenset[Origin] = frozenset()) -> ByteStore:
    """The store of a dataset that was opened by its folder or URL: it follows absolute URLs of tars in the manifest.

    `trusted` are origins (scheme, host, port) that the user has named on this machine; others are found in data.
    Raises UrlRefused for a path of this machine in a manifest.
    """
    urls = [entry.url for entry in manifest.shards if entry.url]
    outside = next((url for url in urls if url.startswith(("/", "~")) or "\\" in url or "\0" in url), None)
    if outside is not None:
        raise UrlRefused(f"{store.url}: its manifest names {outside[:200]!r}; wanted a relative path or a URL")
    return RoutedStore(store, {}, trusted=trusted) if any("://" in url for url in urls) else store


def route_typed(index: ByteStore, places: Mapping[str, str], url: str) -> ByteStore:
    """The store of tars that the user has named: `places` are their URLs by the paths in the manifest."""
    if isinstance(index, LocalStore) and not any("://" in place for place in places.values()):
        assert index.folder is not None
        return LocalTars(index.folder, places, url)
    return RoutedStore(index, places, url=url)


class LocalTars(LocalStore):
    """Tars anywhere on this machine with their index in a folder; see LocalStore."""

    def __init__(self, folder: Path, places: Mapping[str, str], url: str) -> None:
        super().__init__(folder)
        self._places, self._url = places, url

    @property
    def url(self) -> str:
        """What the user has named."""
        return self._url

    def tag(self, path: str) -> str:
        """See Tagged."""
        return super().tag(self._places.get(path, path))

    def _open(self, path: str) -> Any:
        return super()._open(self._places.get(path, path))

    def __getstate__(self) -> Any:
        return self._root, self._places, self._url

    def __setstate__(self, state: Any) -> None:
        self.__init__(*state)  # type: ignore[misc]


class RoutedStore:
    """Reads each path from where it lies: a tar by its URL, everything else from the index's own store."""

    is_remote = True

    def __init__(
        self, index: ByteStore, places: Mapping[str, str], *, trusted: frozenset[Origin] = frozenset(), url: str = ""
    ) -> None:
        self._index, self._places, self._trusted, self._url = index, places, trusted, url
        self._begin()

    @property
    def url(self) -> str:
        """What the user has named, or the folder or URL of the index."""
        return self._url or self._index.url

    @property
    def folder(self) -> Path | None:
        """The index's folder, where it is local."""
        return self._index.folder

    @property
    def requests(self) -> int:
        """Reads of all stores together."""
        return self._index.requests + sum(store.requests for store in list(self._stores.values()))

    @property
    def bytes_read(self) -> int:
        """Bytes of all stores together."""
        return self._index.bytes_read + sum(store.bytes_read for store in list(self._stores.values()))

    def read(self, path: str, max_bytes: int) -> bytes:
        """See ByteStore."""
        store, name = self._find(path)
        return store.read(name, max_bytes)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """See ByteStore."""
        store, name = self._find(path)
        return store.read_range(name, offset, length)

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]], gap_bytes: int = GAP_BYTES) -> list[bytes]:
        """See ByteStore."""
        store, name = self._find(path)
        return store.read_ranges(name, ranges, gap_bytes)

    def read_view(self, path: str, offset: int, length: int) -> memoryview:
        """See ranges.Viewing."""
        store, name = self._find(path)
        if isinstance(store, Viewing):
            return store.read_view(name, offset, length)
        return memoryview(store.read_range(name, offset, length))

    def size(self, path: str) -> int:
        """See ByteStore."""
        store, name = self._find(path)
        return store.size(name)

    def list_files(self, folder: str = "", *, deep: bool = True) -> list[str]:
        """See ByteStore; the files of the index."""
        return self._index.list_files(folder, deep=deep)

    def __getstate__(self) -> Any:
        return self._index, self._places, self._trusted, self._url

    def __setstate__(self, state: Any) -> None:
        self._index, self._places, self._trusted, self._url = state
        self._begin()

    def _begin(self) -> None:
        self._stores: dict[str, ByteStore] = {}
        self._lock = threading.Lock()

    def _find(self, path: str) -> tuple[ByteStore, str]:
        typed = self._places.get(path)
        if typed is None and "://" not in path:
            return self._index, path
        folder, name = split_file(typed or path)
        with self._lock:
            store = self._stores.get(folder)
            if store is None:
                store = self._stores[folder] = open_file(typed)[0] if typed else self._open_named(path)
        return store, name

    def _open_named(self, url: str) -> ByteStore:
        """The store of a URL in the manifest: by the rules for found ones, unless the user has named its host."""
        scheme = url.partition("://")[0].lower()
        try:
            if scheme in ("http", "https") and origin(url) not in self._trusted:
                return open_found(url, self._index.url if self._index.is_remote else "")[0]
            if scheme in ("http", "https") or (scheme in BUCKETS and self._may_use_bucket(url)):
                return open_file(url)[0]
        except UrlRefused as refused:
            raise UrlRefused(
                f"{self.url}: a tar of its manifest may not be read: {refused}; if you trust it, name the tars "
                "themselves in place of this dataset, or index them here (`shardkit index URL --out FOLDER`)"
            ) from None
        raise UrlRefused(f"{self.url}: its manifest names {scrub(url)[:200]!r}; wanted http(s) or the dataset's bucket")

    def _may_use_bucket(self, url: str) -> bool:
        """A bucket is read with the user's own login: only where the manifest is theirs, or lies in it."""
        return not self._index.is_remote or origin(url) == origin(self._index.url)
