"""Files that one search needs and nobody else: written from front to back, then read at any place.

Here: the file, and that it holds what was written.
Elsewhere: what lies in them (table.py), single calls (store.fs).
"""

from __future__ import annotations

import os
from pathlib import Path

import xxhash

from shardkit.errors import StorageFailed
from shardkit.store import fs


class Scratch:
    """A file of the search's own in `folder`. Its name marks it as temporary: recovery removes what a kill leaves."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{fs.STAGE}dedup-{name}-{os.getpid()}"
        self.bytes = 0
        self._file: fs.NewFile | None = fs.NewFile(self.path)
        self._digest = xxhash.xxh3_64()
        self._fd = -1

    def append(self, data: bytes | memoryview) -> None:
        """Write `data` at the end. Raises StorageFailed."""
        assert self._file is not None, "sealed"
        self._file.write(data)
        self._digest.update(data)
        self.bytes += memoryview(data).nbytes

    def seal(self) -> None:
        """End writing and compare the file with what was written: a wrong octet here would be a wrong version.

        Raises StorageFailed.
        """
        if self._file is None:
            return
        self._file.close()
        self._file = None
        found = xxhash.xxh3_64()
        for chunk in fs.read_chunks(self.path):
            found.update(chunk)
        if found.digest() != self._digest.digest():
            raise fs.read_back_differs(self.path)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, of a sealed file. Raises StorageFailed."""
        data = os.pread(self._fd, size, offset)
        if len(data) != size:
            raise StorageFailed(f"{self.path} was cut while it was in use; run the same command again")
        return data

    def remove(self) -> None:
        """Close and remove the file."""
        if self._file is not None:
            self._file.discard()
            self._file = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        fs.unlink(self.path)
