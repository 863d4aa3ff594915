"""The two ways of a tar to the disk: plain, and as zstd frames.

Here: compressing, hashing and writing, from a certain size on in a thread beside the one that makes the samples.
Elsewhere: what is put in (spans.py, shard.py), the file (fs.py).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import blake3
import xxhash
import zstandard

from shardkit.spec import Codec
from shardkit.store import fs

ALONE_BYTES = 4 << 20
"""Files below are written by the caller's own thread: starting another costs more than it brings."""

WAITING_BUFFERS = 2
"""Buffers that wait to be written; a disk that is slower than the samples come holds them up, memory does not grow."""

WAITING_BYTES = 16 << 20
"""A buffer of more than that is waited for: nobody else counts the bytes of what was put here."""

ZSTD_LEVEL = 3


class FileOut:
    """A file that is hashed and written in order: hashing and writing free the GIL, so a thread does them meanwhile."""

    def __init__(self, file: fs.NewFile) -> None:
        self._file = file
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[None]] = deque()
        self.position = 0
        """Bytes put so far, those still waiting included."""
        self.early = True
        """Whether the disk begins to take the bytes as they come, so that little is left to be forced at the end."""
        self.digest = blake3.blake3()
        self.check = xxhash.xxh3_128()
        """Of the same bytes, for reading them back: ten times as fast."""

    def put(self, pieces: Sequence[fs.Buffer]) -> None:
        """Append; the pieces must not change any more. Raises StorageFailed, perhaps for what was put before."""
        size = sum(len(piece) for piece in pieces)
        self.position += size
        if self._thread is None and self.position >= ALONE_BYTES:
            self._thread = ThreadPoolExecutor(1, "shard-writer")
        while len(self._waiting) >= WAITING_BUFFERS:
            self._wait()
        self._run(lambda: self._write(pieces))
        if size > WAITING_BYTES:
            self.finish()

    def force(self, meanwhile: Callable[[], None]) -> None:
        """Force all that was put to the disk, and do something else in the same time. Raises StorageFailed."""
        self.finish()
        self._run(self._file.sync)
        try:
            meanwhile()
        finally:
            self.finish()

    def finish(self) -> None:
        """Wait until everything is written. Raises StorageFailed."""
        while self._waiting:
            self._wait()

    def close(self) -> None:
        """End the thread; whatever still waits is written or not."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        self._waiting.clear()

    def _wait(self) -> None:
        """Wait for what was put first. Where it failed it stays, so that whatever follows fails in the same way."""
        self._waiting[0].result()
        self._waiting.popleft()

    def _run(self, work: Callable[[], None]) -> None:
        if self._thread is None:
            work()
        else:
            self._waiting.append(self._thread.submit(work))

    def _write(self, pieces: Sequence[fs.Buffer]) -> None:
        for piece in pieces:
            self.digest.update(piece)
            self.check.update(piece)
            self._file.write(piece)
        if self.early and self._thread is not None:
            self._file.start_write_back()


class Coder(Protocol):
    """How the bytes of a tar become those of its file."""

    by_blocks: bool
    """Whether it takes whole blocks only."""

    def code(self, pieces: Sequence[fs.Buffer], ends: Sequence[int]) -> tuple[Sequence[fs.Buffer], Sequence[int]]:
        """The bytes for the file, and where each block ends among them; `ends` is where it ends among `pieces`."""
        ...


class Plain:
    """The tar as it is; blocks leave no trace."""

    by_blocks = False

    def code(self, pieces: Sequence[fs.Buffer], ends: Sequence[int]) -> tuple[Sequence[fs.Buffer], Sequence[int]]:
        """See Coder."""
        return pieces, ends


class Frames:
    """The tar as zstd frames, one a block: level 3, with checksum and content size, single-threaded."""

    by_blocks = True

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True, write_content_size=True)

    def code(self, pieces: Sequence[fs.Buffer], ends: Sequence[int]) -> tuple[Sequence[fs.Buffer], Sequence[int]]:
        """See Coder."""
        whole = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        frames = [self._compressor.compress(whole[start:end]) for start, end in itertools.pairwise([0, *ends])]
        return [b"".join(frames)], list(itertools.accumulate(map(len, frames)))


CODERS: dict[Codec, type[Plain] | type[Frames]] = {"tar": Plain, "tar.zst": Frames}
