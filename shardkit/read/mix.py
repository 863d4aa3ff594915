"""How sources are mixed: weights, temperature, schedules, and what becomes of a source that was read once.

Here: the argument (Mix), the part of the state that it becomes (MixState).
Elsewhere: slots (word.py), passes and epochs (course.py), the datasets that are mixed (mixture.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Literal

import msgspec

from shardkit.errors import SpecError, StateConflict
from shardkit.read.word import LONG_LENGTHS, MOST_SOURCES, quantise

Exhausted = Literal["repeat", "stop", "reweight"]
EXHAUSTED: tuple[Exhausted, ...] = ("repeat", "stop", "reweight")
MOST_SEGMENTS = 1000
MOST_POSITION = 1 << 56


class Mix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the datasets of a mixture are mixed.

    `weights`, one a dataset, need no sum. Without them the weights are those that the mixture was opened with, or
    size^(1/`temperature`): 1 (the default) reads in proportion to sizes, larger ones bring small datasets more often.
    `schedule`: from step s on these weights, ((s, weights), …) in ascending order; steps are of the global batch at
    which reading begins, and become positions then (with packs they are samples from the beginning on).
    `exhausted`: "repeat" begins a source again; the epoch ends when every source was read once. "stop" ends the epoch
    before the first source would repeat. "reweight" leaves out a source that was read; the others share its weight, so
    that every sample comes exactly once. Raises SpecError.
    """

    weights: tuple[float, ...] | None = None
    temperature: float | None = None
    schedule: tuple[tuple[int, tuple[float, ...]], ...] = ()
    exhausted: Exhausted = "repeat"

    def __post_init__(self) -> None:
        if self.weights is not None and self.temperature is not None:
            raise SpecError("weights and temperature are both given; temperature makes weights from sizes: give one")
        if self.temperature is not None and not 1e-3 <= self.temperature <= math.inf:
            raise SpecError(f"temperature is {self.temperature!r}; wanted a number above 0, 1 for sizes as they are")
        if self.exhausted not in EXHAUSTED:
            raise SpecError(f"exhausted is {self.exhausted!r}; wanted one of {', '.join(EXHAUSTED)}")
        if not _is_pairs(self.schedule):
            raise SpecError(f"the schedule is {self.schedule!r}; wanted pairs: ((step, weights), …)")
        for weights in (self.weights or (1.0,), *(weights for _, weights in self.schedule)):
            check_weights(weights)
        steps = [0, *(step for step, _ in self.schedule)]
        if any(type(step) is not int or a >= step for a, step in pairwise(steps)) or len(steps) > MOST_SEGMENTS:
            raise SpecError(
                f"the schedule's steps are {steps[1:9]}; wanted up to {MOST_SEGMENTS} whole numbers ascending from 1"
            )


def _is_pairs(given: object) -> bool:
    rows = (list, tuple)
    return isinstance(given, rows) and all(
        isinstance(part, rows) and len(part) == 2 and isinstance(part[1], rows) for part in given
    )


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From a position on, this many slots of a word for each source."""

    position: int
    counts: tuple[int, ...]


class MixState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The mix in a reading state: whole numbers, so that it means the same everywhere.

    Positions are counted from the beginning of the first epoch.
    """

    exhausted: Exhausted
    segments: tuple[Segment, ...]

    def check(self, sources: int, lanes: int) -> None:
        """Refuse what no mix of ours is, for so many sources and lanes. Raises StateConflict."""
        positions = [segment.position for segment in self.segments]
        sane = (
            0 < len(positions) <= MOST_SEGMENTS
            and positions[0] == 0
            and all(a < b < MOST_POSITION for a, b in pairwise(positions))
            and all(min(segment.counts, default=-1) >= 0 for segment in self.segments)
            and all(0 < sum(segment.counts) <= LONG_LENGTHS[0] for segment in self.segments)
            and all(math.gcd(sum(segment.counts), lanes) == 1 for segment in self.segments)
        )
        if not sane:
            raise StateConflict("the state's mix is none of ours: its segments are out of order or out of range")
        if any(len(segment.counts) != sources for segment in self.segments):
            raise StateConflict(
                f"the state mixes {len(self.segments[0].counts)} datasets, {sources} are open; give the same ones"
            )

    def agrees(self, given: Mixing) -> bool:
        """Whether both are of the same weights; positions may differ, as they come from a batch size.

        Weights that the mixture was opened with are those with which reading began: a schedule goes on behind them.
        """
        other = first_mix(given)
        mine, others = ([segment.counts for segment in mix.segments] for mix in (self, other))
        if given.mix is None:
            return mine[0] == others[0]
        return self.exhausted == other.exhausted and mine == others


class Mixing(msgspec.Struct, frozen=True, kw_only=True):
    """What a mix is made of: the argument, the weights the mixture was opened with, live samples, lanes, batch."""

    mix: Mix | None
    weights: tuple[float, ...] | None
    sizes: tuple[int, ...]
    lanes: int
    global_batch: int

    @property
    def asked(self) -> bool:
        """Whether anybody asked for a certain mix."""
        return self.mix is not None or self.weights is not None


def first_mix(given: Mixing) -> MixState:
    """The mix with which reading begins. Raises SpecError where the weights are not one a dataset."""
    mix = given.mix or Mix()
    if mix.weights is None and mix.temperature is None and given.weights is not None:
        shares = shares_of(given.weights)
    elif mix.weights is not None:
        shares = shares_of(mix.weights)
    else:
        shares = shares_by_size(given.sizes, 1 if mix.temperature is None else mix.temperature)
    parts = [(0, shares), *((step * given.global_batch, shares_of(weights)) for step, weights in mix.schedule)]
    for _, shares in parts:
        if len(shares) != len(given.sizes):
            raise SpecError(f"the mix has {len(shares)} weights for {len(given.sizes)} datasets; give one for each")
    segments = tuple(Segment(position, quantise(shares, given.lanes)) for position, shares in parts)
    return MixState(exhausted=mix.exhausted, segments=segments)


def check_weights(weights: Sequence[float]) -> None:
    """Refuse what are no weights. Raises SpecError."""
    if not 0 < len(weights) <= MOST_SOURCES:
        raise SpecError(f"{len(weights)} weights; wanted 1 to {MOST_SOURCES}")
    for weight in weights:
        if type(weight) not in (int, float) or not 0 <= weight < 1e18:
            raise SpecError(f"weight {weight!r}; wanted a number from 0 on")
    if not any(weights):
        raise SpecError("every weight is 0; wanted one above 0")


def shares_of(weights: Sequence[float]) -> tuple[int, ...]:
    """Weights as whole numbers in the same proportion: 0.7 and 0.3, as written in decimals, are 7 and 3."""
    exact = [Fraction(repr(weight)) for weight in weights]
    scale = math.lcm(*(weight.denominator for weight in exact))
    return tuple(int(weight * scale) for weight in exact)


def shares_by_size(sizes: Sequence[int], temperature: float) -> tuple[int, ...]:
    """Shares in proportion to size^(1/temperature)."""
    if temperature == 1:
        return tuple(sizes)
    try:
        powers = [size ** (1 / temperature) for size in sizes]
    except OverflowError:
        raise SpecError(
            f"temperature {temperature} makes weights of these sizes that are no numbers; take a larger one"
        ) from None
    # Twelve digits: mathematics libraries differ in the last ones.
    return shares_of([float(f"{power:.12g}") for power in powers])
