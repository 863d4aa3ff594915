"""The listing: what a source pinned of local files, and reading them so that a change is noticed.

Here: writing a listing with digests, reading it back, files opened against their digests.
Elsewhere: which files (walk.py, patterns.py), what is in them (files.py, jsonl.py, parquet.py).

A listing is a file in the source's private folder: records of msgpack, each behind its length in 4 bytes, the last
one empty. Every file has the BLAKE3-256 of the whole and the BLAKE3-128 of every chunk of 1 MiB, so that a reader in
the middle of a large file checks what it reads and nothing else.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from blake3 import blake3

from shardkit.errors import SourceChanged, SourceFailed, SpecError
from shardkit.sources.seekable import SeekableFile
from shardkit.sources.walk import locate, shown
from shardkit.store import fs

CHUNK_BYTES = 1 << 20
T = TypeVar("T")
LISTING = "listing"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One pinned file: path relative to the source, size, BLAKE3-256, and for each chunk 16 bytes of its digest.

    `newlines` holds how many line feeds there are before each chunk, 8 bytes little-endian each. For git `digest`
    is the name of the blob and there are no chunks.
    """

    path: bytes
    size: int
    digest: bytes
    chunks: bytes = b""
    newlines: bytes = b""


def pin_files(folder: Path, path: str, files: Iterable[tuple[bytes, int]], name: str) -> tuple[str, int, int]:
    """Read every file once, write the listing; returns (revision, number of files, bytes in all).

    The revision is the BLAKE3-256 of all (path, size, digest). Raises SpecError for a file that cannot be read, and
    where there is none at all.
    """
    return write_listing(folder, (_measure(path, relative, name) for relative, _ in files), name)


def write_listing(folder: Path, entries: Iterable[Entry], name: str) -> tuple[str, int, int]:
    """Write entries in the order given; returns (revision, number, bytes in all). Raises SpecError (none)."""
    revision, count, total = blake3(), 0, 0

    def records() -> Iterator[bytes]:
        nonlocal count, total
        for entry in entries:
            revision.update(len(entry.path).to_bytes(4, "little") + entry.path + entry.size.to_bytes(8, "little"))
            revision.update(len(entry.digest).to_bytes(4, "little") + entry.digest)
            count, total = count + 1, total + entry.size
            record = msgspec.msgpack.encode(entry)
            yield len(record).to_bytes(4, "little") + record
        if not count:
            raise SpecError(
                f"source {name}: no file matches; check its path and patterns (links out of it are not followed, "
                "datasets in it are left out)"
            )
        yield bytes(4)

    write_private(folder / LISTING, records())
    return revision.hexdigest(), count, total


def read_listing(folder: Path, name: str) -> Iterator[Entry]:
    """The entries of a listing, one at a time; raises SourceFailed where it is missing or cut."""
    try:
        with (folder / LISTING).open("rb") as stream:
            while length := int.from_bytes(_exactly(stream, 4), "little"):
                yield msgspec.msgpack.decode(_exactly(stream, length), type=Entry)
    except (OSError, EOFError, msgspec.DecodeError):
        raise SourceFailed(
            f"source {name}: its listing under .build is missing or damaged; build with --update to make it again"
        ) from None


def read_pin(path: Path, kind: type[T], name: str) -> T:
    """What a source pinned, from the JSON in its private folder; raises SourceFailed where it is missing or cut."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        raise SourceFailed(
            f"source {name}: its pin under .build is missing; build with --update to make it again"
        ) from None


def write_private(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file of a source's private folder whole: temporary, fsync, read back, rename, fsync of the folder."""
    fs.make_folders(path.parent)
    temporary = path.with_name(f"{fs.STAGE}{path.name}-{os.getpid()}")  # lanes of one source may run side by side
    fs.unlink(temporary)
    written, read = blake3(), blake3()
    with fs.NewFile(temporary) as file:
        for block in _blocks(parts):
            written.update(block)
            file.write(block)
        file.sync()
    for chunk in fs.read_chunks(temporary):
        read.update(chunk)
    if read.digest() != written.digest():
        raise fs.read_back_differs(path)
    fs.replace(temporary, path)
    fs.sync_folder(path.parent)


class PinnedFile(SeekableFile):
    """A listed file opened for reading, at any offset; every chunk is checked before a byte of it is handed out.

    Raises SourceChanged (missing, other size, other bytes) and SourceFailed (cannot be read now).
    """

    def __init__(self, path: str, entry: Entry, name: str) -> None:
        super().__init__(entry.size)
        self._entry, self._name = entry, name
        self._chunk, self._number = b"", -1
        try:
            self._file = open(locate(path, entry.path, name), "rb", buffering=0)  # noqa: PTH123, SIM115 # bytes, closed by close
        except (FileNotFoundError, SpecError):
            raise self.changed("it is gone") from None
        except OSError as error:
            raise SourceFailed(f"source {name}: cannot read {shown(entry.path)}: {error.strerror}; run again") from None
        if os.fstat(self._file.fileno()).st_size != entry.size:
            self._file.close()
            raise self.changed("it has another size")

    def changed(self, how: str) -> SourceChanged:
        """The error that says how this file differs from the pinned one."""
        return SourceChanged(
            f"source {self._name}: {shown(self._entry.path)} changed since planned ({how}); "
            "put it back and run again, or build with --update"
        )

    def piece(self, at: int, wanted: int) -> memoryview:
        """Up to the end of the chunk."""
        number, start = divmod(at, CHUNK_BYTES)
        if number != self._number:
            self._chunk, self._number = self._checked_chunk(number), number
        return memoryview(self._chunk)[start:]

    def close(self) -> None:
        """Close the file."""
        if hasattr(self, "_file"):
            self._file.close()
        super().close()

    def _checked_chunk(self, number: int) -> bytes:
        wanted = min(CHUNK_BYTES, self._entry.size - number * CHUNK_BYTES)
        try:
            chunk = os.pread(self._file.fileno(), wanted, number * CHUNK_BYTES)
        except OSError as error:
            raise SourceFailed(
                f"source {self._name}: cannot read {shown(self._entry.path)}: {error.strerror}; run again"
            ) from None
        if blake3(chunk).digest(length=16) != self._entry.chunks[number * 16 : number * 16 + 16]:
            raise self.changed("it has other bytes")
        return chunk


def open_pinned(path: str, entry: Entry, name: str) -> io.BufferedReader:
    """A buffered stream over a PinnedFile."""
    return io.BufferedReader(PinnedFile(path, entry, name), CHUNK_BYTES)


def _blocks(parts: Iterable[bytes]) -> Iterator[bytes]:
    block = bytearray()
    for part in parts:
        block += part
        if len(block) >= CHUNK_BYTES:
            yield bytes(block)
            block.clear()
    yield bytes(block)


def _measure(path: str, relative: bytes, name: str) -> Entry:
    whole, chunks, newlines = blake3(), [], []
    size = lines = 0
    try:
        with open(locate(path, relative, name), "rb", buffering=0) as stream:  # noqa: PTH123 # bytes
            while chunk := _up_to(stream, CHUNK_BYTES):
                whole.update(chunk)
                chunks.append(blake3(chunk).digest(length=16))
                newlines.append(lines.to_bytes(8, "little"))
                size, lines = size + len(chunk), lines + chunk.count(b"\n")
    except OSError as error:
        raise SpecError(
            f"source {name}: cannot read {shown(relative)}: {error.strerror}; make it readable or exclude it"
        ) from None
    return Entry(relative, size, whole.digest(), b"".join(chunks), b"".join(newlines))


def _up_to(stream: io.FileIO, count: int) -> bytes:
    """`count` bytes, fewer only at the end: a raw read may return less, and chunks must fall at fixed offsets."""
    parts = []
    while count and (part := stream.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _exactly(stream: io.BufferedReader, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError
    return data
