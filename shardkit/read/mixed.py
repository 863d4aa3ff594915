"""The stream over a mixture: places of several datasets, read together, handed out in the mixture's order.

Here: the stream and its places.
Elsewhere: which dataset a position takes (course.py), one dataset's bytes (fetch.py), the stream's rules (stream.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from shardkit.read.course import Course, Sources, open_course, passes_of
from shardkit.read.order import I64, EpochOrder
from shardkit.read.permute import derive_keys
from shardkit.read.places import Place, Places
from shardkit.read.spec import LoaderSpec
from shardkit.read.state import OrderState, lanes_used

if TYPE_CHECKING:
    from shardkit.read.fetch import Found
    from shardkit.read.item import Item
    from shardkit.read.stream import Member

MixedPlace: TypeAlias = tuple[int, Place]
"""The dataset's number in the mixture, and the place in it."""

LABEL = "shardkit mixture 1"
ORDERS_KEPT = 4


class MixedPlaces:
    """Places of several datasets: for each place its dataset, and its row in that dataset's places. Can be cut."""

    __slots__ = ("_members", "_parts", "_rows")

    def __init__(self, members: I64, rows: I64, parts: dict[int, Places]) -> None:
        self._members, self._rows, self._parts = members, rows, parts

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, part: slice) -> MixedPlaces:
        return MixedPlaces(self._members[part], self._rows[part], self._parts)

    def __iter__(self) -> Iterator[MixedPlace]:
        found: list[MixedPlace | None] = [None] * len(self)
        for member, here, places in self.by_member():
            for at, place in zip(here.tolist(), places, strict=True):
                found[at] = member, place
        yield from (place for place in found if place is not None)

    def by_member(self) -> Iterator[tuple[int, I64, Places]]:
        """For each dataset: where its places stand among all, and its places in that order."""
        for member, part in self._parts.items():
            (here,) = np.nonzero(self._members == member)
            if here.size:
                yield member, here, part.pick(self._rows[here])


class MixedStream:
    """Several datasets mixed, epoch after epoch."""

    def __init__(self, members: Sequence[Member], spec: LoaderSpec, state: OrderState) -> None:
        assert state.mix is not None, "restoring a state checks it"
        self._members = tuple(members)
        self._state = state
        self.sizes = tuple(member.live.samples for member in members)
        self._lanes = tuple(lanes_used(state.lanes, member.live.samples, member.live.block) for member in members)
        sources = Sources(self.sizes, state.lanes, self._lanes)
        self._course: Course = open_course(state.mix, sources)
        budget = spec.read_ahead_bytes // len(members)
        self._by_blocks = [
            member.reads_blocks(spec, state, budget, own_lanes=sources.aligned(number))
            for number, member in enumerate(members)
        ]
        self._orders = [lru_cache(ORDERS_KEPT)(partial(self._order, number)) for number in range(len(members))]
        self.is_remote = any(member.fetcher.is_remote for member in members)

    def size(self, epoch: int) -> int:
        """How many positions an epoch has."""
        return self._course.size(epoch)

    def passes(self, epoch: int, position: int) -> tuple[float, ...]:
        """How often each dataset was read before a position, in all epochs."""
        return passes_of(self._course, self.sizes, epoch, position)

    def places(self, epoch: int, positions: I64) -> MixedPlaces:
        """Where the samples at positions lie."""
        found = self._course.locate(epoch, positions)
        rows = np.empty(len(positions), dtype=np.int64)
        parts = {}
        for member in np.unique(found.sources).tolist():
            (here,) = np.nonzero(found.sources == member)
            shards, ordinals = self._locate(member, found.passes[here], found.positions[here])
            parts[member] = self._members[member].fetcher.find(shards, ordinals)
            rows[here] = np.arange(len(here))
        return MixedPlaces(found.sources, rows, parts)

    def _locate(self, member: int, passes: I64, positions: I64) -> tuple[I64, I64]:
        shards, ordinals = np.empty_like(positions), np.empty_like(positions)
        for number in np.unique(passes).tolist():
            here = passes == number
            shards[here], ordinals[here] = self._orders[member](number).locate_many(positions[here])
        return shards, ordinals

    def _order(self, member: int, number: int) -> EpochOrder:
        """The order of a dataset's pass; each dataset has a seed of its own, or equal ones would be shuffled alike."""
        (seed,) = derive_keys(LABEL, self._state.seed, member, 1)
        live = self._members[member].live
        return EpochOrder(live, seed=seed, epoch=number, lanes=self._lanes[member], window=self._state.window)

    def read(self, place: MixedPlace) -> Item:
        """The sample at a place, checked. Raises ShardDamaged, StorageFailed."""
        member, at = place
        return self._members[member].fetcher.read(at, self._by_blocks[member])

    def read_many(self, places: MixedPlaces) -> list[Found]:
        """The samples at places in their order, or why one cannot be had."""
        results: list[Found | None] = [None] * len(places)
        for member, here, part in places.by_member():
            found = self._members[member].fetcher.read_many(part, self._by_blocks[member])
            for at, one in zip(here.tolist(), found, strict=True):
                results[at] = one
        return [one for one in results if one is not None]

    def announce(self, places: Iterable[MixedPlace], executor: Executor) -> int:
        """Begin to read what these samples need and is not there yet; how many bytes that will be."""
        asked: dict[int, list[Place]] = {}
        for member, at in places:
            if self._members[member].fetcher.is_remote:
                asked.setdefault(member, []).append(at)
        return sum(
            self._members[member].fetcher.announce(part, executor, whole_blocks=self._by_blocks[member])
            for member, part in asked.items()
        )

    def name(self, place: MixedPlace) -> tuple[str, int]:
        """Digest of the shard and ordinal of a place, for messages."""
        member, at = place
        return self._members[member].dataset.manifest.shards[at[0]].shard.digest, at[1]
