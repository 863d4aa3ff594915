"""The pages of an index while its shard is being written.

Here: collecting a row a sample, packing many blocks at a time, dictionaries and sums over the shard.
Elsewhere: what a page is and how it is read (index.py), the shard itself (shard.py).
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

import msgspec

from shardkit.store.index import Facts, IndexPage, PageRef, blake3_128
from shardkit.store.layout import Sums

Layout = list[tuple[str, int, int]]
"""(name, offset of the data in the span, bytes) of each member."""

Row = tuple[str, int, int, int, Facts, Layout, Sequence[bytes]]
"""A sample: key, offset, bytes and hash of its span, facts, members, their digests."""

BLOCKS_AT_A_TIME = 64
"""Packing many blocks at once costs a sixth of packing each for itself."""


class PageBuilder:
    """Takes rows and ends of blocks; gives pages, dictionaries and sums when the shard is sealed."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        """Rows of blocks that are not packed yet; the writer appends here."""
        self.refs: list[PageRef] = []
        self.pages: list[bytes] = []
        self.words: tuple[dict[str, int], ...] = ({}, {}, {}, {})
        """Dictionaries of sources, categories, sets of modalities, licences: word to position."""
        self.names: dict[str, int] = {}
        self.modalities: dict[str, int] = {}
        self._sums = [0, 0, 0, 0, 0]
        self._blocks: list[tuple[int, int, int]] = [(0, 0, 0)]

    def end_block(self, tar_bytes: int, file_bytes: int) -> None:
        """The rows so far make whole blocks; so long are the tar and the file at the end of the last one."""
        self._blocks.append((len(self.rows), tar_bytes, file_bytes))
        if len(self._blocks) > BLOCKS_AT_A_TIME:
            self.pack()

    def pack(self) -> None:
        """Turn all rows into pages."""
        if not self.rows:
            return
        columns, member_columns, firsts = self._columns()
        for before, after in itertools.pairwise(self._blocks):
            parts = _cut(columns, before[0], after[0]) | _cut(member_columns, firsts[before[0]], firsts[after[0]])
            page = msgspec.msgpack.encode(IndexPage(**parts))
            self.pages.append(page)
            spans = (before[1], after[1] - before[1], before[2], after[2] - before[2])
            self.refs.append(PageRef(len(page), blake3_128(page), after[0] - before[0], *spans))
        self.rows.clear()
        self._blocks = [(0, *self._blocks[-1][1:])]

    def sums(self) -> Sums:
        """Sums over the whole shard."""
        return Sums(**dict(zip(Sums.__struct_fields__, self._sums, strict=True)))

    def _columns(self) -> tuple[dict[str, Packed], dict[str, Packed], list[int]]:
        keys, offsets, sizes, hashes, facts, layouts, digests = zip(*self.rows, strict=True)
        about = tuple(zip(*facts, strict=True))
        counts = [len(layout) for layout in layouts]
        for at in range(5):
            self._sums[at] += sum(about[at])
        numbers = (offsets, sizes, hashes, *about[:5], *self._positions(about[5:]), counts)
        columns = {"keys": (bytes.fromhex("".join(keys)), 16)}
        columns |= {name: _pack(form, numbers[at]) for at, (name, form) in enumerate(_SAMPLE_COLUMNS)}
        return columns, self._member_columns(layouts, digests), list(itertools.accumulate(counts, initial=0))

    def _member_columns(self, layouts: Sequence[Layout], digests: Sequence[Sequence[bytes]]) -> dict[str, Packed]:
        names = self.names
        members = [member for layout in layouts for member in layout]
        return {
            "member_names": _pack("H", [names.setdefault(name, len(names)) for name, _, _ in members]),
            "member_offsets": _pack("Q", [offset for _, offset, _ in members]),
            "member_sizes": _pack("Q", [size for _, _, size in members]),
            "member_digests": (b"".join([digest for group in digests for digest in group]), 16),
        }

    def _positions(self, columns: Sequence[Sequence[str]]) -> list[list[int]]:
        for word in columns[2]:
            self.modalities[word] = self.modalities.get(word, 0) + 1
        return [
            [known.setdefault(word, len(known)) for word in column]
            for known, column in zip(self.words, columns, strict=True)
        ]


Packed = tuple[bytes, int]
"""A column's bytes and how many each row has."""

_SAMPLE_COLUMNS = (
    ("offsets", "Q"), ("sizes", "Q"), ("hashes", "Q"), ("text_characters", "I"), ("images", "H"), ("pixels", "Q"),
    ("audio_ms", "I"), ("frames", "I"), ("sources", "H"), ("categories", "H"), ("modality_sets", "H"),
    ("licences", "H"), ("member_counts", "H"),
)  # fmt: skip


def _pack(form: str, values: Sequence[int]) -> Packed:
    return struct.pack(f"<{len(values)}{form}", *values), struct.calcsize(f"<{form}")


def _cut(columns: dict[str, Packed], first: int, stop: int) -> dict[str, bytes]:
    return {name: data[first * width : stop * width] for name, (data, width) in columns.items()}
