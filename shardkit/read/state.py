"""The reading state: all that is needed to go on reading exactly, as a small JSON object.

Here: the struct, its defaults for a dataset, checking a state against a dataset and arguments.
Elsewhere: the order that it fixes (order.py), advancing it (steps.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shardkit.errors import StateConflict
from shardkit.read.mix import MixState
from shardkit.read.order import ORDER_FORMAT, EpochOrder, LiveSamples
from shardkit.read.spec import DEFAULT_LANES, DEFAULT_TAIL, POOL_BYTES, LoaderSpec, Tail

LEAST_BLOCKS = 4
"""Blocks in a window of a lane, at least, where `window` is not given."""


class ViewState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A filter in its canonical text, and the digest of what it took."""

    where: str
    digest: str


class OrderState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where reading stands. Neither world size, nor workers, nor batch size is in it: they may change at any position.

    `position` counts samples handed out in this epoch, over all ranks. `view` is the filter read through, `mix` how a
    mixture is mixed. No field may be missing from a saved one: a default in its place would be another order.
    """

    format: int
    version: str
    seed: int
    epoch: int
    position: int
    lanes: int
    window: int
    tail: Tail
    view: ViewState | None
    mix: MixState | None

    def as_json(self) -> dict[str, Any]:
        """The state as plain JSON values."""
        state: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return state


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """What the defaults depend on: live samples, samples a block, bytes of the tars, samples stored in them."""

    samples: int
    block: int
    tar_bytes: int
    stored: int

    @property
    def sample_bytes(self) -> int:
        """Mean bytes of a sample in its tar."""
        return max(1, self.tar_bytes // max(1, self.stored))


def first_state(version: str, extents: Sequence[Extent], spec: LoaderSpec) -> OrderState:
    """The state before the first sample of the first epoch, without view and mix; several extents are a mixture's."""
    lanes = lanes_of(spec)
    return OrderState(
        format=ORDER_FORMAT,
        version=version,
        seed=spec.seed or 0,
        epoch=0,
        position=0,
        lanes=lanes,
        window=default_window(lanes, *extents) if spec.window is None else spec.window,
        tail=spec.tail or DEFAULT_TAIL,
        view=None,
        mix=None,
    )


def lanes_of(spec: LoaderSpec) -> int:
    """The lanes with which reading begins."""
    return DEFAULT_LANES if spec.lanes is None else spec.lanes


def default_window(lanes: int, *extents: Extent) -> int:
    """Samples in a window so that all open windows hold about 512 MiB, or four blocks, and no more than a lane has.

    With less than four blocks a lane, two samples of a batch come from one block too often, and batches a few hundred
    steps apart from the same blocks (tools.shuffle_quality).
    """
    used = [lanes_used(lanes, extent.samples, extent.block) for extent in extents]
    bytes_a_sample = sum(count * extent.sample_bytes for count, extent in zip(used, extents, strict=True))
    longest = max(-(-extent.samples // count) for count, extent in zip(used, extents, strict=True))
    least = LEAST_BLOCKS * max(extent.block for extent in extents)
    return max(1, min(max(POOL_BYTES // bytes_a_sample, least), longest))


def lanes_used(lanes: int, samples: int, block: int) -> int:
    """How many lanes an order has: those asked for, in small datasets fewer.

    A lane shorter than two blocks would hand out the blocks' samples side by side, in stored order: then it is the
    largest power of two that leaves every lane two blocks.
    """
    most = max(1, samples // (2 * block))
    return lanes if lanes <= most else 1 << (most.bit_length() - 1)


def order_of(state: OrderState, live: LiveSamples, epoch: int) -> EpochOrder:
    """The order of an epoch under the state's seed, lanes and window."""
    lanes = lanes_used(state.lanes, live.samples, live.block)
    return EpochOrder(live, seed=state.seed, epoch=epoch, lanes=lanes, window=state.window)


def restore_state(raw: Mapping[str, Any], version: str, spec: LoaderSpec, *, other_version: bool = False) -> OrderState:
    """A saved state, checked against the version read and the arguments given with it; its position is not yet.

    Raises StateConflict, which says what was given and what the state holds.
    """
    if not isinstance(raw, Mapping):
        raise StateConflict(f"the state is a {type(raw).__name__}, wanted the mapping that state_dict() returned")
    try:
        state = msgspec.convert(dict(raw), OrderState)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise StateConflict(f"this is no reading state: {error}; give what state_dict() returned") from None
    if state.format != ORDER_FORMAT:
        raise StateConflict(f"the state's order has format {state.format}, this version reads in {ORDER_FORMAT}")
    if state.version != version and not other_version:
        raise StateConflict(
            f"the state is of version {state.version}, the dataset is open at {version}; open the dataset with "
            f"version={state.version!r}, or pass other_version=True to go on in another order"
        )
    for name in ("seed", "lanes", "window", "tail"):
        given, found = getattr(spec, name), getattr(state, name)
        check_conflict(name, given, found, given is None or given == found)
    _check_ranges(state)
    return msgspec.structs.replace(state, version=version)


def check_conflict(name: str, given: object, found: object, agree: bool) -> None:
    """Refuse an argument that says something else than the state. Raises StateConflict."""
    if not agree:
        raise StateConflict(
            f"{name} is {found!r} in the state and {given!r} in the arguments; leave the argument out, "
            f"or begin anew without the state"
        )


def check_position(state: OrderState, samples: int) -> None:
    """Refuse a position beyond the epoch's. Raises StateConflict."""
    if state.position > samples:
        raise StateConflict(
            f"the state stands at position {state.position} of epoch {state.epoch}, and this dataset has {samples} "
            f"samples to read: the state belongs to another one"
        )


def _check_ranges(state: OrderState) -> None:
    if not (state.position >= 0 and state.epoch >= 0 and 0 <= state.seed < 1 << 64 and state.window >= 1):
        raise StateConflict(
            f"the state stands at position {state.position} of epoch {state.epoch} with window {state.window}, "
            f"which no state of ours does"
        )
    if not 1 <= state.lanes <= 1 << 20 or state.epoch >= 1 << 63 or state.window >= 1 << 31:
        raise StateConflict(f"the state has {state.lanes} lanes and epoch {state.epoch}, which no state of ours has")
