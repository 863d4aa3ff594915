"""All fingerprints of a dataset on disk, however many there are: rows, shingles, photos, and where candidates meet.

Here: appending batches, reading rows by number, the partitions of the bands.
Elsewhere: the fingerprints (fingerprints.py), the files (scratch.py), comparing (clusters.py).

A sample gives twenty band values. They are spread over partitions by their value, so that each partition can be sorted
in memory; whoever shares a value lies in the same one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shardkit.curate.fingerprints import BAND, MOST_BANDS, ROW, Batch, Rows
from shardkit.curate.scratch import Scratch
from shardkit.curate.words import U64, mix

PARTITION_BANDS = 1 << 20
"""Band values sorted in memory at a time: 12 MiB, about five times that while they are sorted."""

MOST_PARTITIONS = 500
"""Each is an open file while the table is filled."""

WAITING_BANDS = 1 << 19
GAP_ROWS = 16
"""Rows that lie so close to one another are read in one go."""


class Table:
    """Fingerprints in dataset order; use `with`: the files are removed at the end.

    `expected` is how many samples will come at most; it decides the number of partitions, not the result.
    """

    def __init__(self, folder: Path, expected: int, partition_bands: int | None = None) -> None:
        wanted = -(-expected * MOST_BANDS // (partition_bands or PARTITION_BANDS))
        count = max(1, min(wanted, MOST_PARTITIONS))
        self._files: list[Scratch] = []
        self._rows = self._open(folder, "rows")
        self._shingles = self._open(folder, "shingles")
        self._photos = self._open(folder, "photos")
        self._partitions = [self._open(folder, f"bands-{number}") for number in range(count)]
        self._waiting: list[Rows] = []
        self._waits = 0
        self.rows = 0

    def append(self, batch: Batch) -> None:
        """Add a batch behind what is there. Raises StorageFailed."""
        rows = batch.rows.copy()
        rows["shingles_at"] += np.uint64(self._shingles.bytes // 4)
        rows["photos_at"] += np.uint64(self._photos.bytes // 8)
        bands = batch.bands.copy()
        bands["row"] += np.uint32(self.rows)
        self._rows.append(rows.tobytes())
        self._shingles.append(batch.shingles.tobytes())
        self._photos.append(batch.photos.tobytes())
        self.rows += len(rows)
        self._waiting.append(bands)
        self._waits += len(bands)
        if self._waits >= WAITING_BANDS:
            self._spread()

    def seal(self) -> None:
        """End appending. Raises StorageFailed."""
        self._spread()
        for file in self._files:
            file.seal()

    @property
    def bytes(self) -> int:
        """What the table takes on disk."""
        return sum(file.bytes for file in self._files)

    @property
    def parts(self) -> int:
        """How many partitions the bands are in."""
        return len(self._partitions)

    def partitions(self) -> Iterator[Rows]:
        """The bands, partition by partition, sorted by value, then by row."""
        for file in self._partitions:
            bands = np.frombuffer(file.read(0, file.bytes), BAND)
            yield bands[np.lexsort((bands["row"], bands["value"]))]

    def take(self, numbers: npt.NDArray[np.int64]) -> Rows:
        """Rows by their numbers, which ascend strictly."""
        found = np.zeros(len(numbers), ROW)
        if not len(numbers):
            return found
        cuts = [0, *(np.flatnonzero(np.diff(numbers) > GAP_ROWS) + 1).tolist(), len(numbers)]
        for start, stop in itertools.pairwise(cuts):
            first, last = int(numbers[start]), int(numbers[stop - 1])
            near = np.frombuffer(self._rows.read(first * ROW.itemsize, (last + 1 - first) * ROW.itemsize), ROW)
            found[start:stop] = near[numbers[start:stop] - first]
        return found

    def shingles(self, row: np.void) -> npt.NDArray[np.uint32]:
        """The shingles of a row, ascending."""
        return np.frombuffer(self._shingles.read(4 * int(row["shingles_at"]), 4 * int(row["shingles"])), np.uint32)

    def photos(self, row: np.void) -> U64:
        """The perceptual hashes of a row's photos in order."""
        return np.frombuffer(self._photos.read(8 * int(row["photos_at"]), 8 * int(row["photos"])), np.uint64)

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.remove()

    def _open(self, folder: Path, name: str) -> Scratch:
        file = Scratch(folder, name)
        self._files.append(file)
        return file

    def _spread(self) -> None:
        if not self._waiting:
            return
        bands = np.concatenate(self._waiting)
        self._waiting, self._waits = [], 0
        owners = mix(bands["value"]) % np.uint64(len(self._partitions))
        bands = bands[np.argsort(owners, kind="stable")]
        edges = np.searchsorted(np.sort(owners), np.arange(len(self._partitions) + 1, dtype=np.uint64))
        for file, start, stop in zip(self._partitions, edges, edges[1:], strict=False):
            file.append(bands[start:stop].tobytes())
