"""A cache of remote files' ranges on disk, shared by processes: named by digest, bounded, checked at every reuse.

Here: entries, their checks, who fetches what several want, where the cache lies.
Elsewhere: the byte limit, leases, eviction (room.py); a store that reads through the cache (cached.py).

Nothing is forced to the disk: an entry that a crash tore does not have its digest, and is fetched again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias
from weakref import WeakValueDictionary

import xxhash

from shardkit.errors import SpecError, StorageFailed
from shardkit.read.room import CLAIMS, LEASES, RANGES, Lease, Room, try_lock
from shardkit.store import fs

DEFAULT_BYTES = 64 << 30
SEAL_BYTES = 16
WAIT_SECONDS = 90.0
"""How long to wait for another process that fetches the same bytes; then they are fetched here, too."""

FULL_FIRST, FULL_MOST = 256, 1 << 16
"""How many entries are not even offered after one for which there was no room: looking for room takes time."""


Buffer: TypeAlias = bytes | memoryview


class CacheWarning(UserWarning):
    """The disk cache cannot be used; reading goes on without it."""


class Key(NamedTuple):
    """One entry: the digest of the file (64 hex digits) and which part of it: `OFFSET-LENGTH`, or `whole`."""

    digest: str
    part: str


class Counts(NamedTuple):
    """What became of the entries asked for: found, fetched, kept, found damaged and removed, evicted."""

    hits: int
    misses: int
    kept: int
    damaged: int
    evicted: int


class Claim:
    """The right to fetch an entry: a locked file, so that it ends with its process. Close it after keeping."""

    def __init__(self, path: Path | None = None, fd: int = -1) -> None:
        self.path, self.fd = path, fd

    def close(self) -> None:
        """Let others have the right."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
            os.close(self.fd)
            self.path = None


def cache_folder(given: str | Path | None = None) -> Path:
    """The folder of caches: as given, else $SHARDKIT_CACHE, $XDG_CACHE_HOME/shardkit, ~/.cache/shardkit."""
    named = given or os.environ.get("SHARDKIT_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache").absolute() / "shardkit"


class DiskCache:
    """Entries below `folder`/blocks. Shared by threads and processes; pickled, it is opened again.

    Whatever goes wrong with the disk is one CacheWarning, after which this process only reads what is there.
    Raises SpecError where the folder's name belongs to a file.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder / "blocks"
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._works = True
        self._hits = self._misses = self._kept = self._damaged = 0
        self._full = (0, FULL_FIRST)
        self._touched: set[str] = set()
        self._ranges = str(self.folder / RANGES)
        self._room = Room(self.folder, self.max_bytes)
        self._make_folders()

    @property
    def counts(self) -> Counts:
        """Figures of this process since the cache was opened."""
        return Counts(self._hits, self._misses, self._kept, self._damaged, self._room.evicted)

    def lease(self, digests: Iterable[str]) -> Lease | None:
        """Keep what belongs to these digests from eviction by any process, as long as the lease lives."""
        if not self._works:
            return None
        try:
            return self._room.lease(digests)
        except OSError as error:
            self._give_up(error)
            return None

    def get(self, key: Key) -> bytes | None:
        """The bytes of an entry that has its digest; one that has not is removed."""
        path = self._path(key)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            data = _read_sealed(fd, key)
        except OSError:
            data = None
        finally:
            os.close(fd)
        if data is None:
            self.drop(key)
        return data

    def drop(self, key: Key) -> bool:
        """Remove an entry whose bytes are no good; whether there was one."""
        path = self._path(key)
        try:
            size = os.stat(path).st_size  # noqa: PTH116
            os.unlink(path)  # noqa: PTH108
            self._room.give_back(size)
        except OSError:
            return False
        with self._lock:
            self._damaged += 1
        return True

    def read(self, keys: Sequence[Key], load: Callable[[list[int]], Sequence[Buffer]]) -> list[Buffer]:
        """The bytes of each key, from the cache or from `load(numbers of keys)`; each is loaded by one process.

        What another process is fetching is waited for, after the own ones are loaded. Raises what `load` raises.
        """
        found: dict[int, Buffer] = {}
        left = self._look(keys, range(len(keys)), found)
        self._count(hits=len(found), misses=len(left))
        ends, nap = time.monotonic() + WAIT_SECONDS, 0.001
        while left:
            claims = {at: claim for at in left if (claim := self._claim(keys[at])) is not None}
            if not claims and time.monotonic() > ends:
                claims = {at: Claim() for at in left}
            try:
                missing = self._look(keys, claims, found)
                for at, data in zip(missing, load(missing) if missing else [], strict=True):
                    found[at] = data
                    self._keep(keys[at], claims[at], data)
                    claims[at].close()
            finally:
                for claim in claims.values():
                    claim.close()
            left = self._look(keys, [at for at in left if at not in found], found)
            if left and not claims:
                time.sleep(nap)
                nap = min(2 * nap, 0.02)
        return [found[at] for at in range(len(keys))]

    def _look(self, keys: Sequence[Key], numbers: Iterable[int], found: dict[int, Buffer]) -> list[int]:
        """Take what is there; the numbers of what is not."""
        missing = []
        for at in numbers:
            data = self.get(keys[at])
            if data is None:
                missing.append(at)
            else:
                found[at] = data
        return missing

    def _claim(self, key: Key) -> Claim | None:
        """The right to fetch an entry; None while another has it. Without effect where nothing is kept."""
        if not self._works or self._is_full():
            return Claim()
        path = self.folder / CLAIMS / f"{key.digest}-{key.part}"
        try:
            while True:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                if not try_lock(fd):
                    os.close(fd)
                    return None
                if _is_at(fd, path):
                    return Claim(path, fd)
                os.close(fd)  # its holder removed it between the two calls
        except OSError as error:
            self._give_up(error)
            return Claim()

    def _keep(self, key: Key, claim: Claim, data: Buffer) -> None:
        """Make an entry, if there is room: written aside, then renamed, so that no partial one is ever seen."""
        if claim.path is None or not self._works:
            return
        size = len(data) + SEAL_BYTES
        try:
            if not self._room.reserve(size, claim.fd):
                self._found_full()
                return
            aside, path = Path(f"{claim.path}.data"), Path(self._path(key))
            aside.unlink(missing_ok=True)  # of a writer that was killed
            with fs.NewFile(aside) as file:
                file.write(data)
                file.write(_seal(key, data))
                file.close()
                path.parent.mkdir(parents=True, exist_ok=True)
                fs.replace(aside, path)
            self._count(kept=1)
            self._full = (0, FULL_FIRST)
        except (OSError, StorageFailed) as error:
            self._give_up(error)
            with contextlib.suppress(OSError):
                self._room.give_back(size)

    def _is_full(self) -> bool:
        with self._lock:
            skip, step = self._full
            self._full = (max(0, skip - 1), step)
            return skip > 0

    def _found_full(self) -> None:
        with self._lock:
            step = self._full[1]
            self._full = (step, min(2 * step, FULL_MOST))

    def _path(self, key: Key) -> str:
        """Where an entry lies. Marks that it was used, once per file and process: that orders eviction."""
        folder = f"{self._ranges}/{key.digest[:2]}/{key.digest}"
        if key.digest not in self._touched:
            self._touched.add(key.digest)
            with contextlib.suppress(OSError):
                os.utime(folder)
        return f"{folder}/{key.part}"

    def _count(self, hits: int = 0, misses: int = 0, kept: int = 0) -> None:
        with self._lock:
            self._hits += hits
            self._misses += misses
            self._kept += kept

    def _give_up(self, error: Exception) -> None:
        with self._lock:
            before, self._works = self._works, False
        if before:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            warnings.warn(
                f"the cache in {self.folder} cannot be written: {reason}; reading goes on without keeping more there",
                CacheWarning,
                stacklevel=2,
            )

    def _make_folders(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in (RANGES, CLAIMS, LEASES):
                (self.folder / name).mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTDIR):
                raise SpecError(f"cache: {self.folder.parent} is a file or lies in one; give a folder") from None
            self._give_up(error)

    def __reduce__(self) -> tuple[Callable[[Path, int], DiskCache], tuple[Path, int]]:
        return open_cache, (self.folder.parent, self.max_bytes)


_opened: WeakValueDictionary[tuple[Path, int], DiskCache] = WeakValueDictionary()
_opening = threading.Lock()


def open_cache(folder: str | Path | None = None, max_bytes: int | None = None) -> DiskCache:
    """The cache in a folder (None: the usual one), one object a process: its figures count, its warning comes once.

    Raises SpecError.
    """
    key = cache_folder(folder), DEFAULT_BYTES if max_bytes is None else max_bytes
    if type(key[1]) is not int or key[1] < 0:
        raise SpecError(f"cache_bytes is {key[1]!r}; wanted a whole number from 0 on")
    with _opening:
        cache = _opened.get(key)
        if cache is None:
            cache = _opened[key] = DiskCache(*key)
        return cache


def _read_sealed(fd: int, key: Key) -> bytes | None:
    """The bytes before the seal; None where they do not have it, or are not as many as the key says."""
    size = os.fstat(fd).st_size - SEAL_BYTES
    if size < 0 or (key.part != "whole" and size != int(key.part.rpartition("-")[2])):
        return None
    data = os.pread(fd, size, 0)
    while len(data) < size:
        more = os.pread(fd, size - len(data), len(data))
        if not more:
            return None
        data += more
    return data if os.pread(fd, SEAL_BYTES + 1, size) == _seal(key, data) else None


def _seal(key: Key, data: Buffer) -> bytes:
    """XXH3-128 of the entry's name and bytes: against accidents. Whoever reads compares with the dataset's digests."""
    seal = xxhash.xxh3_128(f"{key.digest}/{key.part}/".encode())
    seal.update(data)
    return seal.digest()


def _is_at(fd: int, path: Path) -> bool:
    """Whether the open file is the one that has this name."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))  # noqa: PTH116
    except FileNotFoundError:
        return False
