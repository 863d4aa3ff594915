"""A source of which only the chosen rows are read.

Here: rows in the order of the list, fetched where they lie; lists made longer when they run out.
Elsewhere: the list (choose.py, chosen.py), the lane that counts samples (build.lane).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import msgspec

from shardkit.records.row import Cursor
from shardkit.sources.base import Pinned, Source, Step
from shardkit.sources.sampling.choose import Wanted, choose, first_spares, more_spares
from shardkit.sources.sampling.chosen import Chosen, Place
from shardkit.sources.sampling.scan import ReadsOn, scan_rows
from shardkit.spec import SourceSpec
from shardkit.spec.shares import share


class Sampled:
    """The chosen rows of a source: `count` of them, then spare ones until there are no more.

    A list is made once and kept in the source's folder, and a longer one when it is needed. Partition p of P has the
    p-th of P contiguous parts of the rows wanted, and every P-th spare row.
    """

    def __init__(self, source: Source, spec: SourceSpec, seed: int, *, count: int, revision: str) -> None:
        self._source = source
        self._wanted = Wanted(spec=spec, seed=seed, revision=revision, count=count, spares=first_spares(count))

    def missing_tool(self) -> str:
        """What the source misses."""
        return self._source.missing_tool()

    def pin(self, folder: Path) -> Pinned:
        """What the source pins: choosing comes when rows are read."""
        return self._source.pin(folder)

    def prepare(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> None:
        """Make the list that the next row needs, which may take a pass over the whole source."""
        next(self._lists(folder, partition, partitions, _done(cursor)))

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """Chosen rows behind `cursor`, which counts those of the partition."""
        at = _done(cursor)
        for chosen in self._lists(folder, partition, partitions, at):
            for step in self._fetch(folder, part(chosen, partition, partitions, at)):
                at += 1
                yield Step(row=step.row, cursor={"chosen": at})

    def _lists(self, folder: Path, partition: int, partitions: int, at: int) -> Iterator[Chosen]:
        """Lists, each longer than the one before, from the first that reaches beyond `at`."""
        wanted = self._wanted
        while True:
            chosen = Chosen.find(folder, wanted.identity) or choose(
                lambda columns: scan_rows(self._source, folder, columns), wanted, folder
            )
            size = len_part(chosen, partition, partitions)
            if size > at or not chosen.head.more:
                yield chosen
                at = max(at, size)
            if not chosen.head.more:
                return
            wanted = msgspec.structs.replace(wanted, spares=more_spares(wanted.spares))

    def _fetch(self, folder: Path, places: Iterator[Place]) -> Iterator[Step]:
        """The rows at these places. A reader reads on where that is cheaper, or the row is the next one."""
        reader: Reader | None = None
        try:
            for place in places:
                if reader is None or not reader.is_near(place):
                    if reader is not None:
                        reader.close()
                    reader = Reader(self._source, folder, place)
                step = reader.read(place.number)
                if step is None:  # the source is shorter than it was: reading it says so where it can tell
                    return
                yield step
        finally:
            if reader is not None:
                reader.close()


class Reader:
    """The source opened at a row."""

    def __init__(self, source: Source, folder: Path, place: Place) -> None:
        self._source, self._folder = source, folder
        self._rows = source.rows(folder, 0, 1, place.before)
        self._number, self._at = place.number, place.before

    def is_near(self, place: Place) -> bool:
        """Whether the row is the next one, or is better reached by reading on."""
        if place.number <= self._number:
            return place.number == self._number
        source = self._source
        if place.before is None or not isinstance(source, ReadsOn):
            return False
        return source.reads_on(self._folder, self._at, place.before)

    def read(self, number: int) -> Step | None:
        """The row of this number, which lies ahead; none where the source ends before it."""
        for step in islice(self._rows, number - self._number, None):
            self._number, self._at = number + 1, step.cursor
            return step
        return None

    def close(self) -> None:
        """Close the source."""
        if isinstance(self._rows, Generator):
            self._rows.close()


def part(chosen: Chosen, partition: int, partitions: int, start: int) -> Iterator[Place]:
    """The rows of one partition's part of a list, from number `start` of the part on."""
    bounds = _bounds(chosen.head.main, partitions)
    first, size = bounds[partition], bounds[partition + 1] - bounds[partition]
    if start < size:
        yield from islice(chosen.places(first + start), size - start)
    spare = chosen.head.main + partition + partitions * max(0, start - size)
    yield from islice(chosen.places(spare), 0, None, partitions)


def len_part(chosen: Chosen, partition: int, partitions: int) -> int:
    """How many rows a partition's part of a list has."""
    bounds = _bounds(chosen.head.main, partitions)
    spares = range(partition, chosen.head.spares, partitions)
    return bounds[partition + 1] - bounds[partition] + len(spares)


def _bounds(main: int, partitions: int) -> list[int]:
    """Where the parts begin and end: as a quota is shared among lanes."""
    bounds = [0]
    for size in share(main, [Fraction(1)] * partitions):
        bounds.append(bounds[-1] + size)
    return bounds


def _done(cursor: Cursor | None) -> int:
    return int(cursor["chosen"]) if cursor else 0
