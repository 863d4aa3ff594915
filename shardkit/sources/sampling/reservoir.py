"""The best of many rows, held in little memory.

Here: a reservoir that keeps the smallest entries offered to it, and the file that holds their cursors.
Elsewhere: what the numbers of an entry mean (choose.py).
"""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shardkit.records.row import Cursor
from shardkit.store import fs

SLACK = 1024
"""Entries beyond twice its room that a reservoir holds before it sorts."""

WRITE_BYTES = 256 << 10


class Spool:
    """Cursors in a temporary file, found again by their place: so that a reservoir holds numbers alone.

    Use `with`: the file is gone at the end, or, after a kill, when the build recovers.
    """

    def __init__(self, folder: Path) -> None:
        self._file = fs.NewFile(folder / f"{fs.STAGE}cursors-{os.getpid()}")
        self._written = 0
        self._waiting = bytearray()

    def add(self, cursor: Cursor | None) -> int:
        """Keep a cursor; its place."""
        place = self._written + len(self._waiting)
        record = msgspec.msgpack.encode(cursor)
        self._waiting += len(record).to_bytes(4, "little") + record
        if len(self._waiting) >= WRITE_BYTES:
            self._write()
        return place

    def read(self, place: int) -> bytes:
        """The cursor kept at a place, as msgpack; after `finish`."""
        size = int.from_bytes(os.pread(self._fd, 4, place), "little")
        return os.pread(self._fd, size, place + 4)

    def finish(self) -> None:
        """Nothing is added any more."""
        self._write()
        self._fd = os.open(self._file.path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        self._file.discard()

    def _write(self) -> None:
        self._file.write(self._waiting)
        self._written += len(self._waiting)
        self._waiting = bytearray()

    _fd = -1


class Reservoir:
    """Keeps the `room` smallest of the entries offered, by their ranks, then draw, then number of the row.

    Memory: 24 bytes and 8 a rank for each entry, of twice its room.
    """

    def __init__(self, room: int, ranks: int) -> None:
        self._room = room
        self._ranks = [array("d") for _ in range(ranks)]
        self._draws, self._rows, self._places = array("Q"), array("Q"), array("Q")
        self._worst: tuple[float, ...] | None = None

    def wants(self, ranks: tuple[float, ...], draw: int, row: int) -> bool:
        """Whether an entry may be among the smallest."""
        return self._room > 0 and (self._worst is None or (*ranks, draw, row) < self._worst)

    def add(self, ranks: tuple[float, ...], draw: int, row: int, place: int) -> None:
        """Take an entry that is wanted."""
        for column, rank in zip(self._ranks, ranks, strict=True):
            column.append(rank)
        self._draws.append(draw)
        self._rows.append(row)
        self._places.append(place)
        if len(self._rows) >= 2 * self._room + SLACK:
            self._cut()

    def entries(self) -> list[tuple[int, int]]:
        """(number of the row, place of its cursor) of those kept, the smallest first."""
        self._cut()
        return list(zip(self._rows, self._places, strict=True))

    def _cut(self) -> None:
        columns: list[array[Any]] = [self._rows, self._draws, *reversed(self._ranks)]
        order = np.lexsort([np.frombuffer(column, column.typecode) for column in columns])[: self._room]
        for column in (*columns, self._places):
            column[:] = array(column.typecode, np.frombuffer(column, column.typecode)[order].tobytes())
        if len(order) == self._room and self._room:
            self._worst = (*(column[-1] for column in self._ranks), self._draws[-1], self._rows[-1])
