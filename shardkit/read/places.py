"""Where many samples lie: a column a fact, so that a batch costs a few calls and not a few calls a sample.

Here: the columns, cutting them, one place as plain numbers.
Elsewhere: filling them from the index (fetch.py), reading what lies there (fetch.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from shardkit.errors import ShardkitError
from shardkit.read.order import I64
from shardkit.read.table import Table

Place: TypeAlias = tuple[int, int, Table | ShardkitError, int, int, int, int, int]
"""Where a sample lies: shard, ordinal, table (or why there is none), row, offset in the tar and in the block, bytes,
XXH3-64."""

COLUMNS = ("shards", "ordinals", "tables", "rows", "offsets", "within", "sizes", "hashes")

_NO_CUTS: I64 = np.zeros((0, 0, 2), dtype=np.int64)


class Places:
    """Columns of places, in the order of `Place`; `blocks` numbers their blocks over all shards.

    `sound` says that every place has a table. Where all samples have members of the same names, `layout` names them
    and `cuts` (samples, members, 2) says where they begin and end in their spans. Slices are views; iterating gives a
    `Place` each.
    """

    __slots__ = (
        "blocks", "cuts", "hashes", "layout", "offsets", "ordinals", "rows", "shards", "sizes", "sound", "tables",
        "within",
    )  # fmt: skip

    def __init__(self, shards: I64, ordinals: I64, blocks: I64) -> None:
        count = len(shards)
        self.shards, self.ordinals, self.blocks = shards, ordinals, blocks
        self.tables: NDArray[np.object_] = np.empty(count, dtype=object)
        self.rows, self.offsets, self.within, self.sizes = (np.zeros(count, dtype=np.int64) for _ in range(4))
        self.hashes: NDArray[np.uint64] = np.zeros(count, dtype=np.uint64)
        self.sound = True
        self.layout: tuple[str, ...] | None = None
        self.cuts: I64 = _NO_CUTS

    def fill(self, table: Table | ShardkitError, group: I64 | slice) -> None:
        """Write what a table says of the samples whose numbers are in `group`."""
        self.tables[group] = table
        if isinstance(table, ShardkitError):
            self.sound, self.layout = False, ()
            return
        self.rows[group] = rows = self.ordinals[group] - table.first
        self.offsets[group], self.within[group] = table.offsets[rows], table.within[rows]
        self.sizes[group], self.hashes[group] = table.sizes[rows], table.hashes[rows]
        if self.layout is None and table.layout:
            self.layout, self.cuts = table.layout, np.zeros((len(self), len(table.layout), 2), dtype=np.int64)
        if self.layout and table.layout == self.layout:
            self.cuts[group] = table.cuts[rows]
        else:
            self.layout = ()

    def pick(self, part: slice | NDArray[np.intp]) -> Places:
        """Some of the places: a slice as views, numbers as copies."""
        picked = Places.__new__(Places)
        picked.sound, picked.layout = self.sound, self.layout
        picked.cuts = self.cuts[part] if self.layout else self.cuts
        for name in (*COLUMNS, "blocks"):
            setattr(picked, name, getattr(self, name)[part])
        return picked

    def members(self, spans: Sequence[memoryview]) -> Iterable[dict[str, memoryview] | None]:
        """The members of every place as views of its span; None for those that are looked up one by one."""
        names = self.layout
        if not names:
            return repeat(None, len(spans))
        cuts = list(map(slice, self.cuts[..., 0].ravel().tolist(), self.cuts[..., 1].ravel().tolist()))
        if len(names) == 1:
            (name,) = names
            return [{name: span[cut]} for span, cut in zip(spans, cuts, strict=True)]
        count = len(names)
        return [
            dict(zip(names, [span[cut] for cut in cuts[at : at + count]], strict=True))
            for span, at in zip(spans, range(0, len(cuts), count), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, part: slice) -> Places:
        return self.pick(part)

    def __iter__(self) -> Iterator[Place]:
        return zip(*(getattr(self, name).tolist() for name in COLUMNS), strict=True)
