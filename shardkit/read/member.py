"""One member of a sample as a file: read by range, every byte checked, wherever the sample lies.

Here: `open_member`, the file.
Elsewhere: the sample's key found (find.py), whole samples (fetch.py), the digests (table.py), decoding from such a
file (media.moments).
"""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, Protocol

from shardkit.errors import ShardDamaged, ShardkitError, SpecError
from shardkit.read.cached import rereading
from shardkit.read.find import find_place
from shardkit.store.index import CHUNK_BYTES, MemberEntry, blake3_128
from shardkit.store.layout import shard_path
from shardkit.store.urls import ByteStore

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from shardkit.read.dataset import Dataset

KEPT_CHUNKS = 16
MOST_AHEAD = 8
"""Chunks asked for with one request where a file is read one behind the other: 2 MiB."""


class Parts(Protocol):
    """A member's bytes in checked pieces."""

    @property
    def size(self) -> int:
        """Bytes of the member."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`, at least one where there are any. Raises ShardDamaged, StorageFailed."""
        ...


class MemberFile(io.RawIOBase):
    """A seekable, read-only binary file over one member. Not to be shared between threads.

    `error` is what went wrong first. Libraries in C may hide what is raised while they read (soundfile takes it for
    the end of the file): look at it when they are done, as the helpers of shardkit do.
    """

    def __init__(self, parts: Parts, name: str) -> None:
        self.name = name
        self.error: ShardkitError | None = None
        self._parts, self._at = parts, 0

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from here on; how many bytes: fewer than it has room for only at the end.

        Never a short read, as a raw file may give it: libsndfile takes one for the end of the recording.
        """
        view, done = memoryview(buffer).cast("B"), 0
        if self.error is not None:
            raise self.error
        try:
            while done < len(view) and (data := self._parts.read(self._at, len(view) - done)):
                view[done : done + len(data)] = data
                done += len(data)
                self._at += len(data)
        except ShardkitError as error:
            self.error = error
            raise
        return done

    def read(self, size: int | None = -1, /) -> bytes:
        """Exactly `size` bytes, fewer only at the end; all that is left without a size."""
        left = max(0, self._parts.size - self._at)
        data = bytearray(left if size is None or size < 0 else min(size, left))
        self.readinto(data)
        return bytes(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to an offset from the start, from here or from the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._parts.size}[whence]
        if base + offset < 0:
            raise ValueError(f"offset {offset} lies before the file's start; wanted {-base} at least")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def __len__(self) -> int:
        return self._parts.size

    def __bool__(self) -> bool:
        return True


def open_member(dataset: Dataset, sample: int | str, name: str) -> MemberFile:
    """See Dataset.open_member."""
    shard, ordinal = _place(dataset, sample)
    shard, ordinal, table, row, offset, _, size, _ = dataset.fetcher.find_one(shard, ordinal)
    assert not isinstance(table, ShardkitError), "find_one raises it"
    members = {member.name: member for member in table.members(row)}
    if name not in members:
        raise SpecError(f"sample {table.key(row)} has no member {name!r}; it has {', '.join(members)}")
    entry, member = dataset.manifest.shards[shard], members[name]
    span = Span(shard_path(entry), offset, size, f"sample {table.key(row)}")
    digests = table.chunk_digests(row)
    if entry.codec == "tar" and digests:
        return MemberFile(ChunkedMember(dataset.store, span, digests, member), name)
    if entry.codec == "tar":
        return MemberFile(WholeMember(_read_whole(dataset.store, span, member)), name)
    item = dataset.fetcher.read(dataset.fetcher.find_one(shard, ordinal))
    return MemberFile(WholeMember(bytes(item.members[name])), name)


class Span(NamedTuple):
    """Where a sample lies in a plain tar: path, offset, bytes; and what it is called in messages."""

    path: str
    offset: int
    size: int
    called: str


class WholeMember:
    """A member that was read and checked in one go."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, length: int) -> bytes:
        """See Parts."""
        return self._data[offset : offset + length]


class ChunkedMember:
    """A member of a long span, read by chunks that each have a digest in the index. Keeps the last few."""

    def __init__(self, store: ByteStore, span: Span, digests: list[bytes], member: MemberEntry) -> None:
        self.size = member.size
        self._store, self._span, self._digests, self._start = store, span, digests, member.offset
        self._last = (member.offset + member.size - 1) // CHUNK_BYTES
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._next, self._ahead = -1, 1

    def read(self, offset: int, length: int) -> bytes:
        """See Parts."""
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        number, begin = divmod(self._start + offset, CHUNK_BYTES)
        return self._chunk(number)[begin : begin + length]

    def _chunk(self, number: int) -> bytes:
        found = self._kept.get(number)
        if found is not None:
            self._kept.move_to_end(number)
            return found
        self._ahead = min(2 * self._ahead, MOST_AHEAD) if number == self._next else 1
        numbers = range(number, min(number + self._ahead, self._last + 1))
        self._next = numbers.stop
        for at, chunk in zip(numbers, rereading(self._store, lambda: self._fetch(numbers)), strict=True):
            self._kept[at] = chunk
            while len(self._kept) > KEPT_CHUNKS:
                self._kept.popitem(last=False)
        return self._kept[number]

    def _fetch(self, numbers: range) -> list[bytes]:
        """Neighbouring chunks with one request, each compared with its digest."""
        path, offset, size, called = self._span
        begin, end = numbers.start * CHUNK_BYTES, min(numbers.stop * CHUNK_BYTES, size)
        data = self._store.read_range(path, offset + begin, end - begin)
        chunks = [bytes(data[at : at + CHUNK_BYTES]) for at in range(0, end - begin, CHUNK_BYTES)]
        for number, chunk in zip(numbers, chunks, strict=True):
            if blake3_128(chunk) != self._digests[number]:
                url = self._store.url
                raise ShardDamaged(
                    f"shard {path}, {called}: its bytes from {number * CHUNK_BYTES} on do not have the digest that "
                    f"the index names; run `shardkit verify {url}`"
                )
        return chunks


def _read_whole(store: ByteStore, span: Span, member: MemberEntry) -> bytes:
    def read() -> bytes:
        data = bytes(store.read_range(span.path, span.offset + member.offset, member.size))
        if blake3_128(data) != member.digest:
            raise ShardDamaged(
                f"shard {span.path}, {span.called}: member {member.name} does not have the digest of the index; "
                f"run `shardkit verify {store.url}`"
            )
        return data

    return rereading(store, read)


def _place(dataset: Dataset, sample: int | str) -> tuple[int, int]:
    """Shard and stored ordinal of a live sample, by number or by key. Raises IndexError, SpecError."""
    if isinstance(sample, int):
        count = len(dataset)
        at = sample + count if sample < 0 else sample
        if not 0 <= at < count:
            raise IndexError(f"sample {sample} of {count}")
        return dataset.live.stored_order(at)
    return find_place(dataset, sample, shortened=False)
