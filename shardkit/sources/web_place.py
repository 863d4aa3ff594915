"""Files behind a server, read by ranges: nothing is stored, and a change is noticed.

Here: pinning by length and tag (or digests), streams over ranges, what the store's errors mean to a source.
Elsewhere: requests, retries and redirects (store.http and its neighbours), which files (http.py, kaggle.py).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from shardkit.errors import (
    FileMissing,
    ShardDamaged,
    ShardkitError,
    SourceChanged,
    SourceFailed,
    SourceUnavailable,
    SpecError,
    StorageFailed,
    UrlRefused,
)
from shardkit.sources.listing import CHUNK_BYTES, Entry, write_listing
from shardkit.sources.places import Fits, Selected
from shardkit.sources.seekable import SeekableFile
from shardkit.sources.walk import shown
from shardkit.store.urls import ByteStore, Tagged

BLOCK_BYTES = 4 * CHUNK_BYTES
"""A request's worth: at 100 ms a request, 40 MB/s."""
MISSING = b""
"""The digest of a file that was not there when it was pinned; others have a length or a tag in it."""


class Opener(NamedTuple):
    """A file: the store that holds it, its path in there, and its SHA-256 in hex where it is known."""

    place: tuple[ByteStore, str]
    sha256: str = ""


class WebPlace:
    """Files by name. `lenient`: a file that cannot be had is listed as missing, if only one of them can be had."""

    def __init__(self, name: str, files: Mapping[str, Opener], *, lenient: bool = False) -> None:
        self._name, self._files, self._lenient = name, files, lenient

    def pin(self, folder: Path, selected: Selected, fits: Fits = lambda size: True) -> tuple[str, int, int]:
        """See Place. Raises SourceUnavailable where a file cannot be had."""
        missed: list[SourceUnavailable] = []
        entries = (self._entry(name, file, missed) for name, file in self._files.items() if selected(name))
        pinned = write_listing(folder, (entry for entry in entries if fits(entry.size)), self._name)
        if len(missed) == pinned[1]:
            raise missed[0]
        return pinned

    def open(self, entry: Entry) -> io.BufferedReader:
        """See Place."""
        file = self._files.get(shown(entry.path))
        if file is None:
            raise SourceChanged(
                f"source {self._name}: {shown(entry.path)} is no more among its URLs; put it back, or build with "
                "--update"
            )
        return io.BufferedReader(RangedFile(file.place, entry, self._name), CHUNK_BYTES >> 2)

    def _entry(self, name: str, file: Opener, missed: list[SourceUnavailable]) -> Entry:
        """A file as it is now; where it cannot be had and we are lenient, MISSING, and why is added to `missed`."""
        try:
            entry = look_at(name, file)
            return self._checked(entry, file) if file.sha256 else entry
        except UrlRefused as error:
            raise SpecError(f"source {self._name}: {error}; `allow_private: true` lets the list's URLs") from None
        except (StorageFailed, ShardDamaged) as error:
            unavailable = SourceUnavailable(f"source {self._name}: {error}", f"{name}: {reason_of(error)}")
            if not self._lenient:
                raise unavailable from None
            missed.append(unavailable)
            return Entry(name.encode(), 0, MISSING)

    def _checked(self, entry: Entry, file: Opener) -> Entry:
        """The entry with the digests of its chunks, from reading the file once. Raises SpecError (another digest)."""
        whole, chunks, newlines, lines = hashlib.sha256(), [], [], 0
        for chunk in _chunks(RangedFile(file.place, entry, self._name)):
            whole.update(chunk)
            chunks.append(blake3(chunk).digest(length=16))
            newlines.append(lines.to_bytes(8, "little"))
            lines += chunk.count(b"\n")
        if whole.hexdigest() != file.sha256:
            raise SpecError(
                f"source {self._name}: {shown(entry.path)} has SHA-256 {whole.hexdigest()}, the spec says "
                f"{file.sha256}; check the URL, or correct `digests`"
            )
        digest = entry.digest + b" " + whole.digest()
        return Entry(entry.path, entry.size, digest, b"".join(chunks), b"".join(newlines))


def look_at(name: str, file: Opener) -> Entry:
    """A file's length and tag as they are now, asked for without reading it. Raises as ByteStore."""
    store, path = file.place
    size = store.size(path)
    tag = store.tag(path) if isinstance(store, Tagged) else ""
    return Entry(name.encode(), size, f"{size} {tag}".encode())


def reason_of(error: ShardkitError) -> str:
    """Why something cannot be had, for a manifest: the status, or that nothing answers; no address."""
    status = re.search(r"status (\d{3})", str(error))
    if status:
        return f"status {status[1]}" + " without credentials" * ("without credentials" in str(error))
    if isinstance(error, FileMissing):
        return "missing"
    return "changed or cut short" if isinstance(error, ShardDamaged) else "no answer"


class RangedFile(SeekableFile):
    """One pinned file by ranges. Raises SourceChanged (gone, other length, tag or bytes), SourceFailed (not now)."""

    def __init__(self, place: tuple[ByteStore, str], entry: Entry, name: str) -> None:
        super().__init__(entry.size)
        (self._store, self._path), self._entry, self._name = place, entry, name
        self._blocks = dict[int, bytes]()

    def piece(self, at: int, wanted: int) -> memoryview:
        """Up to the end of the block."""
        number, start = divmod(at, BLOCK_BYTES)
        if number not in self._blocks:  # two are kept: readers of parquet and zip go between the end and elsewhere
            self._blocks = {**dict(list(self._blocks.items())[-1:]), number: self._read(number)}
        return memoryview(self._blocks[number])[start:]

    def _read(self, number: int) -> bytes:
        start = number * BLOCK_BYTES
        try:
            data = self._store.read_range(self._path, start, min(BLOCK_BYTES, self._entry.size - start))
            self._check_tag()
        except FileMissing:
            raise self._changed("it is gone") from None
        except ShardDamaged:
            raise self._changed("it has another length or tag") from None
        except StorageFailed as error:
            raise SourceFailed(f"source {self._name}: {error}") from None
        for at in range(0, len(data) if self._entry.chunks else 0, CHUNK_BYTES):
            place = (start + at) // CHUNK_BYTES * 16
            if blake3(data[at : at + CHUNK_BYTES]).digest(length=16) != self._entry.chunks[place : place + 16]:
                raise self._changed("it has other bytes")
        return data

    def _check_tag(self) -> None:
        tag = self._store.tag(self._path) if isinstance(self._store, Tagged) else ""
        untold = not tag and not self._blocks  # then a longer file shows only by its length, which costs a request
        size = self._store.size(self._path) if untold else self._entry.size
        known = f"{size} {tag}".encode()
        if size != self._entry.size or self._entry.digest[: len(known)] != known:
            raise self._changed("it has another length or tag")

    def _changed(self, how: str) -> SourceChanged:
        return SourceChanged(
            f"source {self._name}: {shown(self._entry.path)} changed since planned ({how}); put it back and run again, "
            "or build with --update"
        )


def _chunks(stream: io.RawIOBase) -> Iterator[bytes]:
    reader = io.BufferedReader(stream, CHUNK_BYTES)
    while chunk := reader.read(CHUNK_BYTES):
        yield chunk
