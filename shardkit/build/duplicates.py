"""Samples whose key came earlier in the dataset, found with little memory however many samples there are.

Here: sorted runs of keys on disk, compared range by range.
Elsewhere: duplicates within a shard, which are never stored (store.shard); what is done with those found (finish.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import blake3
import numpy as np
import numpy.typing as npt

from shardkit.errors import StorageFailed
from shardkit.store import fs

RUN_ROWS = 1 << 19
"""Keys sorted in memory at a time: 12 MiB as columns, about three times that while they are sorted."""

Keys = npt.NDArray[np.uint64]
Places = npt.NDArray[np.uint32]


def find_duplicates(
    shards: Iterable[bytes], samples: int, folder: Path, run_rows: int = RUN_ROWS
) -> dict[int, list[int]]:
    """Position of a shard -> ordinals of its samples whose key an earlier sample has.

    `shards` yields the packed 16-byte keys of each shard in dataset order, `samples` keys in all. Temporary files go to
    `folder` and are removed. Raises StorageFailed.
    """
    runs: list[Run] = []
    found: dict[int, list[int]] = {}
    try:
        for columns in _gather(shards, run_rows):
            runs.append(Run(folder, len(runs), columns))
        ranges = -(-samples // run_rows)
        for at in range(ranges):
            first, stop = (at << 64) // ranges, ((at + 1) << 64) // ranges
            _compare([run.between(first, stop) for run in runs], found)
    except OSError as error:
        raise StorageFailed(f"cannot read keys in {folder}: {error.strerror}; run the same command again") from error
    finally:
        for run in runs:
            run.remove()
    return {shard: sorted(ordinals) for shard, ordinals in sorted(found.items())}


class Columns:
    """Keys in two halves and the places where they stand: equal lengths."""

    def __init__(self, high: Keys, low: Keys, shard: Places, ordinal: Places) -> None:
        self.high, self.low, self.shard, self.ordinal = high, low, shard, ordinal

    def sorted(self) -> Columns:
        """By key; equal ones stay in the order in which they came, which is that of their places."""
        order = np.lexsort((self.low, self.high))
        return Columns(self.high[order], self.low[order], self.shard[order], self.ordinal[order])


class Run:
    """Sorted columns in a temporary file, one behind the other."""

    def __init__(self, folder: Path, number: int, columns: Columns) -> None:
        self._path = folder / f"{fs.STAGE}keys-{number}-{os.getpid()}"
        self._rows = len(columns.high)
        written, read = blake3.blake3(), blake3.blake3()
        with fs.NewFile(self._path) as file:
            for column in (columns.high, columns.low, columns.shard, columns.ordinal):
                written.update(data := column.tobytes())
                file.write(data)
            for chunk in fs.read_chunks(self._path):
                read.update(chunk)
            if read.digest() != written.digest():  # a wrong key here would be a wrong version, and nobody would know
                raise fs.read_back_differs(self._path)

    def between(self, first: int, stop: int) -> Columns:
        """The part whose keys' first halves lie in [first, stop)."""
        high: Keys = np.memmap(self._path, np.uint64, "r", shape=(self._rows,))
        begin = int(np.searchsorted(high, np.uint64(first)))
        end = self._rows if stop >> 64 else int(np.searchsorted(high, np.uint64(stop)))
        rows = self._rows
        path, count = self._path, end - begin
        return Columns(
            np.fromfile(path, np.uint64, count, offset=8 * begin),
            np.fromfile(path, np.uint64, count, offset=8 * (rows + begin)),
            np.fromfile(path, np.uint32, count, offset=16 * rows + 4 * begin),
            np.fromfile(path, np.uint32, count, offset=20 * rows + 4 * begin),
        )

    def remove(self) -> None:
        """Remove the file."""
        fs.unlink(self._path)


def _gather(shards: Iterable[bytes], run_rows: int) -> Iterator[Columns]:
    parts: list[Columns] = []
    rows = 0
    for position, keys in enumerate(shards):
        halves = np.frombuffer(keys, ">u8").astype(np.uint64).reshape(-1, 2)
        count = len(halves)
        place = np.full(count, position, np.uint32)
        parts.append(Columns(halves[:, 0], halves[:, 1], place, np.arange(count, dtype=np.uint32)))
        rows += count
        if rows >= run_rows:
            yield _joined(parts).sorted()
            parts, rows = [], 0
    if rows:
        yield _joined(parts).sorted()


def _joined(parts: list[Columns]) -> Columns:
    return Columns(
        np.concatenate([part.high for part in parts]),
        np.concatenate([part.low for part in parts]),
        np.concatenate([part.shard for part in parts]),
        np.concatenate([part.ordinal for part in parts]),
    )


def _compare(parts: list[Columns], found: dict[int, list[int]]) -> None:
    columns = _joined(parts).sorted()
    later = (columns.high[1:] == columns.high[:-1]) & (columns.low[1:] == columns.low[:-1])
    for at in np.flatnonzero(later):
        found.setdefault(int(columns.shard[at + 1]), []).append(int(columns.ordinal[at + 1]))
