"""The two ways of a tar to the disk: plain, and as zstd frames.

Here: buffering, compressing, hashing and writing, in one pass.
Elsewhere: what is put in (shard.py), the file (fs.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import blake3
import xxhash
import zstandard

from shardkit.spec import Codec
from shardkit.store import fs

BUFFER_BYTES = 1 << 20
"""Bytes hashed and written at a time: they are still in the processor's cache when they are hashed."""

SMALL_BYTES = 1 << 14
"""Spans under this are joined before they are hashed: one copy is cheaper than three calls."""

ZSTD_LEVEL = 3


class PlainStream:
    """A plain tar on its way to the disk: pieces are hashed and written together, about a MiB at a time."""

    def __init__(self, file: fs.NewFile) -> None:
        self._file = file
        self._pending: list[bytes] = []
        self._used = 0
        self.digest = blake3.blake3()

    @property
    def position(self) -> int:
        """Bytes of the file so far, those still pending included."""
        return self._file.bytes + self._used

    def put(self, pieces: Sequence[bytes], size: int) -> int:
        """Append `size` bytes; their XXH3-64."""
        if size < SMALL_BYTES:
            span = b"".join(pieces)
            self._pending.append(span)
            found = xxhash.xxh3_64_intdigest(span)
        else:
            self._pending.extend(pieces)
            found = _hash_pieces(pieces)
        self._used += size
        if self._used >= BUFFER_BYTES:
            self.flush()
        return found

    def end_block(self) -> None:
        """Blocks leave no trace in a plain tar."""

    def flush(self) -> None:
        """Write what is pending; very large pieces one by one, so that they are not copied."""
        pending = [b"".join(self._pending)] if self._used < 4 * BUFFER_BYTES else self._pending
        self._pending = []
        self._used = 0
        for piece in pending:
            self.digest.update(piece)
            self._file.write(piece)


class ZstdStream:
    """A tar as zstd frames, one a block: level 3, with checksum and content size, single-threaded."""

    def __init__(self, file: fs.NewFile) -> None:
        self._file = file
        self._pieces: list[bytes] = []
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True, write_content_size=True)
        self.digest = blake3.blake3()

    @property
    def position(self) -> int:
        """Bytes of the file so far: all frames that have ended."""
        return self._file.bytes

    def put(self, pieces: Sequence[bytes], size: int) -> int:
        """Append `size` bytes to the open block; their XXH3-64."""
        self._pieces.extend(pieces)
        return xxhash.xxh3_64_intdigest(b"".join(pieces)) if size < SMALL_BYTES else _hash_pieces(pieces)

    def end_block(self) -> None:
        """Write the open block as one frame."""
        frame = self._compressor.compress(b"".join(self._pieces))
        self._pieces.clear()
        self.digest.update(frame)
        self._file.write(frame)

    def flush(self) -> None:
        """Frames are written as they end."""


def _hash_pieces(pieces: Sequence[bytes]) -> int:
    span = xxhash.xxh3_64()
    for piece in pieces:
        span.update(piece)
    return span.intdigest()


STREAMS: dict[Codec, type[PlainStream] | type[ZstdStream]] = {"tar": PlainStream, "tar.zst": ZstdStream}
