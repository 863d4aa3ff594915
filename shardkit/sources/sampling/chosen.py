"""The list of chosen rows on disk, in the source's private folder.

Here: writing it whole, reading it against its digest.
Elsewhere: what is chosen (choose.py), what is done with it (sampled.py).

A list is a file `chosen-<digest of what it depends on>`: the head as msgpack behind its length in 4 bytes, then for
each row its number in the source and the cursor before it, msgpack behind its length; at the end 4 zero bytes and the
BLAKE3-256 of all before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import msgspec
from blake3 import blake3

from shardkit.records.row import Cursor
from shardkit.sources.listing import write_private
from shardkit.store import fs

END = bytes(4)
DIGEST_BYTES = 32


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """`rows` were looked at, `main` chosen, `spares` stand behind them; `more`: there are others that do not.

    `strata` are the rows chosen of each stratum.
    """

    rows: int
    main: int
    spares: int
    more: bool
    strata: dict[str, int] = {}


class Place(NamedTuple):
    """A chosen row: its number in the source, and the cursor before it."""

    number: int
    before: Cursor | None


class Chosen:
    """A list that is on disk, whole."""

    def __init__(self, path: Path, head: Head) -> None:
        self.path, self.head = path, head

    @classmethod
    def write(cls, folder: Path, identity: bytes, head: Head, entries: Iterable[tuple[int, bytes]]) -> Chosen:
        """Write a list; `entries` are numbers and cursors as msgpack. Raises StorageFailed."""
        path = _path(folder, identity)
        write_private(path, _records(head, entries))
        return cls(path, head)

    @classmethod
    def find(cls, folder: Path, identity: bytes) -> Chosen | None:
        """The list of these wishes, where it is on disk and has its digest."""
        path = _path(folder, identity)
        found, tail = blake3(), b""
        try:
            for chunk in fs.read_chunks(path):
                tail += chunk
                found.update(tail[:-DIGEST_BYTES])
                tail = tail[-DIGEST_BYTES:]
            with path.open("rb") as stream:
                size = int.from_bytes(stream.read(4), "little")
                return (
                    cls(path, msgspec.msgpack.decode(stream.read(size), type=Head)) if found.digest() == tail else None
                )
        except (OSError, msgspec.DecodeError):
            return None

    def places(self, start: int) -> Iterator[Place]:
        """Chosen rows from number `start` of the list on."""
        with self.path.open("rb") as stream:
            stream.seek(int.from_bytes(stream.read(4), "little"), 1)
            lengths = iter(lambda: int.from_bytes(stream.read(4), "little"), 0)
            for length in islice(lengths, start):
                stream.seek(length, 1)
            for length in lengths:
                number, before = msgspec.msgpack.decode(stream.read(length), type=tuple[int, Cursor | None])
                yield Place(number, before)


def _records(head: Head, entries: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    digest = blake3()
    places = (b"\x92" + msgspec.msgpack.encode(number) + cursor for number, cursor in entries)  # an array of two
    for record in chain([msgspec.msgpack.encode(head)], places):
        part = len(record).to_bytes(4, "little") + record
        digest.update(part)
        yield part
    digest.update(END)
    yield END
    yield digest.digest()


def _path(folder: Path, identity: bytes) -> Path:
    return folder / f"chosen-{blake3(identity).hexdigest()[:16]}"
