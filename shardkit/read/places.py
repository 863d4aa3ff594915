"""Where many samples lie: a column a fact, so that a batch costs a few calls and not a few calls a sample.

Here: the columns, cutting them, one place as plain numbers.
Elsewhere: filling them from the index (fetch.py), reading what lies there (fetch.py).
"""

from __future__ import annotations

from collections.abc import Iterator
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


class Places:
    """Columns of places, in the order of `Place`; `blocks` numbers their blocks over all shards.

    `sound` says that every place has a table. Slices are views; iterating gives a `Place` each.
    """

    __slots__ = ("blocks", "hashes", "offsets", "ordinals", "rows", "shards", "sizes", "sound", "tables", "within")

    def __init__(self, shards: I64, ordinals: I64, blocks: I64) -> None:
        count = len(shards)
        self.shards, self.ordinals, self.blocks = shards, ordinals, blocks
        self.tables: NDArray[np.object_] = np.empty(count, dtype=object)
        self.rows, self.offsets, self.within, self.sizes = (np.zeros(count, dtype=np.int64) for _ in range(4))
        self.hashes: NDArray[np.uint64] = np.zeros(count, dtype=np.uint64)
        self.sound = True

    def fill(self, table: Table | ShardkitError, group: I64 | slice) -> None:
        """Write what a table says of the samples whose numbers are in `group`."""
        self.tables[group] = table
        if isinstance(table, ShardkitError):
            self.sound = False
            return
        self.rows[group] = rows = self.ordinals[group] - table.first
        self.offsets[group], self.within[group] = table.offsets[rows], table.within[rows]
        self.sizes[group], self.hashes[group] = table.sizes[rows], table.hashes[rows]

    def pick(self, part: slice | NDArray[np.intp]) -> Places:
        """Some of the places: a slice as views, numbers as copies."""
        picked = Places.__new__(Places)
        picked.sound = self.sound
        for name in (*COLUMNS, "blocks"):
            setattr(picked, name, getattr(self, name)[part])
        return picked

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, part: slice) -> Places:
        return self.pick(part)

    def __iter__(self) -> Iterator[Place]:
        return zip(*(getattr(self, name).tolist() for name in COLUMNS), strict=True)
