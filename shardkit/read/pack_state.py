"""The state of packing: where each lane stands, whose it is, and how lanes move between ranks.

Here: lanes as they are saved, dealing them out, gathering them from the states of all ranks.
Elsewhere: choosing packs (pack.py), the order of the samples (state.py), reading (packed.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from shardkit.errors import StateConflict
from shardkit.read.pack import Packing

PACK_FORMAT = 1
"""Version of the definition of packs; part of their state."""

Size = Callable[[int], int]
"""Samples of an epoch by its number."""


class LaneState(NamedTuple):
    """A lane between two packs: its number, packs given, where its next sample is, and how far back the carried ones.

    `carried` are numbers of places of this lane before the next one, oldest first.
    """

    lane: int
    given: int
    epoch: int
    position: int
    carried: tuple[int, ...]


class PackState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lanes of one rank (or of one torch worker of it), with all that their packs depend on.

    `order` is the reading state of the samples' order, its epoch and position without meaning. `held` is how many
    lanes the rank has in all. No field may be missing from a saved one.
    """

    format: int
    packing: dict[str, Any]
    order: dict[str, Any]
    rank: int
    world_size: int
    held: int
    lanes: tuple[LaneState, ...]

    def as_json(self) -> dict[str, Any]:
        """The state as plain JSON values."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        return fields | {"lanes": [[*lane[:4], list(lane.carried)] for lane in self.lanes]}


def packing_fields(packing: Packing, lanes: int) -> dict[str, Any]:
    """What of a packing is part of the state."""
    free = ("lanes", "carried_bytes")
    fields = {name: getattr(packing, name) for name in packing.__struct_fields__ if name not in free}
    return {"kind": type(packing).__name__.lower(), **fields, "lanes": lanes}


def first_lanes(count: int, size: Size) -> list[LaneState]:
    """All lanes before their first packs: lane g begins at position g."""
    return [LaneState(lane, 0, *forward(size, 0, 0, lane), ()) for lane in range(count)]


def check_lanes(lanes: Iterable[LaneState], total: int, size: Size) -> None:
    """Refuse lanes that stand beyond their epoch's end, by more than the number of lanes. Raises StateConflict."""
    for lane in lanes:
        samples = size(lane.epoch)
        if lane.position >= samples + total:
            raise StateConflict(
                f"the state's lane {lane.lane} stands at position {lane.position} of epoch {lane.epoch}, and this "
                f"dataset has {samples} samples to read: the state belongs to another one"
            )


def forward(size: Size, epoch: int, position: int, by: int) -> tuple[int, int]:
    """Epoch and position so many places on; epochs follow each other without a gap."""
    position += by
    while position >= (samples := size(epoch)):
        position -= samples
        epoch += 1
    return epoch, position


def back(size: Size, epoch: int, position: int, by: int) -> tuple[int, int]:
    """Epoch and position so many places before. Raises StateConflict before the beginning."""
    position -= by
    while position < 0:
        epoch -= 1
        if epoch < 0:
            raise StateConflict("the state carries samples from before the first one; it belongs to another dataset")
        position += size(epoch)
    return epoch, position


def in_turn(lanes: Iterable[LaneState]) -> list[LaneState]:
    """Lanes in the order in which they give their next packs: fewest given first, then by number."""
    return sorted(lanes, key=lambda lane: (lane.given, lane.lane))


def deal(lanes: Iterable[LaneState], rank: int, world_size: int) -> list[LaneState]:
    """The lanes of a rank, of all of them: every world_size-th in turn.

    So where the lanes are a multiple of the ranks, the order of packs over all ranks does not depend on their number.
    """
    return in_turn(lanes)[rank::world_size]


def deal_workers(lanes: Iterable[LaneState], worker: int, workers: int, batch: int) -> list[LaneState]:
    """A torch worker's lanes, of those of its rank: whole batches of lanes go round, as the workers' batches do.

    So where the lanes are a multiple of batch times workers, the batches are those of the rank without workers.
    """
    ordered = in_turn(lanes)
    together = max(1, min(batch, len(ordered) // workers))
    return [lane for at, lane in enumerate(ordered) if at // together % workers == worker]


def gather(raw: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[PackState]:
    """Saved states as structs, of one rank or of several. Raises StateConflict."""
    if not isinstance(raw, Mapping | list | tuple):
        raise StateConflict(f"the state is a {type(raw).__name__}; give what state_dict() returned, or a list of it")
    given = [raw] if isinstance(raw, Mapping) else list(raw)
    if not given:
        raise StateConflict("there is no state in the list; give what state_dict() returned on every rank")
    states = [_convert(each) for each in given]
    for state in states:
        if (state.packing, state.order) != (states[0].packing, states[0].order):
            raise StateConflict("the states are of different orders or packings; give those of all ranks of one run")
        if state.format != PACK_FORMAT:
            raise StateConflict(f"the state's packs have format {state.format}, this version packs in {PACK_FORMAT}")
    return states


def choose_lanes(
    states: Sequence[PackState], total: int, rank: int, world_size: int, *, of_worker: bool = False
) -> list[LaneState]:
    """The lanes with which a rank goes on; of several states of one lane, the furthest.

    With the world size of the states every rank keeps its own lanes, and its own states are enough; with another one
    the lanes are dealt again, and the states of all ranks are wanted. `of_worker`: the torch worker of a rank goes on
    with its own state. Raises StateConflict.
    """
    found = _furthest(states)
    own = [state for state in states if (state.rank, state.world_size) == (rank, world_size)]
    same_world = all(state.world_size == world_size for state in states)
    if own and same_world:
        kept = _furthest(own)
        if of_worker or len(kept) == own[0].held:
            return [found[lane] for lane in sorted(kept)]
    if len(found) < total:
        raise StateConflict(
            f"the states hold {len(found)} of {total} lanes; rank {rank} of {world_size} wants the states of all ranks "
            f"and their torch workers: give load_state_dict the list of them"
        )
    return deal(found.values(), rank, world_size)


def _furthest(states: Iterable[PackState]) -> dict[int, LaneState]:
    found: dict[int, LaneState] = {}
    for state in states:
        for lane in state.lanes:
            if lane.lane not in found or lane.given > found[lane.lane].given:
                found[lane.lane] = lane
    return found


def _convert(raw: Mapping[str, Any]) -> PackState:
    if not isinstance(raw, Mapping):
        raise StateConflict(f"a state is a {type(raw).__name__}, wanted the mapping that state_dict() returned")
    try:
        state = msgspec.convert(dict(raw), PackState)
        lanes, candidates = state.packing["lanes"], state.packing["candidates"]
        for lane in state.lanes:
            falling = all(a > b for a, b in pairwise((*lane.carried, 0)))
            if not (0 <= lane.lane < lanes and min(lane[1:4]) >= 0 and falling and len(lane.carried) <= candidates):
                raise ValueError(f"lane {lane.lane} is out of range")
    except (msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
        raise StateConflict(f"this is no state of packing: {error}; give what state_dict() returned") from None
    return state
