"""A packing lane's samples in their order, located, fetched and decoded ahead of use.

Here: feeds, and how far ahead of the packs they are kept, in samples and bytes.
Elsewhere: what is done with the samples (packed.py), where they lie and their bytes (stream.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from shardkit.errors import ShardDamaged, SpecError, StorageFailed
from shardkit.read.ahead import AHEAD_BYTES
from shardkit.read.item import Item
from shardkit.read.pack import Cost
from shardkit.read.pack_state import LaneState, Size, back, forward
from shardkit.read.stream import Place, Stream

LOCATED = 64
"""Places that a lane looks up in one go."""

PIECE = 8
"""Samples that a thread reads in one go: one each would cost more in hand-overs than a small sample in decoding."""

PIECES_AHEAD = 4
"""Pieces a thread that are under way or wait, at most."""

Decode = Callable[[Item], Any]
CostOf = Callable[[Any], Cost | None]


class Read(NamedTuple):
    """What came of a place: the value and its cost (none: it is not to be packed), or what was wrong with it."""

    at: int
    place: Place
    value: Any
    cost: Cost | None
    size_bytes: int
    error: Exception | None


class Feed:
    """One lane: the places of its carried samples (numbered from below 0), then those that come (from 0 on)."""

    def __init__(self, state: LaneState, lanes: int, size: Size) -> None:
        self.state = state
        self._positions = _positions(state, lanes, size)
        self._located: deque[tuple[int, Place]] = deque()
        self._announced: deque[tuple[int, Place, int]] = deque()
        self.pieces: deque[Future[list[Read]]] = deque()
        self.ready: deque[Read] = deque()
        self.waiting = 0
        """Samples in `pieces` and `ready`."""

    @property
    def announced(self) -> int:
        """Samples whose bytes were asked for and that no thread reads yet."""
        return len(self._announced)

    def announce(self, stream: Stream, executor: Executor) -> int:
        """Ask for the bytes of the next sample; how many that are."""
        at, place = self._next(stream)
        size = stream.announce([place], executor)
        self._announced.append((at, place, size))
        return size

    def take(self, stream: Stream, count: int) -> tuple[list[tuple[int, Place]], int]:
        """The next places to read, and how many bytes had been asked for them."""
        taken, size = [], 0
        for _ in range(count):
            if self._announced:
                at, place, asked = self._announced.popleft()
                taken.append((at, place))
                size += asked
            else:
                taken.append(self._next(stream))
        return taken, size

    def _next(self, stream: Stream) -> tuple[int, Place]:
        if not self._located:
            wanted = list(islice(self._positions, LOCATED))
            begin = 0
            for end in range(1, len(wanted) + 1):
                if end == len(wanted) or wanted[end][1] != wanted[begin][1]:
                    positions = np.array([position for _, _, position in wanted[begin:end]], dtype=np.int64)
                    places = stream.places(wanted[begin][1], positions)
                    self._located.extend(zip((at for at, _, _ in wanted[begin:end]), places, strict=True))
                    begin = end
        return self._located.popleft()


def _positions(state: LaneState, lanes: int, size: Size) -> Iterator[tuple[int, int, int]]:
    for behind in state.carried:
        yield -behind, *back(size, state.epoch, state.position, behind * lanes)
    at, epoch, position = 0, state.epoch, state.position
    while True:
        epoch, position = forward(size, epoch, position, 0)
        yield at, epoch, position
        at, position = at + 1, position + lanes


class Feeder:
    """Reads the feeds of a rank: in the caller's thread, or ahead by `decoders`; fetched ahead by `fetchers`.

    What comes out is the same in all cases. `limit_bytes` bounds what is fetched ahead.
    """

    def __init__(self, stream: Stream, decode: Decode | None, cost: CostOf) -> None:
        self.stream = stream
        self._decode, self._cost = decode, cost
        self.decoders: Executor | None = None
        self.fetchers: Executor | None = None
        self.most_ahead = 0
        self.limit_bytes = 0
        self._ahead = self._ahead_bytes = 0

    def use(self, decoders: Executor | None, fetchers: Executor | None, threads: int, budget_bytes: int) -> None:
        """Read with these threads; `budget_bytes` is the loader's read_ahead_bytes."""
        self.decoders, self.fetchers = decoders, fetchers
        self.most_ahead = threads * PIECE * PIECES_AHEAD
        self.limit_bytes = min(AHEAD_BYTES, budget_bytes // 4)

    def prepare(self, wanted: Iterable[tuple[Feed, int]]) -> None:
        """Begin to fetch and to read so many samples of each feed, in this order, as far as the bounds allow."""
        if self.decoders is None and self.fetchers is None:
            return
        for feed, count in wanted:
            fetching = self.fetchers is not None and self._ahead_bytes < self.limit_bytes
            reading = self.decoders is not None and self._ahead < self.most_ahead
            if not (fetching or reading):
                return
            while self.fetchers and feed.waiting + feed.announced < count and self._ahead_bytes < self.limit_bytes:
                self._ahead_bytes += feed.announce(self.stream, self.fetchers)
            while self.decoders and feed.waiting < count and self._ahead < self.most_ahead:
                self._begin(feed, self.decoders, min(PIECE, count - feed.waiting))

    def next(self, feed: Feed) -> Read:
        """The next sample of a lane. Its error, if it has one, is in it."""
        if not feed.ready:
            if self.decoders is None:
                places, asked = feed.take(self.stream, 1)
                self._ahead_bytes -= asked
                return self._read(places)[0]
            if not feed.pieces:
                self._begin(feed, self.decoders, 1)
            feed.ready.extend(feed.pieces.popleft().result())
        feed.waiting -= 1
        self._ahead -= 1
        return feed.ready.popleft()

    def again(self, place: Place) -> Any:
        """The value at a place once more. Raises what reading and decoding raise."""
        return self._value(self.stream.read(place))

    def _value(self, item: Item) -> Any:
        """What is carried of an item: as it may wait long, never a view of a whole block."""
        return item.detached() if self._decode is None else self._decode(item)

    def _begin(self, feed: Feed, decoders: Executor, count: int) -> None:
        places, asked = feed.take(self.stream, count)
        self._ahead_bytes -= asked
        feed.pieces.append(decoders.submit(self._read, places))
        feed.waiting += count
        self._ahead += count

    def _read(self, places: list[tuple[int, Place]]) -> list[Read]:
        return [self._read_one(at, place) for at, place in places]

    def _read_one(self, at: int, place: Place) -> Read:
        try:
            item = self.stream.read(place)
            value = self._value(item)
            cost = self._cost(value)
            if cost is not None and cost.tokens < 1:
                raise SpecError(f"the cost of sample {item.key} is {cost.tokens} tokens; wanted at least 1")
        except Exception as error:  # handed over in its place in the order, whatever it is
            return Read(at, place, None, None, 0, error)
        return Read(at, place, value, cost, (cost.size_bytes if cost else 0) or item.size_bytes, None)


DAMAGE = (ShardDamaged, StorageFailed)
"""Errors that on_damage="skip" passes over."""
