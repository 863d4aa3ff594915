"""Datasets over tars that others made: indexed once, in a folder or in the cache, then read like ours.

Here: `index_tars` for a folder, `open_tars` on first use; records by which an interrupted run goes on.
Elsewhere: which tars (tar_set.py), one tar (store.tar_index), the version's manifest (tar_version.py).
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from pathlib import Path

import blake3
import msgspec

from shardkit.errors import FileMissing, NotADataset, PlanConflict, ShardDamaged, SpecError, StorageFailed
from shardkit.read.diskcache import cache_folder
from shardkit.read.shapes import Describer
from shardkit.read.tar_set import TarFile, TarSet, Urls, Wanted, look_at_tars, name_tars, paths_from
from shardkit.read.tar_version import KIND, make_version
from shardkit.store import fs
from shardkit.store.foreign import ForeignLimits
from shardkit.store.layout import BUILD_FOLDER, UNREADABLE, Manifest, ShardEntry, Stored, canonical, index_path
from shardkit.store.manifest import read_manifest
from shardkit.store.patterns import open_file
from shardkit.store.publish import lock, publish_bytes, publish_version
from shardkit.store.routing import Origin, route_typed
from shardkit.store.scrub import scrub
from shardkit.store.tar_index import IndexedTar, index_tar
from shardkit.store.urls import ByteStore, LocalStore, Tagged
from shardkit.store.web import origin

FOLDER = "indexes-of-tars"
TRUSTED = "trusted-origins.json"
FIRST_USE_THREADS = 8

_log = logging.getLogger(__name__)


class Indexing(msgspec.Struct, frozen=True, kw_only=True):
    """How tars are indexed. `wanted` members a sample must have; `workers` processes, 0: threads of this one.

    `unended` takes tars that stop without their zero blocks; `again` reads also those that did not change.
    """

    wanted: Wanted = ()
    workers: int = 0
    unended: bool = False
    again: bool = False


class Indexed(msgspec.Struct, frozen=True, kw_only=True, tag="indexed", tag_field="event"):
    """One tar is done, newly or `kept` from an earlier run: `done` of `total`, `bytes` of `total_bytes` in all."""

    tar: str
    samples: int
    kept: bool
    done: int
    total: int
    bytes: int
    total_bytes: int


OnIndexed = Callable[[Indexed], None]


class IndexResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `index_tars` made: the version, its manifest, how many tars were read anew."""

    dataset: str
    version: str
    manifest: Manifest
    new: int


class TarRecord(Stored, frozen=True, kw_only=True):
    """.build/tars/<n>.json: a tar as it was indexed, found again by its path, bytes and tag."""

    path: str
    bytes: int
    tag: str
    entry: ShardEntry


def index_tars(urls: Urls, out: Path | None, how: Indexing, on_indexed: OnIndexed | None = None) -> IndexResult:
    """Index tars into a dataset in the folder `out` (beside them, where they share one); running again goes on.

    Tars that did not change since are not read again. Raises SpecError, PlanConflict (the folder holds another kind of
    dataset), Locked, ShardDamaged (a tar is hostile or cut), StorageFailed.
    """
    places = name_tars(urls)
    folder = out or _beside(places)
    tars = look_at_tars(places, paths_from(folder, places))
    with lock(folder):
        _refuse_other(folder)
        version, manifest, new = _make(folder, tars, how, on_indexed or (lambda event: None))
    trust(places)
    return IndexResult(dataset=str(folder), version=version, manifest=manifest, new=new)


def open_tars(urls: Urls, version: str | None = None) -> tuple[ByteStore, str, Manifest]:
    """The store, version and manifest over tars, indexed on first use in the cache folder, once for all processes.

    A tar that changed since is indexed again: that is another version. Raises SpecError, NotADataset (another version
    is wanted), ShardDamaged, StorageFailed.
    """
    tars = look_at_tars(urls)
    names = "\n".join(scrub(tar.place) for tar in tars.tars)
    folder = cache_folder() / FOLDER / blake3.blake3(names.encode()).hexdigest(length=16)
    found = _current(folder, tars)
    if found is None:
        with _waiting_lock(folder):
            found = _current(folder, tars) or _index_in_cache(folder, tars)
    digest, manifest = found
    if version is not None and version != digest:
        raise NotADataset(
            f"{tars.url}: its tars make version {digest}, not {version[:80]}; they changed since, or others are meant"
        )
    return route_typed(LocalStore(folder), tars.places, tars.url), digest, manifest


def trusted_origins() -> frozenset[Origin]:
    """Hosts whose tars the user has indexed on this machine: their URLs in a manifest are as good as typed."""
    try:
        found = msgspec.json.decode((cache_folder() / TRUSTED).read_bytes(), type=list[Origin])
    except (OSError, *UNREADABLE):
        return frozenset()
    return frozenset(found)


def trust(places: list[str]) -> None:
    """Remember the hosts of URLs that the user has typed."""
    known = trusted_origins()
    found = known | {origin(place) for place in places if place.startswith(("http://", "https://"))}
    if found != known:
        folder = cache_folder()
        fs.make_folders(folder)
        staged = folder / f"{fs.STAGE}{TRUSTED}-{os.getpid()}"
        fs.unlink(staged)
        fs.write_file(staged, msgspec.json.encode(sorted(found)))
        fs.replace(staged, folder / TRUSTED)


def _make(folder: Path, tars: TarSet, how: Indexing, on_indexed: OnIndexed) -> tuple[str, Manifest, int]:
    """Index what is not indexed yet, then publish the version that all make."""
    records: dict[str, TarRecord] = {}
    missing: list[TarFile] = []
    for tar in tars.tars:
        known = None if how.again else _read_record(folder, tar, tars.name)
        if known is None:
            missing.append(tar)
        else:
            records[tar.path] = known
    progress = _Progress(tars, on_indexed)
    for record in records.values():
        progress.note(record, kept=True)
    for record in _index_missing(folder, missing, tars.name, how):
        records[record.path] = record
        progress.note(record, kept=False)
    entries = [
        msgspec.structs.replace(records[tar.path].entry, url=tar.path, ordinal=ordinal)
        for ordinal, tar in enumerate(tars.tars)
    ]
    manifest = make_version(folder, tars.name, entries, how.wanted)
    return publish_version(folder, manifest), manifest, len(missing)


def _index_missing(folder: Path, missing: list[TarFile], source: str, how: Indexing) -> Iterator[TarRecord]:
    """Index tars side by side; each is on the disk with its record before the next is waited for."""
    if not missing:
        return
    limits = ForeignLimits(unended=how.unended)
    waiting: dict[Future[IndexedTar], TarFile] = {}
    left = iter(missing)
    with _executor(how, len(missing)) as (pool, stop):
        for tar in left:
            waiting[pool.submit(index_file, tar, source, limits, stop)] = tar
            if len(waiting) >= 2 * max(1, how.workers or FIRST_USE_THREADS):
                yield from _finished(folder, waiting)
        while waiting:
            yield from _finished(folder, waiting)


def _finished(folder: Path, waiting: dict[Future[IndexedTar], TarFile]) -> Iterator[TarRecord]:
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        tar = waiting.pop(future)
        try:
            indexed = future.result()
        except BrokenExecutor:
            raise StorageFailed(
                f"{scrub(tar.place)}: a process that indexed was killed; run it again with fewer --workers"
            ) from None
        yield _keep(folder, tar, indexed)


def index_file(tar: TarFile, source: str, limits: ForeignLimits, stop: threading.Event | None = None) -> IndexedTar:
    """Index one tar where it lies; for a process of its own, or a thread that ends soon after `stop` is set.

    Raises ShardDamaged also where it changes meanwhile.
    """
    store, name = open_file(tar.place)
    indexed = index_tar(_Until(store, stop), name, tar.bytes, Describer(source), limits)
    again, _ = open_file(tar.place)
    if again.size(name) != tar.bytes or (isinstance(again, Tagged) and again.tag(name) != tar.tag):
        raise ShardDamaged(f"{scrub(tar.place)}: changed while it was indexed; run the same command again")
    return indexed


class _Until:
    """A store that is read until somebody says stop."""

    def __init__(self, store: ByteStore, stop: threading.Event | None) -> None:
        self._store, self._stop = store, stop
        self.url = store.url

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        if self._stop is not None and self._stop.is_set():
            raise StorageFailed(f"{self.url}/{path}: indexing was stopped; run the same command again")
        return self._store.read_range(path, offset, length)


@contextmanager
def _executor(how: Indexing, count: int) -> Iterator[tuple[Executor, threading.Event | None]]:
    """A pool, and what stops its threads. An error or a signal ends at once what is under way: tars may be long."""
    others = {child.pid for child in active_children()}
    stop = None if how.workers else threading.Event()
    pool: Executor
    if how.workers:
        pool = ProcessPoolExecutor(min(how.workers, count), mp_context=get_context("spawn"), initializer=_quietly)
    else:
        pool = ThreadPoolExecutor(min(FIRST_USE_THREADS, count), thread_name_prefix="shardkit-index")
    try:
        yield pool, stop
    except BaseException:
        if stop is not None:
            stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for child in active_children():
            if how.workers and child.pid not in others:
                child.terminate()
        raise
    pool.shutdown()


def _quietly() -> None:
    """Ctrl-C goes to all processes of a terminal: the parent answers it and ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Progress:
    """Counts tars and bytes that are done."""

    def __init__(self, tars: TarSet, on_indexed: OnIndexed) -> None:
        self._total, self._total_bytes = len(tars.tars), sum(tar.bytes for tar in tars.tars)
        self._done = self._bytes = 0
        self._on_indexed = on_indexed

    def note(self, record: TarRecord, *, kept: bool) -> None:
        self._done += 1
        self._bytes += record.bytes
        self._on_indexed(
            Indexed(
                tar=record.path, samples=record.entry.samples, kept=kept, done=self._done, total=self._total,
                bytes=self._bytes, total_bytes=self._total_bytes,
            )
        )  # fmt: skip


def _keep(folder: Path, tar: TarFile, indexed: IndexedTar) -> TarRecord:
    """The index, then the record that names it: what is recorded is there."""
    record = TarRecord(path=tar.path, bytes=tar.bytes, tag=tar.tag, entry=indexed.entry)
    publish_bytes(folder / index_path(indexed.entry.index.digest), indexed.index)
    body = canonical(record)
    publish_bytes(_record_path(folder, tar.path), blake3.blake3(body).hexdigest().encode() + b"\n" + body)
    return record


def _read_record(folder: Path, tar: TarFile, source: str) -> TarRecord | None:
    """The record of a tar that is as it was when it was indexed, its index still there."""
    try:
        digest, _, body = b"".join(fs.read_chunks(_record_path(folder, tar.path))).partition(b"\n")
        record = msgspec.json.decode(body, type=TarRecord)
    except (FileNotFoundError, NotADirectoryError, *UNREADABLE):
        return None
    entry = record.entry
    same = (record.path, record.bytes, record.tag) == (tar.path, tar.bytes, tar.tag)
    whole = blake3.blake3(body).hexdigest().encode() == digest and entry.source in (source, "")
    there = fs.size_of(folder / index_path(entry.index.digest)) == entry.index.bytes
    return record if same and whole and there else None


def _record_path(folder: Path, path: str) -> Path:
    return folder / BUILD_FOLDER / KIND / f"{blake3.blake3(path.encode()).hexdigest(length=16)}.json"


def _current(folder: Path, tars: TarSet) -> tuple[str, Manifest] | None:
    """The version in the cache where it is of exactly these tars as they are now."""
    try:
        marked = (folder / BUILD_FOLDER / "current").read_text("ascii").split()
        if len(marked) != 2 or marked[0] != tars.digest():
            return None
        digest, manifest = read_manifest(LocalStore(folder), marked[1])
    except (OSError, ValueError, ShardDamaged, NotADataset):
        return None
    there = all(fs.size_of(folder / index_path(entry.index.digest)) == entry.index.bytes for entry in manifest.shards)
    return (digest, manifest) if there else None


def _index_in_cache(folder: Path, tars: TarSet) -> tuple[str, Manifest]:
    total = sum(tar.bytes for tar in tars.tars)
    _log.warning("indexing %d tars (%.1f MB) of %s once, into %s", len(tars.tars), total / 1e6, tars.url, folder)
    version, manifest, _ = _make(folder, tars, Indexing(), lambda event: None)
    publish_bytes(folder / BUILD_FOLDER / "current", f"{tars.digest()} {version}\n".encode())
    return version, manifest


@contextmanager
def _waiting_lock(folder: Path) -> Iterator[None]:
    """One process at a time indexes; the others wait, then find what it made. Dies with its process."""
    try:
        fs.make_folders(folder / BUILD_FOLDER)
        descriptor = fs.open_lock(folder / BUILD_FOLDER / "lock")
    except (StorageFailed, OSError) as error:
        raise StorageFailed(
            f"tars are indexed on first use into the cache folder, and it cannot be written: {error}; name another by "
            "SHARDKIT_CACHE, or index them with `shardkit index URL --out FOLDER` and read that folder"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _beside(places: list[str]) -> Path:
    folders = {str(Path(place).parent) for place in places if "://" not in place}
    if len(folders) != 1 or any("://" in place for place in places):
        raise SpecError("the tars do not lie in one folder of this machine; give a folder for the index: --out FOLDER")
    return Path(folders.pop())


def _refuse_other(folder: Path) -> None:
    try:
        _, manifest = read_manifest(LocalStore(folder))
    except (NotADataset, FileMissing):
        return
    kinds = {source.kind for source in manifest.plan.sources}
    if kinds != {KIND}:
        raise PlanConflict(f"{folder} holds a dataset that was built, not an index of tars; give another --out FOLDER")
