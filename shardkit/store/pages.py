"""The pages of an index while its shard is being written.

Here: packing the columns of many samples at a time, cutting them into pages, dictionaries and sums over the shard.
Elsewhere: what a page is and how it is read (index.py), the shard itself (shard.py).
"""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from blake3 import blake3

from shardkit.errors import SpecError
from shardkit.store.index import PageRef
from shardkit.store.layout import Sums
from shardkit.store.spans import Columns, Spans

_NUMBERS = np.dtype(
    [("text_characters", "<u4"), ("images", "<u2"), ("pixels", "<u8"), ("audio_ms", "<u4"), ("frames", "<u4")]
)
pack_numbers = struct.Struct("<IHQII").pack
"""The first five facts of a sample as its columns hold them; raises struct.error where one is too large for that."""


TOGETHER = 64
"""Pages that are made together; the fixed cost is that of some ten pages."""


class BlockEnd(NamedTuple):
    """Where a block ends: samples and members so far, and the length of the tar and of the file there."""

    samples: int
    members: int
    tar_bytes: int
    file_bytes: int


class PageBuilder:
    """Takes samples and ends of blocks; gives pages, dictionaries and sums when the shard is sealed."""

    def __init__(self) -> None:
        self.refs: list[PageRef] = []
        self.pages: list[bytes] = []
        self.words: tuple[dict[str, int], ...] = ({}, {}, {}, {})
        """Dictionaries of sources, categories, sets of modalities, licences: word to position."""
        self.names: dict[str, int] = {}
        self.modalities: Counter[str] = Counter()
        self._sums = dict.fromkeys(Sums.__struct_fields__, 0)
        self._columns = {name: bytearray() for name in _WIDTHS}
        self._hasher = blake3()
        self._ends: list[BlockEnd] = []
        self._cut = BlockEnd(0, 0, 0, 0)
        """The last block's end; columns begin there."""

    def take(self, samples: Columns, spans: Spans, offset: int) -> None:
        """Add samples whose spans begin at `offset` of the tar."""
        columns = self._columns
        sizes = np.diff(samples.ends, prepend=0)
        columns["keys"] += bytes.fromhex("".join(samples.keys))
        columns["offsets"] += (samples.ends - sizes + offset).astype("<u8").tobytes()
        columns["sizes"] += sizes.astype("<u8").tobytes()
        columns["hashes"] += struct.pack(f"<{len(spans.hashes)}Q", *spans.hashes)
        numbers = np.frombuffer(b"".join(samples.numbers), dtype=_NUMBERS)
        for name in self._sums:
            self._sums[name] += int(numbers[name].sum(dtype=np.uint64))
            columns[name] += numbers[name].tobytes()
        alike = samples.words.count(samples.words[0]) == len(samples.words)
        words = [[word] for word in samples.words[0]] if alike else zip(*samples.words, strict=True)
        for name, known, column in zip(_DICTIONARIES, self.words, words, strict=True):
            columns[name] += _positions(known, column) * (len(samples.keys) // len(column))
        self.modalities.update(
            {samples.words[0][2]: len(samples.words)} if alike else [word[2] for word in samples.words]
        )
        columns["member_counts"] += samples.counts.astype("<u2").tobytes()
        columns["member_names"] += _positions(self.names, samples.names)
        columns["member_offsets"] += spans.member_offsets.astype("<u8").tobytes()
        columns["member_sizes"] += spans.member_sizes.astype("<u8").tobytes()
        columns["member_digests"] += b"".join(samples.digests)

    def cut(self, ends: Sequence[BlockEnd]) -> None:
        """Blocks end among the samples taken since the last call; pages are made of many at a time."""
        self._ends += ends
        if len(self._ends) >= TOGETHER:
            self.finish()

    def finish(self) -> None:
        """Make a page of each block that has ended."""
        ends, self._ends = self._ends, []
        first, before = self._cut, self._cut
        for blocks in _alike(before, ends):
            pages = self._pages(first, before, blocks)
            for page, end in zip(pages, blocks, strict=True):
                in_tar = (before.tar_bytes, end.tar_bytes - before.tar_bytes)
                in_file = (before.file_bytes, end.file_bytes - before.file_bytes)
                self._hasher.reset()
                self._hasher.update(page)
                digest = self._hasher.digest(length=16)
                self.refs.append(PageRef(len(page), digest, end.samples - before.samples, *in_tar, *in_file))
                before = end
            self.pages += pages
        self._cut = before
        for name, width in _WIDTHS.items():
            done = before.members - first.members if name in _OF_MEMBERS else before.samples - first.samples
            del self._columns[name][: done * width]

    def sums(self) -> Sums:
        """Sums over the whole shard."""
        return Sums(**self._sums)

    def _pages(self, first: BlockEnd, before: BlockEnd, blocks: Sequence[BlockEnd]) -> list[bytes]:
        """Pages of blocks with equal counts of samples and of members: equal in all but the columns' content."""
        count = len(blocks)
        rows, members = blocks[0].samples - before.samples, blocks[0].members - before.members
        parts = [np.broadcast_to(np.frombuffer(_PAGE, dtype=np.uint8), (count, len(_PAGE)))]
        for name, width in _WIDTHS.items():
            each, at = (
                (members, before.members - first.members)
                if name in _OF_MEMBERS
                else (rows, before.samples - first.samples)
            )
            head = np.frombuffer(_head(name, each * width), dtype=np.uint8)
            column = np.frombuffer(self._columns[name], np.uint8, count * each * width, at * width)
            parts += (np.broadcast_to(head, (count, len(head))), column.reshape(count, -1))
        whole = np.concatenate(parts, axis=1)
        return [page.tobytes() for page in whole]


_DICTIONARIES = ("sources", "categories", "modality_sets", "licences")
_OF_MEMBERS = {"member_names": 2, "member_offsets": 8, "member_sizes": 8, "member_digests": 16}
_WIDTHS = {
    "keys": 16, "offsets": 8, "sizes": 8, "hashes": 8, "text_characters": 4, "images": 2, "pixels": 8, "audio_ms": 4,
    "frames": 4, "sources": 2, "categories": 2, "modality_sets": 2, "licences": 2, "member_counts": 2, **_OF_MEMBERS,
}  # fmt: skip
"""Bytes that each column has for a row, in the order of a page."""

MAX_WORDS = 1 << 16
"""Words of one kind in a shard: columns hold their positions in two bytes."""

_PAGE = b"\xde" + struct.pack(">H", len(_WIDTHS))
"""How a page begins in msgpack: a map of so many keys."""


def _head(name: str, size: int) -> bytes:
    """A key of a page and the length of its column, in msgpack's shortest form."""
    key = bytes([0xA0 + len(name)]) + name.encode("ascii")
    if size < 1 << 8:
        return key + struct.pack(">BB", 0xC4, size)
    return key + (struct.pack(">BH", 0xC5, size) if size < 1 << 16 else struct.pack(">BI", 0xC6, size))


def _positions(known: dict[str, int], words: Sequence[str]) -> bytes:
    """Positions in a dictionary, which takes up new words in the order of their first appearance. Raises SpecError."""
    alike = words.count(words[0]) == len(words)  # most columns hold one word
    for word in words[:1] if alike else dict.fromkeys(words):
        known.setdefault(word, len(known))
    if len(known) > MAX_WORDS:
        raise SpecError(
            f"a shard has over {MAX_WORDS:,} different categories, licences or names of members, more than its index "
            "can count; set limits.shard_samples lower and build into another folder"
        )
    if alike:
        return struct.pack("<H", known[words[0]]) * len(words)
    return struct.pack(f"<{len(words)}H", *map(known.__getitem__, words))


def _alike(before: BlockEnd, ends: Sequence[BlockEnd]) -> Iterator[list[BlockEnd]]:
    """Runs of blocks with equal counts of samples and of members."""
    starts = (before, *ends)
    counts = [(end.samples - start.samples, end.members - start.members) for start, end in itertools.pairwise(starts)]
    for _, run in itertools.groupby(zip(counts, ends, strict=True), key=lambda pair: pair[0]):
        yield [end for _, end in run]
