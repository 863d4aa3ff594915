"""Streams of bytes, plain or compressed, in which a cut or altered end is noticed.

Here: gzip and zstd as readable streams with bounded memory; their errors as SourceDamaged.
Elsewhere: lines and JSON (jsonl.py), the pinned file beneath (listing.py).
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

import zstandard

from shardkit.errors import SourceDamaged

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

GZIP = (".gz", ".tgz")
WINDOW_BYTES = 128 << 20
FEED_BYTES = 1 << 10
"""A kilobyte of zstd can hold some 300 blocks of 128 KiB: what one feed may grow to is bounded by about 40 MB."""


def is_compressed(path: str) -> bool:
    """Whether a path's suffix is one that `open_stream` decompresses."""
    return path.lower().endswith((*GZIP, ".zst"))


def open_stream(raw: io.BufferedReader, path: str) -> io.BufferedReader:
    """The decompressed stream of a file, by the suffix of its path; the stream itself where it is plain."""
    if path.lower().endswith(GZIP):
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=raw, mode="rb")), 1 << 18)
    return io.BufferedReader(ZstdStream(raw), 1 << 18) if path.lower().endswith(".zst") else raw


@contextmanager
def damage_named(raw: BinaryIO, path: str, name: str) -> Iterator[None]:
    """Turn a decompressor's complaint into SourceDamaged that names the file and how far it was read."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, zstandard.ZstdError):
        raise SourceDamaged(
            f"source {name}: {path} is damaged or cut off near byte {raw.tell()}; "
            "replace it with a whole copy and build with --update"
        ) from None


class ZstdStream(io.RawIOBase):
    """Frames of zstd one after the other. Raises EOFError where the last one is cut, ZstdError where one is bad."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__()
        self._raw, self._ready, self._rest = raw, memoryview(b""), b""
        self._context = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer as far as one feed goes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        while not self._ready:
            data = self._rest or self._raw.read(FEED_BYTES)
            self._rest = b""
            if not data:
                if self._frame is not None:
                    raise EOFError("zstd frame cut off")
                return 0
            self._feed(data)
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _feed(self, data: bytes) -> None:
        frame = self._frame or self._context.decompressobj()
        self._ready = memoryview(frame.decompress(data))
        self._frame = None if frame.eof else frame
        self._rest = frame.unused_data if frame.eof else b""
