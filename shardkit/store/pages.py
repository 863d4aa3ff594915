"""The pages of an index while its shard is being written.

Here: packing the columns of many samples at a time, cutting them into blocks, dictionaries and sums over the shard.
Elsewhere: what a page is and how it is read (index.py), the shard itself (shard.py).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from shardkit.store.index import Facts, IndexPage, PageRef, blake3_128
from shardkit.store.layout import Sums


class Samples(NamedTuple):
    """What the index says of some samples; rows a sample, from `names` on a row a member."""

    keys: Sequence[str]
    offsets: np.ndarray
    """Of the spans in the tar."""
    sizes: Sequence[int]
    """Bytes of the spans."""
    hashes: Sequence[int]
    facts: Sequence[Facts]
    counts: Sequence[int]
    names: Sequence[str]
    member_offsets: np.ndarray
    """Of the data in the span."""
    member_sizes: np.ndarray
    digests: Sequence[bytes]


class BlockEnd(NamedTuple):
    """Where a block ends: samples and members so far, and the length of the tar and of the file there."""

    samples: int
    members: int
    tar_bytes: int
    file_bytes: int


class PageBuilder:
    """Takes samples and ends of blocks; gives pages, dictionaries and sums when the shard is sealed.

    Columns are packed for many samples at once, and cut at the ends of blocks.
    """

    def __init__(self) -> None:
        self.refs: list[PageRef] = []
        self.pages: list[bytes] = []
        self.words: tuple[dict[str, int], ...] = ({}, {}, {}, {})
        """Dictionaries of sources, categories, sets of modalities, licences: word to position."""
        self.names: dict[str, int] = {}
        self.modalities: Counter[str] = Counter()
        self._sums = [0, 0, 0, 0, 0]
        self._columns = {name: bytearray() for name in _WIDTHS}
        self._cut = BlockEnd(0, 0, 0, 0)
        """The last block's end; columns begin there."""

    def take(self, samples: Samples) -> None:
        """Add at least one sample."""
        for name, data in (self._sample_columns(samples) | self._member_columns(samples)).items():
            self._columns[name] += data

    def cut(self, ends: Sequence[BlockEnd]) -> None:
        """Make a page of each block that ends among the samples taken since the last page."""
        columns = self._columns
        before = first = self._cut
        for end in ends:
            rows = (before.samples - first.samples, end.samples - first.samples)
            members = (before.members - first.members, end.members - first.members)
            self._add_page(before, end, _slices(columns, rows, members))
            before = self._cut = end
        for name, width in _WIDTHS.items():
            rows_done = before.members - first.members if name in _OF_MEMBERS else before.samples - first.samples
            del columns[name][: rows_done * width]

    def sums(self) -> Sums:
        """Sums over the whole shard."""
        return Sums(**dict(zip(Sums.__struct_fields__, self._sums, strict=True)))

    def _add_page(self, before: BlockEnd, end: BlockEnd, columns: dict[str, bytes]) -> None:
        page = msgspec.msgpack.encode(IndexPage(**columns))
        self.pages.append(page)
        spans = (before.tar_bytes, end.tar_bytes - before.tar_bytes)
        spans += (before.file_bytes, end.file_bytes - before.file_bytes)
        self.refs.append(PageRef(len(page), blake3_128(page), end.samples - before.samples, *spans))

    def _sample_columns(self, samples: Samples) -> dict[str, bytes]:
        about = tuple(zip(*samples.facts, strict=True))
        for at in range(5):
            self._sums[at] += sum(about[at])
        self.modalities.update(about[7])
        numbers = {name: _pack(form, column) for (name, form), column in zip(_FACTS, about[:5], strict=True)}
        words = zip(("sources", "categories", "modality_sets", "licences"), self.words, about[5:], strict=True)
        return {
            "keys": bytes.fromhex("".join(samples.keys)),
            "offsets": samples.offsets.astype("<u8").tobytes(),
            "sizes": _pack("Q", samples.sizes),
            "hashes": _pack("Q", samples.hashes),
            **numbers,
            **{name: _positions(known, column) for name, known, column in words},
            "member_counts": _pack("H", samples.counts),
        }

    def _member_columns(self, samples: Samples) -> dict[str, bytes]:
        return {
            "member_names": _positions(self.names, samples.names),
            "member_offsets": samples.member_offsets.astype("<u8").tobytes(),
            "member_sizes": samples.member_sizes.astype("<u8").tobytes(),
            "member_digests": b"".join(samples.digests),
        }


_FACTS = (("text_characters", "I"), ("images", "H"), ("pixels", "Q"), ("audio_ms", "I"), ("frames", "I"))
_OF_MEMBERS = {"member_names": 2, "member_offsets": 8, "member_sizes": 8, "member_digests": 16}
_WIDTHS = {
    "keys": 16, "offsets": 8, "sizes": 8, "hashes": 8, "text_characters": 4, "images": 2, "pixels": 8, "audio_ms": 4,
    "frames": 4, "sources": 2, "categories": 2, "modality_sets": 2, "licences": 2, "member_counts": 2, **_OF_MEMBERS,
}  # fmt: skip
"""Bytes that each column has for a row."""


def _pack(form: str, values: Sequence[int]) -> bytes:
    """Packed numbers; a column of one value, which most are, costs next to nothing."""
    if values.count(values[0]) == len(values):
        return struct.pack(f"<{form}", values[0]) * len(values)
    return struct.pack(f"<{len(values)}{form}", *values)


def _positions(known: dict[str, int], words: Sequence[str]) -> bytes:
    """Positions in a dictionary, which takes up new words in the order of their first appearance."""
    for word in dict.fromkeys(words):
        known.setdefault(word, len(known))
    return _pack("H", [*map(known.__getitem__, words)])


def _slices(columns: dict[str, bytearray], rows: tuple[int, int], members: tuple[int, int]) -> dict[str, bytes]:
    return {
        name: bytes(memoryview(columns[name])[first * width : stop * width])
        for name, width in _WIDTHS.items()
        for first, stop in [members if name in _OF_MEMBERS else rows]
    }
