"""Reading in packs: sequences of whole samples up to a budget, or batches of like length, for ever, resumed exactly.

Here: the loader that packs, and what it hands out.
Elsewhere: which samples go together (pack.py), lanes and their state (pack_state.py), reading ahead (feed.py).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import msgspec

from shardkit.errors import NothingToPack, SpecError, StateConflict
from shardkit.read.ahead import FETCHING_THREADS, thread_pool
from shardkit.read.batch import NAMED_SKIPS, Skipped, torch_worker
from shardkit.read.batch import Packed as Packed
from shardkit.read.feed import DAMAGE, CostOf, Decode, Feed, Feeder, Read
from shardkit.read.finish import Finish, finished
from shardkit.read.pack import Candidate, Cost, Packing, lanes_for, next_pack
from shardkit.read.pack_state import (
    PACK_FORMAT,
    LaneState,
    PackState,
    check_lanes,
    choose_lanes,
    deal,
    deal_workers,
    first_lanes,
    forward,
    gather,
    packing_fields,
)
from shardkit.read.reader import Reader
from shardkit.read.spec import LoaderSpec
from shardkit.read.state import OrderState
from shardkit.read.stream import Place, Source, Stream

BARREN = 1000


class PackedBatch(list[Packed]):
    """`batch_size` packs of one rank and the state after them, which is made when it is asked for."""

    def __init__(self, packs: list[Packed], after: PackState) -> None:
        super().__init__(packs)
        self._after = after

    @property
    def state(self) -> dict[str, Any]:
        """The state after this batch, of this rank (and torch worker), as plain JSON values."""
        return self._after.as_json()

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedBatch, (list(self), self._after)


class PackedLoader:
    """Hands out batches of packs for ever: lanes run on from epoch to epoch, so that every rank has the same steps.

    `skipped` and `oversized` name samples left out (the first thousand), `num_skipped` and `num_oversized` count all.
    Can be pickled; under torch's DataLoader every worker packs lanes of its own, and its states are of these: give
    `load_state_dict` the states of the last batch of every worker (in the same worker its own one is enough).
    """

    _lanes: dict[int, LaneState]
    _runs: int

    def __init__(
        self, dataset: Source, spec: LoaderSpec, decode: Decode | None, cost: CostOf, finish: Finish | None = None
    ) -> None:
        self.dataset, self.spec = dataset, spec
        self.decode, self.cost, self.finish = decode, cost, finish
        self._reader = Reader(dataset, spec)
        self._runs = 0
        self._begin()

    def __iter__(self) -> Iterator[PackedBatch]:
        """Batches from the present state on, without end. Raises ShardDamaged, StorageFailed, SpecError."""
        self._runs += 1
        run = self._runs
        self._take_share()
        with ExitStack() as stack:
            feeder = self._feeder(stack)
            packer = Packer(self, list(self._lanes.values()), feeder)
            for packs, lanes in finished(self._batches(packer), self.finish, feeder.decoders, self.spec.num_workers):
                if run == self._runs:
                    self._lanes = lanes
                yield PackedBatch(packs, self._state_of(lanes))

    def _batches(self, packer: Packer) -> Iterator[tuple[list[Packed], dict[int, LaneState]]]:
        """Batches without end, each with where the lanes stand after it."""
        lanes = self._lanes
        while True:
            packs = [packer.next_pack() for _ in range(self.spec.batch_size)]
            lanes = {**lanes, **packer.take_moved()}
            yield packs, lanes

    def state_dict(self) -> dict[str, Any]:
        """The state of this rank's lanes after the last batch handed out, as plain JSON values."""
        return self._state_of(self._lanes).as_json()

    def load_state_dict(
        self, state: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, other_version: bool = False
    ) -> None:
        """Go on from this rank's saved state, or, with any number of ranks, from the list of all ranks' states.

        Raises StateConflict where states contradict the dataset or the arguments, or lack lanes that are wanted.
        `other_version` accepts states of another version of the dataset; carried samples are then given up.
        """
        states = gather(state)
        reader, order = self._reader.restore(states[0].order, other_version=other_version)
        found = states[0].packing
        _check_packing(found, packing_fields(self.packing, self.packing.lanes or found["lanes"]))
        self._check_ranks(found["lanes"])
        alone = torch_worker()[1] > 1 and len(states) == 1 and len(states[0].lanes) < states[0].held
        lanes = choose_lanes(states, found["lanes"], self.spec.rank, self.spec.world_size, of_worker=alone)
        stream = reader.stream(order)
        check_lanes(lanes, found["lanes"], stream.size)
        if states[0].order["version"] != self.dataset.version:
            lanes = [lane._replace(carried=()) for lane in lanes]
        self._runs += 1  # a `for` that is still running no longer moves the state
        self._open(reader, order, stream, lanes, found["lanes"])
        if alone:
            self._held, self._shared = states[0].held, True

    @property
    def source_epochs(self) -> dict[str, float]:
        """How often each dataset was read, by its URL, where the lane stands that is furthest behind."""
        behind = min((lane.epoch, lane.position) for lane in self._lanes.values())
        state = msgspec.structs.replace(self._order, epoch=behind[0], position=behind[1])
        return self._reader.passes(self.stream, state)

    @property
    def packing(self) -> Packing:
        """What is packed and how."""
        assert self.spec.pack is not None, "open_loader opens this loader with `pack`"
        return self.spec.pack

    def note(self, place: Place, reason: str, oversized: bool) -> None:
        """Count and name a sample that is left out."""
        named = self.oversized if oversized else self.skipped
        if oversized:
            self.num_oversized += 1
        else:
            self.num_skipped += 1
        if len(named) < NAMED_SKIPS:
            shard, ordinal = self.stream.name(place)
            named.append(Skipped(shard=shard, ordinal=ordinal, reason=reason))

    def _begin(self) -> None:
        """Stand at the beginning, with lanes as they are dealt first."""
        order = self._reader.first_state()
        stream = self._reader.stream(order)
        if not stream.size(0):
            raise SpecError("there are no samples to pack; build the dataset from a source that gives some")
        total = lanes_for(self.packing, stream.size(0))
        self._check_ranks(total)
        lanes = deal(first_lanes(total, stream.size), self.spec.rank, self.spec.world_size)
        self._open(self._reader, order, stream, lanes, total)

    def _open(self, reader: Reader, order: OrderState, stream: Stream, lanes: Sequence[LaneState], total: int) -> None:
        self._reader, self._order, self._total = reader, order, total
        self.stream = stream
        self._lanes = {lane.lane: lane for lane in sorted(lanes)}
        self._held, self._shared = len(self._lanes), False
        self.skipped: list[Skipped] = []
        self.oversized: list[Skipped] = []
        self.num_skipped = self.num_oversized = 0

    def _take_share(self) -> None:
        """In a torch worker, keep its own lanes of its rank's, once."""
        worker, workers = torch_worker()
        if workers == 1 or self._shared:
            return
        if len(self._lanes) < workers:
            raise SpecError(
                f"rank {self.spec.rank} has {len(self._lanes)} lanes and {workers} torch workers, each of which "
                f"packs lanes of its own; use fewer workers, or begin with more lanes"
            )
        own = deal_workers(self._lanes.values(), worker, workers, self.spec.batch_size)
        self._lanes = {lane.lane: lane for lane in sorted(own)}
        self._shared = True

    def _check_ranks(self, lanes: int) -> None:
        if lanes < self.spec.world_size:
            raise SpecError(
                f"samples are packed in {lanes} lanes, and there are {self.spec.world_size} ranks; begin with "
                f"{type(self.packing).__name__}(lanes=…) of at least so many"
            )

    def _feeder(self, stack: ExitStack) -> Feeder:
        spec = self.spec
        feeder = Feeder(self.stream, self.decode, self.cost)
        decoders = stack.enter_context(thread_pool(spec.num_workers, "shardkit-decode")) if spec.num_workers else None
        remote = self.stream.is_remote and spec.read_ahead_bytes
        fetchers = stack.enter_context(thread_pool(FETCHING_THREADS, "shardkit-fetch")) if remote else None
        feeder.use(decoders, fetchers, spec.num_workers, spec.read_ahead_bytes)
        return feeder

    def _state_of(self, lanes: Mapping[int, LaneState]) -> PackState:
        return PackState(
            format=PACK_FORMAT,
            packing=packing_fields(self.packing, self._total),
            order=self._order.as_json(),
            rank=self.spec.rank,
            world_size=self.spec.world_size,
            held=self._held,
            lanes=tuple(lanes.values()),
        )

    def __getstate__(self) -> tuple[Any, ...]:
        calls = (self.decode, self.cost, self.finish)
        return self._reader, calls, self._order, self._total, self._lanes, self._held, self._shared

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        reader, (self.decode, self.cost, self.finish), order, total, lanes, held, shared = state
        self.dataset, self.spec = reader.source, reader.spec
        self._runs = 0
        self._open(reader, order, reader.stream(order), tuple(lanes.values()), total)
        self._held, self._shared = held, shared


class Held(NamedTuple):
    """A candidate's place and value; the value is None where it was given up for memory and is to be read again."""

    place: Place
    value: Any
    size_bytes: int


class OpenLane:
    """A lane being packed: its pool, its feed, and what was passed over since its last pack."""

    def __init__(self, state: LaneState, lanes: int, stream: Stream) -> None:
        self.state = state
        self.feed = Feed(state, lanes, stream.size)
        self.pool: list[Candidate] = []
        self.drawn = 0
        self.passed: list[Any] = []
        self.num_oversized = 0


class Packer:
    """Packs from the lanes of one rank (or torch worker), the one with the fewest given next."""

    def __init__(self, loader: PackedLoader, states: Sequence[LaneState], feeder: Feeder) -> None:
        self.loader, self.feeder = loader, feeder
        self.packing = loader.packing
        self.lanes = loader._total
        self.order = [OpenLane(state, self.lanes, loader.stream) for state in states]
        self.order.sort(key=_turn)
        feeder.feeds = [lane.feed for lane in self.order]
        self.held_bytes = 0
        self.packs, self.reads = 1, self.packing.candidates // 4
        self._moved: dict[int, LaneState] = {}

    def next_pack(self) -> Packed:
        """The next pack. Raises what reading raises."""
        while True:
            lane = self.order[0]
            self._prepare()
            chosen = next_pack(self.packing, lane.pool, partial(self._draw, lane))
            self.packs += 1
            self._move(lane)
            pack = self._hand_out(lane, chosen)
            if pack is not None:
                return pack

    def take_moved(self) -> dict[int, LaneState]:
        """The states of lanes that gave packs since this was last asked."""
        moved, self._moved = self._moved, {}
        return moved

    def _prepare(self) -> None:
        typical = 1 + self.reads // self.packs
        room = self.packing.candidates + typical
        self.feeder.prepare((lane.feed, room - len(lane.pool)) for lane in self.order)

    def _draw(self, lane: OpenLane) -> Candidate:
        """The next sample of a lane that can be packed; others are counted and named on the way."""
        barren = 0
        while True:
            read = self.feeder.next(lane.feed)
            lane.drawn = max(lane.drawn, read.at + 1)
            self.reads += read.at >= 0
            found = self._candidate(lane, read)
            if found is not None:
                return found
            barren += 1
            samples = self.loader.stream.size(lane.state.epoch)
            if barren > samples + 16 * min(samples, BARREN):
                raise NothingToPack(
                    f"not one of {barren} samples in a row can be packed; look at what `cost` returns",
                    passed=tuple(lane.passed),
                )

    def _candidate(self, lane: OpenLane, read: Read) -> Candidate | None:
        if read.error is not None:
            if not isinstance(read.error, DAMAGE) or self.loader.spec.on_damage == "error":
                raise read.error
            self.loader.note(read.place, str(read.error), oversized=False)
            return None
        if read.cost is None:
            lane.passed.append(read.value)
            return None
        excess = self.packing.excess(read.cost)
        if excess and self.packing.oversized != "alone":
            self._refuse(lane, read, excess)
            return None
        size = read.size_bytes
        kept = self.held_bytes + size <= self.packing.carried_bytes
        self.held_bytes += size if kept else 0
        held = Held(read.place, read.value if kept else None, size if kept else 0)
        cost = read.cost
        return Candidate(read.at, cost.tokens, cost.images, cost.audio_ms, not excess, held)

    def _refuse(self, lane: OpenLane, read: Read, excess: str) -> None:
        if self.packing.oversized == "error":
            shard, ordinal = self.loader.stream.name(read.place)
            raise SpecError(
                f"sample {ordinal} of shard {shard} has {excess}; give a larger budget, or oversized='skip' or 'alone'"
            )
        lane.num_oversized += 1
        self.loader.note(read.place, excess, oversized=True)

    def _move(self, lane: OpenLane) -> None:
        """Note where a lane stands after a pack, and put it back in turn."""
        before, size = lane.feed.state, self.loader.stream.size
        epoch, position = forward(size, before.epoch, before.position, lane.drawn * self.lanes)
        carried = tuple(lane.drawn - one.at for one in lane.pool)
        lane.state = LaneState(before.lane, lane.state.given + 1, epoch, position, carried)
        self._moved[before.lane] = lane.state
        bisect.insort(self.order, self.order.pop(0), key=_turn)

    def _hand_out(self, lane: OpenLane, chosen: list[Candidate]) -> Packed | None:
        values, kept = [], []
        for one in chosen:
            held: Held = one.value
            self.held_bytes -= held.size_bytes
            try:
                values.append(held.value if held.size_bytes else self.feeder.again(held.place))
                kept.append(one)
            except DAMAGE as error:
                if self.loader.spec.on_damage == "error":
                    raise
                self.loader.note(held.place, str(error), oversized=False)
        if not values:
            return None
        passed, lane.passed = tuple(lane.passed), []
        oversized, lane.num_oversized = lane.num_oversized, 0
        lengths = tuple(one.tokens for one in kept)
        cost = Cost(
            tokens=sum(lengths),
            images=sum(one.images for one in kept),
            audio_seconds=sum(one.audio_ms for one in kept) / 1000,
        )
        return Packed(values, lengths, cost, lane=lane.state.lane, passed=passed, num_oversized=oversized)


def _turn(lane: OpenLane) -> tuple[int, int]:
    return lane.state.given, lane.state.lane


def _check_packing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            raise StateConflict(
                f"packing has {name} {found.get(name)!r} in the state and {wanted.get(name)!r} in the arguments; "
                f"give the same, or begin anew without the state"
            )
