"""The spans of many samples, laid out together: headers, data and padding in one buffer, and a hash of each.

Here: samples that wait, their bytes as they stand in the tar, where each member lies.
Elsewhere: one header (tar.py), what becomes of the bytes (streams.py), the rows of the index (pages.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import xxhash

from shardkit.store import tar
from shardkit.store.buffers import Buffers
from shardkit.store.index import Facts

Buffer = bytes | bytearray | memoryview
Part = tuple[str, bytes, bytes]
"""A member: its name, its data, their BLAKE3-128."""


Encoded = tuple[str, Sequence[Part], Facts]
"""A sample as it is stored: key; members, KEY.json (`json`) first; what the index says of it."""


class EncodedColumns(NamedTuple):
    """Many of them: a row a sample, then a row a member. Half the time of the same samples one by one."""

    keys: list[str]
    facts: list[Facts]
    counts: list[int]
    """Members of each sample."""
    names: list[str]
    data: list[bytes]
    digests: list[bytes]
    """BLAKE3-128 of each member's data."""

    def add(self, key: str, parts: Sequence[Part], facts: Facts) -> None:
        """Append a sample."""
        self.keys.append(key)
        self.facts.append(facts)
        self.counts.append(len(parts))
        for name, data, digest in parts:
            self.names.append(name)
            self.data.append(data)
            self.digests.append(digest)

    def part(self, begin: int, end: int, member: int) -> EncodedColumns:
        """The rows from `begin` to `end`; the first one's members begin at `member`."""
        counts = self.counts[begin:end]
        stop = member + sum(counts)
        return EncodedColumns(
            self.keys[begin:end],
            self.facts[begin:end],
            counts,
            self.names[member:stop],
            self.data[member:stop],
            self.digests[member:stop],
        )

    def rows(self) -> Iterator[Encoded]:
        """The same one by one."""
        members = zip(self.names, self.data, self.digests, strict=True)
        for key, facts, count in zip(self.keys, self.facts, self.counts, strict=True):
            yield key, list(islice(members, count)), facts


COPIED_BYTES = 4 << 10
"""Pieces of this size, on average, are copied one by one; smaller ones with one call."""


class Waiting:
    """Samples that were taken but are not in the tar yet: a row a sample, then a row a member; lists, as they grow."""

    __slots__ = ("counts", "data", "digests", "keys", "names", "numbers", "sizes", "words")

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.counts: list[int] = []
        """Members of each."""
        self.sizes: list[int] = []
        """Bytes of each span."""
        self.numbers: list[bytes] = []
        """The index's numbers, packed."""
        self.words: list[tuple[str, ...]] = []
        """The index's words."""
        self.names: list[str] = []
        self.data: list[bytes] = []
        self.digests: list[bytes] = []

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, key: str, parts: Sequence[Part], size: int, numbers: bytes, words: tuple[str, ...]) -> None:
        """A sample, and what the index says of it."""
        for name, data, digest in parts:
            self.names.append(name)
            self.data.append(data)
            self.digests.append(digest)
        self.keys.append(key)
        self.counts.append(len(parts))
        self.sizes.append(size)
        self.numbers.append(numbers)
        self.words.append(words)

    def extend(
        self, samples: EncodedColumns, sizes: list[int], numbers: list[bytes], words: list[tuple[str, ...]]
    ) -> None:
        """Samples with their spans' sizes, and what the index says of them."""
        self.keys += samples.keys
        self.counts += samples.counts
        self.names += samples.names
        self.data += samples.data
        self.digests += samples.digests
        self.sizes += sizes
        self.numbers += numbers
        self.words += words

    def clear(self) -> None:
        """Nothing waits any more."""
        for name in self.__slots__:
            getattr(self, name).clear()

    def columns(self) -> Columns:
        """All of them, at least one."""
        return Columns(
            keys=self.keys,
            counts=np.array(self.counts, dtype=np.int64),
            ends=np.array(self.sizes, dtype=np.int64).cumsum(),
            numbers=self.numbers,
            words=self.words,
            names=self.names,
            data=self.data,
            digests=self.digests,
        )


class Columns(NamedTuple):
    """Samples that wait as columns: a row a sample, then a row a member."""

    keys: Sequence[str]
    counts: np.ndarray
    """Members of each."""
    ends: np.ndarray
    """Where each span ends, counted from the first one's beginning."""
    numbers: Sequence[bytes]
    words: Sequence[tuple[str, ...]]
    names: Sequence[str]
    data: Sequence[bytes]
    digests: Sequence[bytes]


class Spans(NamedTuple):
    """The bytes; XXH3-64 of each span; sizes of the members' data, and their offsets within their span."""

    pieces: list[Buffer]
    hashes: list[int]
    member_sizes: np.ndarray
    member_offsets: np.ndarray


def lay_out(samples: Columns) -> Spans:
    """The bytes of all samples that wait, in one buffer.

    Copying once is cheaper than many small calls, and hashes of long runs are twice as fast as those of their pieces.
    """
    sizes, stored, offsets = _measure(samples)
    pieces: list[bytes] = [b""] * (3 * len(sizes))
    pieces[0::3] = tar.blank_headers(samples.names)
    pieces[1::3] = samples.data
    pieces[2::3] = map(tar.PADDING.__getitem__, (-sizes % tar.BLOCK).tolist())
    buffer = _joined(pieces, int(stored.sum()))
    rows = np.frombuffer(buffer, dtype=np.uint8).reshape(-1, tar.BLOCK)
    tar.fill_headers(rows, (np.cumsum(stored) - stored) // tar.BLOCK, _member_keys(samples), samples.names, sizes)
    return Spans([buffer], _hashes(buffer, samples.ends), sizes, offsets)


def _joined(pieces: list[bytes], size: int) -> memoryview:
    """All pieces in one buffer. Large ones go to memory that is used again: new pages cost more than the copy."""
    if size < COPIED_BYTES * len(pieces):
        return memoryview(bytearray().join(pieces))
    buffer, at = _BUFFERS.take(size), 0
    for piece in pieces:
        end = at + len(piece)
        buffer[at:end] = piece
        at = end
    return buffer


_BUFFERS = Buffers()


def lay_out_apart(samples: Columns) -> Spans:
    """The bytes of one large sample: headers and data one by one, so that the data are not copied."""
    sizes, _, offsets = _measure(samples)
    headers = bytearray().join(tar.blank_headers(samples.names))
    rows = np.frombuffer(headers, dtype=np.uint8).reshape(-1, tar.BLOCK)
    tar.fill_headers(rows, np.arange(len(rows)), _member_keys(samples), samples.names, sizes)
    pieces: list[Buffer] = []
    span = xxhash.xxh3_64()
    for at, data in enumerate(samples.data):
        pieces += (headers[at * tar.BLOCK : (at + 1) * tar.BLOCK], data, tar.padding(len(data)))
    for piece in pieces:
        span.update(piece)
    return Spans(pieces, [span.intdigest()], sizes, offsets)


def _measure(samples: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(bytes of each member's data, bytes that it takes in the tar, offset of the data in its span)."""
    sizes = np.fromiter(map(len, samples.data), dtype=np.int64, count=len(samples.data))
    stored = tar.stored_bytes(sizes)
    if len(samples.keys) == len(samples.data):
        return sizes, stored, np.full(len(sizes), tar.BLOCK)
    begins, counts = np.cumsum(stored) - stored, samples.counts
    return sizes, stored, begins - np.repeat(begins[np.cumsum(counts) - counts], counts) + tar.BLOCK


def _member_keys(samples: Columns) -> bytes:
    """The key of each member's sample, one behind the other."""
    keys = samples.keys
    if len(keys) != len(samples.data):
        keys = [key for key, count in zip(keys, samples.counts.tolist(), strict=True) for _ in range(count)]
    return "".join(keys).encode("ascii")


def _hashes(view: memoryview, ends: np.ndarray) -> list[int]:
    digest, stops = xxhash.xxh3_64_intdigest, ends.tolist()
    return [digest(view[start:stop]) for start, stop in itertools.pairwise([0, *stops])]
