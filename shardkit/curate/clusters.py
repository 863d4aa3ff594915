"""Clusters: which samples are near one another, found among those that meet in a band.

Here: union-find, the pairs that meet, what decides about a pair, the clusters of a table.
Elsewhere: the table (table.py), similarity itself (text.py, images.py), what is omitted (dedup.py).

The clusters are the connected parts of a graph: samples are joined that share a band value and are near by the true
Jaccard similarity of their shingles and by the distance of their photos' hashes. Its parts do not depend on the order
in which pairs are looked at, so pairs that are joined already need not be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from shardkit.curate.fingerprints import Rows
from shardkit.curate.images import RADIUS, distance
from shardkit.curate.table import Table
from shardkit.curate.text import SLACK, agreement, jaccard
from shardkit.spec import DedupOptions

MOST_TOGETHER = 1000
"""Samples that share a band are compared with so many that follow them in it. A band that more share is a template of
thousands of texts; those that are near meet in other bands too."""

ROWS_HELD = 1 << 17
"""Rows in memory while a part of a partition is looked at: 23 MiB."""

PAIRS_AT_ONCE = 1 << 16

I64 = npt.NDArray[np.int64]


class Forest:
    """Union-find over numbered things: the root of a cluster is its first. Four bytes each."""

    def __init__(self, count: int) -> None:
        self._parents = np.arange(count, dtype=np.uint32)

    def root(self, number: int) -> int:
        """The first of the cluster that `number` is in."""
        parents = self._parents
        while (parent := int(parents[number])) != number:
            parents[number] = parents[parent]
            number = parent
        return number

    def join(self, one: int, other: int) -> None:
        """Make one cluster of two."""
        one, other = self.root(one), self.root(other)
        self._parents[max(one, other)] = min(one, other)

    def roots(self) -> npt.NDArray[np.uint32]:
        """Of every number the first of its cluster."""
        self._parents = self.roots_of(self._parents)
        return self._parents

    def roots_of(self, numbers: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
        """The same of some numbers."""
        found: npt.NDArray[np.uint32] = self._parents[numbers]
        while not np.array_equal(above := self._parents[found], found):
            found = above
        return found


class ClusterCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How much was compared: pairs that met, those whose similarity was computed, those that are near.

    `crowded` counts samples that were not compared with all that they share a band with, since more than
    MOST_TOGETHER do.
    """

    pairs: int = 0
    compared: int = 0
    near: int = 0
    crowded: int = 0


def find_clusters(
    table: Table, options: DedupOptions, on_part: Callable[[int, int], None] = lambda done, total: None
) -> tuple[npt.NDArray[np.uint32], ClusterCounts]:
    """Of every row of a sealed table the first row of its cluster, and how much was compared. Raises StorageFailed."""
    forest, counts = Forest(table.rows), _Tally()
    for done, bands in enumerate(table.partitions()):
        for rows, values in _parts(bands):
            _join_near(table, options, forest, (rows, values), counts)
        on_part(done + 1, table.parts)
    return forest.roots(), counts.done()


class Nearness:
    """How near two rows of a table are, by everything that is compared."""

    def __init__(self, table: Table, options: DedupOptions) -> None:
        self._table, self._options = table, options

    def likely(self, first: Rows, second: Rows) -> npt.NDArray[np.bool_]:
        """Which pairs may be near, from the rows alone: what must be equal is, and the signatures agree."""
        equal: npt.NDArray[np.bool_] = (first["exact"] == second["exact"]) & (first["photos"] == second["photos"])
        equal &= (first["shingles"] > 0) == (second["shingles"] > 0)
        shorter = np.minimum(first["shingles"], second["shingles"]).astype(np.float64)
        longer = np.maximum(first["shingles"], second["shingles"]).astype(np.float64)
        equal &= shorter >= self._options.threshold * longer - 1e-9
        likely = np.flatnonzero(equal)
        signed = agreement(first["signature"][likely], second["signature"][likely])
        equal[likely] = signed >= self._options.threshold - SLACK
        return equal

    def similarity(self, first: np.void, second: np.void) -> float:
        """The least similarity, 0 to 1, of what two likely rows have: texts by Jaccard, photos by equal bits."""
        photos = 1.0
        if first["photos"]:
            photos = 1 - int(distance(self._table.photos(first), self._table.photos(second)).max()) / 64
        text = 1.0
        if first["shingles"]:
            text = jaccard(self._table.shingles(first), self._table.shingles(second))
        return min(photos, text)

    def near(self, first: np.void, second: np.void) -> bool:
        """Whether two likely rows are near-duplicates."""
        if first["photos"] and distance(self._table.photos(first), self._table.photos(second)).max() > RADIUS:
            return False
        if not first["shingles"]:
            return True
        found = jaccard(self._table.shingles(first), self._table.shingles(second))
        return found >= self._options.threshold - 1e-9


class _Tally:
    """ClusterCounts while they grow."""

    def __init__(self) -> None:
        self.pairs = self.compared = self.near = self.crowded = 0

    def done(self) -> ClusterCounts:
        return ClusterCounts(pairs=self.pairs, compared=self.compared, near=self.near, crowded=self.crowded)


def _parts(bands: Rows) -> Iterator[tuple[I64, npt.NDArray[np.uint64]]]:
    """(rows, values) of those that share a value with another, cut between values into parts of about ROWS_HELD."""
    values = bands["value"].copy()
    equal = values[1:] == values[:-1]
    shared = np.zeros(len(values), dtype=bool)
    shared[1:] |= equal
    shared[:-1] |= equal
    rows, values = bands["row"][shared].astype(np.int64), values[shared]
    ends = [*(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist(), len(values)]
    start = 0
    for number, end in enumerate(ends):
        if number + 1 == len(ends) or ends[number + 1] - start > ROWS_HELD:
            for at in range(start, end, ROWS_HELD):  # more than one only where a single value has more
                yield rows[at : min(at + ROWS_HELD, end)], values[at : min(at + ROWS_HELD, end)]
            start = end


def _join_near(
    table: Table, options: DedupOptions, forest: Forest, part: tuple[I64, npt.NDArray[np.uint64]], counts: _Tally
) -> None:
    numbers, places = np.unique(part[0], return_inverse=True)
    rows, nearness = table.take(numbers), Nearness(table, options)
    for lag, (one, other) in enumerate(_meetings(places, part[1])):
        roots = forest.roots_of(numbers)
        apart = roots[one] != roots[other]
        if lag == MOST_TOGETHER:
            counts.crowded += int(np.count_nonzero(apart))
            return
        pairs = np.unique(one[apart] << 32 | other[apart])
        counts.pairs += len(pairs)
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            some = pairs[start : start + PAIRS_AT_ONCE]
            first, second = some >> 32, some & 0xFFFFFFFF
            likely = np.flatnonzero(nearness.likely(rows[first], rows[second]))
            for at in likely.tolist():
                a, b = int(first[at]), int(second[at])
                if forest.root(int(numbers[a])) == forest.root(int(numbers[b])):
                    continue
                counts.compared += 1
                if nearness.near(rows[a], rows[b]):
                    counts.near += 1
                    forest.join(int(numbers[a]), int(numbers[b]))


def _meetings(places: I64, values: npt.NDArray[np.uint64]) -> Iterator[tuple[I64, I64]]:
    """Pairs of places that share a value: first all neighbours, then those with one between them, and so on."""
    at, lag = np.arange(len(values)), 0
    while len(at):
        lag += 1
        at = at[: np.searchsorted(at, len(values) - lag)]
        at = at[values[at + lag] == values[at]]
        yield places[at], places[at + lag]
