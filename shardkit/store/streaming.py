"""A shard as a stream of bytes, hashed as they come: a plain tar, or one of zstd frames unfolded one by one.

Here: reading in order, in bounded memory, what lies in a store; the frames of a `.tar.zst` and where each lies.
Elsewhere: what the bytes mean (foreign.py, tar_index.py), single blocks at random (manifest.py).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import blake3
import zstandard

from shardkit.errors import ShardDamaged
from shardkit.store.manifest import decompress_block

CHUNK_BYTES = 4 << 20
FRAME_BYTES = 128 << 20
"""What one frame may unfold to: it is a block, read whole for any of its samples."""

FRAME_MAGIC = b"\x28\xb5\x2f\xfd"
SKIPPABLE_BYTES = 16 << 20
GZIP_MAGIC = b"\x1f\x8b"


class Frame(NamedTuple):
    """Where a frame's content lies in the tar, and the frame in the file."""

    tar_offset: int
    tar_bytes: int
    file_offset: int
    file_bytes: int


class Ranges(Protocol):
    """What is needed of a store to read a file from its beginning."""

    @property
    def url(self) -> str:
        """For messages."""
        ...

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """See ByteStore."""
        ...


class TarStream(Protocol):
    """The bytes of a tar in order; `frames` of those unfolded so far, none for a plain tar."""

    frames: list[Frame]

    def read(self, size: int, /) -> bytes:
        """The next `size` bytes; fewer at the end."""
        ...


class FileStream:
    """A file of a store from its beginning, each byte hashed once. Memory: CHUNK_BYTES and what is asked for."""

    def __init__(self, store: Ranges, path: str, size: int) -> None:
        self.size = size
        self.frames: list[Frame] = []
        self.at = 0
        """Bytes given so far."""
        self._store, self._path = store, path
        self._fetched = 0
        self._buffer = memoryview(b"")
        self._digest = blake3.blake3()

    def read(self, size: int, /) -> bytes:
        """The next `size` bytes; fewer at the end. Raises ShardDamaged, StorageFailed."""
        if size > len(self._buffer):
            self._fill(size)
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        self.at += len(found)
        return bytes(found)

    def hexdigest(self) -> str:
        """BLAKE3-256 of the whole file, the rest read for it."""
        while self.read(CHUNK_BYTES):
            pass
        return self._digest.hexdigest()

    def _fill(self, size: int) -> None:
        wanted = min(max(size - len(self._buffer), CHUNK_BYTES), self.size - self._fetched)
        if wanted <= 0:
            return
        data = self._store.read_range(self._path, self._fetched, wanted)
        self._fetched += wanted
        self._digest.update(data)
        self._buffer = memoryview(bytes(self._buffer) + data if self._buffer else data)


class UnfoldedStream:
    """The tar in a file of zstd frames, each with its content size and at most FRAME_BYTES long."""

    def __init__(self, file: FileStream, where: str) -> None:
        self.frames: list[Frame] = []
        self._file, self._where = file, where
        self._content = memoryview(b"")
        self._tar_bytes = 0

    def read(self, size: int, /) -> bytes:
        """The next `size` bytes; fewer at the end. Raises ShardDamaged, StorageFailed."""
        found = self._some(size)
        while len(found) < size and self._next_frame():
            found += self._some(size - len(found))
        return found

    def _some(self, size: int) -> bytes:
        found, self._content = self._content[:size], self._content[size:]
        return bytes(found)

    def _next_frame(self) -> bool:
        start = self._file.at
        magic = self._file.read(4)
        while len(magic) == 4 and magic[1:] == b"\x2a\x4d\x18" and magic[0] & 0xF0 == 0x50:
            size = int.from_bytes(self._take(4), "little")
            if size > SKIPPABLE_BYTES:
                raise self._damaged(f"a skippable frame of {size} bytes")
            self._take(size)
            start, magic = self._file.at, self._file.read(4)
        if not magic:
            return False
        if magic != FRAME_MAGIC:
            raise self._damaged(f"found {magic!r} at {start} where a zstd frame should begin")
        frame, size = self._frame()
        self._content = memoryview(decompress_block(frame, size, self._where))
        self.frames.append(Frame(self._tar_bytes, size, start, len(frame)))
        self._tar_bytes += size
        return True

    def _frame(self) -> tuple[bytes, int]:
        """One whole frame and its content size, cut out by its blocks' headers: nothing is unfolded for that."""
        head = FRAME_MAGIC + self._take(1)
        described = head[4]
        single, checksum = bool(described & 0x20), bool(described & 0x04)
        rest = (0 if single else 1) + (0, 1, 2, 4)[described & 3] + ((1 if single else 0), 2, 4, 8)[described >> 6]
        parts = [head + self._take(rest)]
        try:
            size = zstandard.get_frame_parameters(parts[0]).content_size
        except zstandard.ZstdError as error:
            raise self._damaged(f"no zstd frame ({error})") from None
        if size > FRAME_BYTES:  # also where the size is not known
            raise self._damaged(
                "a zstd frame without its size or larger than a block: one big frame cannot be read at random"
            )
        last, taken, most = False, 0, 1024 + size // 64
        while not last:
            block = self._take(3)
            number = int.from_bytes(block, "little")
            last, length = bool(number & 1), 1 if number >> 1 & 3 == 1 else number >> 3
            taken += length
            if length > 128 << 10 or taken > size + (1 << 20) or len(parts) > 2 * most:
                raise self._damaged("a zstd frame longer than what it holds")
            parts += (block, self._take(length))
        parts.append(self._take(4 if checksum else 0))
        return b"".join(parts), size

    def _take(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise ShardDamaged(f"{self._where}: cut short within a zstd frame; fetch it from a good copy")
        return data

    def _damaged(self, message: str) -> ShardDamaged:
        return ShardDamaged(f"{self._where}: {message}; unpack it (`zstd -d`) and index the plain .tar")


def open_tar(store: Ranges, path: str, size: int, where: str) -> tuple[FileStream, TarStream]:
    """The file and the tar in it, which is the file itself unless it is `.tar.zst`. Raises ShardDamaged for gzip."""
    file = FileStream(store, path, size)
    magic = store.read_range(path, 0, min(4, size))
    if magic.startswith(GZIP_MAGIC):
        raise ShardDamaged(
            f"{where}: is compressed with gzip, which cannot be read at random; unpack it (`gunzip`) and index the "
            "plain .tar"
        )
    skippable = magic[1:] == b"\x2a\x4d\x18" and magic[0] & 0xF0 == 0x50
    if magic == FRAME_MAGIC or skippable:
        return file, UnfoldedStream(file, where)
    return file, file
