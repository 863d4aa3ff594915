"""Room in the disk cache: how much is used, what is in use by living processes, what goes first.

Here: the byte limit over all processes, leases, eviction.
Elsewhere: the entries and their checks (diskcache.py). Layout of the folder: specs/FORMAT.md, "Cache".

Every lock is flock: it dies with its process, however that ends. Times of files only choose what goes first; nothing
is right or wrong by them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

LOCK, USED = "lock", "used"
RANGES, CLAIMS, LEASES = "ranges", "claims", "leases"
LEASE_BYTES = 1 << 17
"""A lease is a set of digests as 2^20 bits, each digest being the bit of its first 20: two may share one, which only
keeps something for longer."""

LOW_WATER = 0.9
"""How full an eviction leaves the cache, so that not every new entry has to look through all of it."""

LOCK_SECONDS = 20.0
"""How long to wait for another process that evicts (or was stopped while it did); then there is no room."""


class Folder(NamedTuple):
    """The entries of one file: when it was last used (for the order alone), where they lie, bytes."""

    used_at: int
    path: str
    bytes: int


class Lease:
    """Digests that stay in the cache while this process (or a fork of it) holds the lease; the end is closing."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    def close(self) -> None:
        """Give the lease up. A file that stays is removed by the next eviction."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class Room:
    """The byte limit of a cache folder. Raises OSError throughout: the cache then does without."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self.evicted = 0
        """Entries removed to make room, by this process."""

    def lease(self, digests: Iterable[str]) -> Lease | None:
        """Keep all entries of these digests (hex) from eviction; None where the lock could not be had."""
        bits = bytearray(LEASE_BYTES)
        for digest in digests:
            at = int(digest[:5], 16)
            bits[at >> 3] |= 1 << (at & 7)
        with self._locked() as mine:
            if not mine:
                return None
            path = self.folder / LEASES / secrets.token_hex(8)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            lease = Lease(path, fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
            _write_sparse(fd, bytes(bits))
            return lease

    def reserve(self, size: int, claim_fd: int) -> bool:
        """Count `size` bytes as used, evicting if need be; the claim's file says how many until they are there."""
        if size > self.max_bytes:
            return False
        with self._locked() as mine:
            if not mine:
                return False
            used = self._used()
            if used is None or used + size > self.max_bytes:
                used = self._evict(size)
            fits = used + size <= self.max_bytes
            self._note(used + size if fits else used)
            if fits:
                os.ftruncate(claim_fd, size)
            return fits

    def give_back(self, size: int) -> None:
        """Count `size` bytes less."""
        with self._locked() as mine:
            used = self._used() if mine else None
            if used is not None:
                self._note(max(0, used - size))

    def _evict(self, size: int) -> int:
        """Remove what is in no lease and was not used for longest, until `size` fits; the bytes that are left."""
        folders = [folder for shelf in _scan(self.folder / RANGES) for folder in _folders(shelf.path)]
        used = sum(folder.bytes for folder in folders) + self._claimed()
        if used + size <= self.max_bytes:
            return used
        leased = self._leased()
        wanted = min(int(self.max_bytes * LOW_WATER), self.max_bytes - size)
        for folder in sorted(folders):
            if used <= wanted:
                break
            at = int(folder.path.rpartition(os.sep)[2][:5], 16)
            if not leased[at >> 3] >> (at & 7) & 1:
                used -= self._remove(folder.path)
        return used

    def _remove(self, path: str) -> int:
        """Remove the entries of one file; how many bytes that gave."""
        gone = 0
        for entry in _scan(path):
            with contextlib.suppress(FileNotFoundError):
                size = entry.stat(follow_symlinks=False).st_size
                os.unlink(entry.path)  # noqa: PTH108 - a Path each costs as much as the call
                gone, self.evicted = gone + size, self.evicted + 1
        with contextlib.suppress(OSError):
            os.rmdir(path)  # noqa: PTH106
        return gone

    def _claimed(self) -> int:
        """Bytes that living writers have reserved; what dead ones left is removed."""
        total = 0
        for entry in _scan(self.folder / CLAIMS):
            if entry.name.endswith(".data"):
                continue
            with contextlib.suppress(FileNotFoundError):
                if not _bury(entry.path, entry.path + ".data"):
                    total += entry.stat(follow_symlinks=False).st_size
        return total

    def _leased(self) -> bytes:
        """All leases of living processes as one; those of dead ones are removed."""
        bits = 0
        for entry in _scan(self.folder / LEASES):
            with contextlib.suppress(FileNotFoundError):
                if _bury(entry.path):
                    continue
                bits |= int.from_bytes(Path(entry.path).read_bytes()[:LEASE_BYTES], "little")
        return bits.to_bytes(LEASE_BYTES, "little")

    def _used(self) -> int | None:
        """Bytes counted, at least what is there; None where nobody has counted."""
        with contextlib.suppress(FileNotFoundError):
            data = (self.folder / USED).read_bytes()
            if len(data) == 8:
                return int(struct.unpack("<Q", data)[0])
        return None

    def _note(self, used: int) -> None:
        fd = os.open(self.folder / USED, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, struct.pack("<Q", used), 0)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """The lock over counting, leases and eviction; False where another process keeps it for too long."""
        fd = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _wait_for(fd)
        finally:
            os.close(fd)


def try_lock(fd: int) -> bool:
    """Take the lock of an open file, if nobody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for(fd: int) -> bool:
    ends, nap = time.monotonic() + LOCK_SECONDS, 0.0005
    while not try_lock(fd):
        if time.monotonic() > ends:
            return False
        time.sleep(nap)
        nap = min(2 * nap, 0.05)
    return True


def _bury(path: str, *others: str) -> bool:
    """Remove a lock file, and what belongs to it, if no living process holds it; whether that was so."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if not try_lock(fd):
            return False
        for gone in (*others, path):  # while the lock is held: nobody else can take it for his own
            with contextlib.suppress(FileNotFoundError):
                os.unlink(gone)  # noqa: PTH108
        return True
    finally:
        os.close(fd)


def _scan(path: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _folders(shelf: str) -> Iterator[Folder]:
    for folder in _scan(shelf):
        size = 0
        for entry in _scan(folder.path):
            with contextlib.suppress(FileNotFoundError):
                size += entry.stat(follow_symlinks=False).st_size
        with contextlib.suppress(FileNotFoundError):
            yield Folder(folder.stat(follow_symlinks=False).st_mtime_ns, folder.path, size)


def _write_sparse(fd: int, data: bytes, piece: int = 4096) -> None:
    """Write `data`, leaving holes where it is zero: the lease of a small dataset takes a few pages."""
    os.ftruncate(fd, len(data))
    for at in range(0, len(data), piece):
        part = data[at : at + piece]
        if part.count(0) < len(part):
            os.pwrite(fd, part, at)
