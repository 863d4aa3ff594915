"""A packing lane's samples in their order, located, fetched and decoded ahead of use.

Here: feeds, and how far ahead of the packs they are kept, in samples and bytes.
Elsewhere: what is done with the samples (packed.py), where they lie and their bytes (stream.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple

import numpy as np

from shardkit.errors import ShardDamaged, SpecError, StorageFailed
from shardkit.read.ahead import AHEAD_BYTES
from shardkit.read.item import Item
from shardkit.read.order import I64
from shardkit.read.pack import Cost
from shardkit.read.pack_state import LaneState, Size, back, forward
from shardkit.read.stream import Place, Stream

LOCATED = 64
"""Places of a lane that are looked up in one go, with those of other lanes: a look-up costs as much as a hundred."""

PIECE = 8
"""Samples that a thread reads in one go: one each would cost more in hand-overs than a small sample in decoding."""

ANNOUNCED = 32
"""Samples whose bytes are asked for together."""

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


class Run(NamedTuple):
    """Places of a lane within one epoch: their numbers in the lane and their positions in the epoch."""

    epoch: int
    numbers: Sequence[int]
    positions: I64


class Feed:
    """One lane: the places of its carried samples (numbered from below 0), then those that come (from 0 on)."""

    def __init__(self, state: LaneState, lanes: int, size: Size) -> None:
        self.state = state
        self._lanes, self._size = lanes, size
        self._carried = list(state.carried)
        self._at, self._epoch, self._position = 0, state.epoch, state.position
        self.located: deque[tuple[int, Place]] = deque()
        self.announced: deque[tuple[int, Place, int]] = deque()
        """Places whose bytes were asked for, with their number, and that no thread reads yet."""
        self.pieces: deque[Future[list[Read]]] = deque()
        self.ready: deque[Read] = deque()
        self.waiting = 0
        """Samples in `pieces` and `ready`."""

    def runs(self, count: int) -> Iterator[Run]:
        """The next places, `count` of them and the carried ones before, epoch by epoch."""
        for behind in self._carried:
            epoch, position = back(self._size, self.state.epoch, self.state.position, behind * self._lanes)
            yield Run(epoch, (-behind,), np.array([position], dtype=np.int64))
        self._carried = []
        while count:
            self._epoch, self._position = forward(self._size, self._epoch, self._position, 0)
            left = (self._size(self._epoch) - self._position - 1) // self._lanes + 1
            taken = min(count, left)
            positions = self._position + self._lanes * np.arange(taken, dtype=np.int64)
            yield Run(self._epoch, range(self._at, self._at + taken), positions)
            count -= taken
            self._at, self._position = self._at + taken, self._position + taken * self._lanes


class Feeder:
    """Reads the feeds of a rank: in the caller's thread, or ahead by `decoders`; fetched ahead by `fetchers`.

    What comes out is the same in all cases. `limit_bytes` bounds what is fetched ahead.
    """

    def __init__(self, stream: Stream, decode: Decode | None, cost: CostOf) -> None:
        self.stream = stream
        self.feeds: list[Feed] = []
        """All feeds that are read, so that one look-up finds places for many of them."""
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
        room = list(wanted)
        if self.fetchers is not None:
            self._fetch(room, self.fetchers)
        if self.decoders is None:
            return
        for feed, count in room:
            while feed.waiting < count:
                if self._ahead >= self.most_ahead:
                    return
                self._begin(feed, self.decoders, min(PIECE, count - feed.waiting))

    def _fetch(self, wanted: list[tuple[Feed, int]], fetchers: Executor) -> None:
        """Ask for the bytes of samples not asked for yet, in groups, so that neighbours come with one request."""
        group: list[Feed] = []
        for feed, count in wanted:
            if self._ahead_bytes >= self.limit_bytes:
                return
            group += [feed] * (count - feed.waiting - len(feed.announced))
            while len(group) >= ANNOUNCED and self._ahead_bytes < self.limit_bytes:
                self._announce(group[:ANNOUNCED], fetchers)
                group = group[ANNOUNCED:]
        if group and self._ahead_bytes < self.limit_bytes:
            self._announce(group, fetchers)

    def _announce(self, feeds: list[Feed], fetchers: Executor) -> None:
        """Ask for the next sample of each of these (one may stand there several times)."""
        taken = [(feed, *self._next(feed)) for feed in feeds]
        total = self.stream.announce([place for _, _, place in taken], fetchers)
        self._ahead_bytes += total
        for number, (feed, at, place) in enumerate(taken):
            share = total * (number + 1) // len(taken) - total * number // len(taken)
            feed.announced.append((at, place, share))

    def next(self, feed: Feed) -> Read:
        """The next sample of a lane. Its error, if it has one, is in it."""
        if not feed.ready:
            if self.decoders is None:
                return self._read_one(*self._take(feed))
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
        places = [self._take(feed) for _ in range(count)]
        feed.pieces.append(decoders.submit(self._read, places))
        feed.waiting += count
        self._ahead += count

    def _take(self, feed: Feed) -> tuple[int, Place]:
        """The next place of a feed, to be read."""
        if not feed.announced:
            return self._next(feed)
        at, place, asked = feed.announced.popleft()
        self._ahead_bytes -= asked
        return at, place

    def _next(self, feed: Feed) -> tuple[int, Place]:
        if not feed.located:
            self._locate([other for other in self.feeds if len(other.located) < LOCATED // 2])
        return feed.located.popleft()

    def _locate(self, feeds: Sequence[Feed]) -> None:
        """Find the next places of all these feeds, with one look-up an epoch."""
        wanted: dict[int, list[tuple[Feed, Run]]] = {}
        for feed in feeds:
            for run in feed.runs(LOCATED):
                wanted.setdefault(run.epoch, []).append((feed, run))
        for epoch in sorted(wanted):  # a feed's epochs never fall, so that its places stay in order
            runs = wanted[epoch]
            places = iter(self.stream.places(epoch, np.concatenate([run.positions for _, run in runs])))
            for feed, run in runs:
                feed.located.extend(zip(run.numbers, places, strict=False))

    def _read(self, places: list[tuple[int, Place]]) -> list[Read]:
        return [self._read_one(at, place) for at, place in places]

    def _read_one(self, at: int, place: Place) -> Read:
        try:
            item = self.stream.read(place)
            value = self._value(item)
            cost = self._cost(value)
            if cost is not None and not isinstance(cost, Cost):
                raise SpecError(
                    f"the cost of sample {item.key} is {cost!r}; wanted Cost(tokens=…), or None to leave it out"
                )
            if cost is not None and cost.tokens < 1:
                raise SpecError(f"the cost of sample {item.key} is {cost.tokens} tokens; wanted at least 1")
        except Exception as error:  # handed over in its place in the order, whatever it is
            return Read(at, place, None, None, 0, error)
        return Read(at, place, value, cost, (cost.size_bytes if cost else 0) or item.size_bytes, None)


DAMAGE = (ShardDamaged, StorageFailed)
"""Errors that on_damage="skip" passes over."""
