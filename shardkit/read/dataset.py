"""A dataset open for reading: by folder or URL, by number, in stored order.

Here: `open_dataset` and what it returns.
Elsewhere: shuffled reading with a state (loader.py), bytes and their checks (fetch.py).
"""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from shardkit.errors import SpecError
from shardkit.read.cached import CachedStore, rereading
from shardkit.read.diskcache import DEFAULT_BYTES, open_cache
from shardkit.read.fetch import Fetcher
from shardkit.read.foreign import open_tars, trusted_origins
from shardkit.read.item import Item as Item
from shardkit.read.member import MemberFile, open_member
from shardkit.read.mixture import Mixture, open_mixture
from shardkit.read.order import LiveSamples
from shardkit.read.state import Extent
from shardkit.read.table import Tables
from shardkit.read.tar_set import is_tars
from shardkit.read.view import resolve_view
from shardkit.read.where import parse_where
from shardkit.store.layout import Manifest
from shardkit.store.manifest import read_columns, read_manifest, read_split
from shardkit.store.routing import route
from shardkit.store.urls import ByteStore, open_store
from shardkit.store.verify import VerifyReport, verify

SINGLE_CACHE_BYTES = 64 << 20
LARGEST_BLOCK_BYTES = 64 << 20
"""Blocks up to this size are read whole when a dataset is read in stored order."""


@overload
def open_dataset(
    url: str | Path, version: str | None = None, *, cache: str | Path | None = None, cache_bytes: int = DEFAULT_BYTES
) -> Dataset: ...
@overload
def open_dataset(
    url: Mapping[str, float], *, cache: str | Path | None = None, cache_bytes: int = DEFAULT_BYTES
) -> Mixture: ...
@overload
def open_dataset(
    url: Sequence[str | Path],
    version: str | None = None,
    *,
    cache: str | Path | None = None,
    cache_bytes: int = DEFAULT_BYTES,
) -> Dataset | Mixture: ...
def open_dataset(
    url: str | Path | Sequence[str | Path] | Mapping[str, float],
    version: str | None = None,
    *,
    cache: str | Path | None = None,
    cache_bytes: int = DEFAULT_BYTES,
) -> Dataset | Mixture:
    """The dataset in a folder or behind a URL, at its current version or the one given (64 hex digits).

    Tars that others made are named themselves: by a URL or path that ends in .tar or .tar.zst, with braces or globs, or
    several of these. They are indexed on first use, once, in the cache folder, and again where they changed.
    A mapping URL -> weight, or several URLs that do not all name tars, give a mixture: read in proportion to the
    weights, or to the datasets' sizes.
    Otherwise nothing but the pointer, the manifest and the omissions is read yet; all are checked.
    `cache` is a folder in which up to `cache_bytes` of what comes over a network are kept, for all processes that name
    the same folder, and checked at every reuse; local datasets need none.
    Raises NotADataset, ShardDamaged, StorageFailed, SpecError (an empty name, an unknown scheme, a cache that is a
    file).
    """
    _check_name(url)
    if isinstance(url, Mapping) or not (isinstance(url, (str, Path)) or is_tars(url)):
        if version is not None:
            raise SpecError(
                "version is given for a mixture; open each dataset at its version and give Mixture the list"
            )
        return open_mixture(url, lambda one: open_dataset(one, cache=cache, cache_bytes=cache_bytes))
    if is_tars(url):
        found, digest, manifest = open_tars(url, version)
    else:
        assert isinstance(url, (str, Path)), "what is neither was opened as a mixture"
        index = _through_cache(open_store(url), cache, cache_bytes)
        digest, manifest = rereading(index, lambda: read_manifest(index, version))
        found = _follow(index, url, manifest)
    store = _through_cache(found, cache, cache_bytes)
    return Dataset(store, digest, manifest, rereading(store, lambda: read_columns(store, manifest)))


class Dataset:
    """One version of a dataset, immutable. `dataset[i]` is the i-th live sample in stored order.

    Safe to share between threads and to pickle; each process opens its own files and connections.
    """

    def __init__(self, store: ByteStore, version: str, manifest: Manifest, omitted: dict[int, tuple[int, ...]]) -> None:
        self.store = store
        self.version = version
        self.manifest = manifest
        self._omitted = omitted
        self._begin()

    @property
    def url(self) -> str:
        """The folder or URL, without credentials."""
        return self.store.url

    def __len__(self) -> int:
        return self.live.samples

    def __getitem__(self, index: int) -> Item:
        """The sample at `index`, negative from the end. Raises IndexError, ShardDamaged, StorageFailed."""
        index, count = _whole_number(index), len(self)
        at = index + count if index < 0 else index
        if not 0 <= at < count:
            raise IndexError(f"sample {index} of {count}")
        return self.fetcher.read(self.fetcher.find_one(*self.live.stored_order(at)))

    def __iter__(self) -> Iterator[Item]:
        """All live samples in stored order, block by block. Raises ShardDamaged, StorageFailed."""
        for shard in range(len(self.manifest.shards)):
            yield from self.shard_items(shard)

    def shard_items(self, shard: int) -> Iterator[Item]:
        """The live samples of one shard, by its number in the manifest, in stored order. Raises as iterating does."""
        entry, left_out = self.manifest.shards[shard], set(self._omitted.get(shard, ()))
        for start in range(0, entry.samples, entry.block_samples):
            ordinals = range(start, min(start + entry.block_samples, entry.samples))
            if left_out.issuperset(ordinals):
                continue
            for item in self._block(shard, ordinals):
                if item.ordinal not in left_out:
                    yield item

    def open_member(self, sample: int | str, name: str) -> MemberFile:
        """One member of a sample, by number or key, as a seekable read-only file; every byte of it is checked.

        A member of a long sample in a plain tar that others made is read by range as it is needed: chunks of 256 KiB,
        each against its digest. Any other is read whole, and checked, at once.
        Raises IndexError, SpecError (no such key or member), ShardDamaged, StorageFailed.
        """
        return open_member(self, sample, name)

    def sources(self) -> Iterator[str]:
        """The source of every live sample in stored order, from the index alone."""
        for shard, entry in enumerate(self.manifest.shards):
            left_out = set(self._omitted.get(shard, ()))
            for ordinal in range(entry.samples):
                if ordinal not in left_out:
                    table = self.tables.find(shard, ordinal)
                    yield table.sources[ordinal - table.first]

    def count(self, where: str) -> int:
        """How many live samples a filter takes, from manifest and indexes alone.

        Raises SpecError (the filter, or a split that this version does not have), ShardDamaged, StorageFailed.
        """
        return resolve_view(self, parse_where(where)).samples

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that this version's samples are in; none where it says nothing of splits."""
        column = read_split(self.store, self.manifest)
        return column.words if column else ()

    def omitted(self, shard: int) -> tuple[int, ...]:
        """The stored ordinals that this version leaves out of a shard."""
        return self._omitted.get(shard, ())

    def with_cache(self, cache: str | Path | None, cache_bytes: int | None = None) -> Dataset:
        """The same version read through a cache as in `open_dataset`; itself, where there is none to be used.

        Raises SpecError.
        """
        store = _through_cache(self.store, cache, cache_bytes)
        return self if store is self.store else Dataset(store, self.version, self.manifest, self._omitted)

    def verify(self, deep: Callable[[str, bytes], None] | None = None) -> VerifyReport:
        """Read and check every byte of this version; damages are collected, not raised. Raises StorageFailed.

        `deep(name, data)` decodes a member and raises Refused where it is broken.
        """
        return verify(self.store, version=self.version, deep=deep)

    @property
    def extent(self) -> Extent:
        """What the defaults of a reading order depend on."""
        shards = self.manifest.shards
        return Extent(
            samples=len(self),
            block=self.manifest.block_samples,
            tar_bytes=sum(entry.tar_bytes for entry in shards),
            stored=sum(entry.samples for entry in shards),
        )

    def _block(self, shard: int, ordinals: range) -> Iterator[Item]:
        table = self.tables.find(shard, ordinals.start)
        if table.block(ordinals.start).tar_bytes <= LARGEST_BLOCK_BYTES:
            yield from self.fetcher.read_block(shard, table, ordinals)
        else:
            for ordinal in ordinals:
                yield self.fetcher.read(self.fetcher.find_one(shard, ordinal))

    def _begin(self) -> None:
        stored = [entry.samples for entry in self.manifest.shards]
        self.live = LiveSamples(stored, self.manifest.block_samples, self._omitted)
        if isinstance(self.store, CachedStore):
            self.store.use(self.manifest, self.version)
        self.tables = Tables(self.store, self.manifest)
        self.fetcher = Fetcher(self.store, self.manifest, self.tables, SINGLE_CACHE_BYTES)

    def __getstate__(self) -> tuple[Any, ...]:
        return self.store, self.version, self.manifest, self._omitted

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.store, self.version, self.manifest, self._omitted = state
        self._begin()

    def __repr__(self) -> str:
        return f"Dataset({self.url!r}, version={self.version[:12]!r}, samples={len(self)})"


def _check_name(url: object) -> None:
    """What a user gives as a dataset is a name, names in an order, or names with weights; nothing else passes."""
    if isinstance(url, (str, Path)):
        if not str(url).strip():
            raise SpecError("the dataset's name is empty (an empty shell variable?); give a folder or a URL")
    elif not isinstance(url, (Mapping, list, tuple)):
        raise SpecError(
            f"open_dataset was given {reprlib.repr(url)}; wanted a folder or URL, a list of them, or a mapping of them "
            "to weights"
        )
    else:
        for one in url:
            if not isinstance(one, (str, Path)):
                raise SpecError(f"the list of datasets holds {reprlib.repr(one)}; wanted folders or URLs in it")
            _check_name(one)


def _whole_number(index: object) -> int:
    try:
        return operator.index(index)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"a dataset is indexed by one whole number, not by {reprlib.repr(index)}; `open_loader` reads many, "
            "`open_member` finds a key"
        ) from None


def _follow(index: ByteStore, url: str | Path, manifest: Manifest) -> ByteStore:
    """The store to read from: the index's own, unless the manifest names tars that lie elsewhere."""
    if not any(entry.url for entry in manifest.shards):
        return index
    plain = open_store(url)
    routed = route(plain, manifest, trusted_origins())
    return index if routed is plain else routed


def _through_cache(store: ByteStore, cache: str | Path | None, cache_bytes: int | None) -> ByteStore:
    if cache is None or not store.is_remote:
        return store
    plain = store.store if isinstance(store, CachedStore) else store
    return CachedStore(plain, open_cache(cache, cache_bytes))
