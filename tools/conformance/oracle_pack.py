"""Packs once more, from specs/FORMAT.md: pools, choosing, lanes in turn.

Here: packs of every lane from an endless line, and dealing lanes to ranks.
Elsewhere: the line (oracle.py, oracle_mix.py), comparing (packing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

Sample = str
Line = Callable[[int], Sample]


class Costs(NamedTuple):
    """Tokens, images and milliseconds of sound."""

    tokens: int
    images: int
    audio_ms: int


class Rules(NamedTuple):
    """A packing: `kind` is pack or buckets; budgets that are not given are None."""

    kind: str
    tokens: int | None
    images: int | None
    audio_ms: int | None
    samples: int | None
    candidates: int
    oversized: str
    lanes: int


class Lane:
    """One packing lane: its packs, one by one."""

    def __init__(self, number: int, rules: Rules, line: Line, costs: Callable[[Sample], Costs]) -> None:
        self.number, self.given = number, 0
        self._rules, self._costs = rules, costs
        self._next = number
        self._line = line
        self._pool: list[Sample] = []

    def next_pack(self) -> list[Sample]:
        """The next pack's samples in the order in which they joined it (buckets: by length)."""
        self.given += 1
        self._fill()
        if not self._fits_alone(self._pool[0]):
            return [self._pool.pop(0)]
        return self._pack() if self._rules.kind == "pack" else self._bucket()

    def _fill(self) -> None:
        while len(self._pool) < self._rules.candidates:
            sample = self._line(self._next)
            self._next += self._rules.lanes
            if self._fits_alone(sample) or self._rules.oversized == "alone":
                self._pool.append(sample)

    def _fits_alone(self, sample: Sample) -> bool:
        return self._within([sample])

    def _within(self, samples: list[Sample]) -> bool:
        costs = [self._costs(sample) for sample in samples]
        rules = self._rules
        budgets = ((rules.tokens, 0),) if rules.kind == "buckets" else (
            (rules.tokens, 0), (rules.images, 1), (rules.audio_ms, 2)
        )  # fmt: skip
        return all(most is None or sum(cost[at] for cost in costs) <= most for most, at in budgets)

    def _pack(self) -> list[Sample]:
        pack = [self._pool.pop(0)]
        while True:
            self._fill()
            fit = [at for at, one in enumerate(self._pool) if self._fits_alone(one) and self._within([*pack, one])]
            if not fit:
                return pack
            pack.append(self._pool.pop(max(fit, key=lambda at: (self._costs(self._pool[at]).tokens, -at))))

    def _bucket(self) -> list[Sample]:
        by_length = sorted(
            (at for at, one in enumerate(self._pool) if self._fits_alone(one)),
            key=lambda at: (self._costs(self._pool[at]).tokens, at),
        )
        lengths = [self._costs(self._pool[at]).tokens for at in by_length]
        runs = list(self._runs(lengths, by_length.index(0)))
        worth = max(value for value, _, _ in runs)
        stop, start = min((stop, start) for value, start, stop in runs if value == worth)
        taken = by_length[start:stop]
        pack = [self._pool[at] for at in taken]
        self._pool = [one for at, one in enumerate(self._pool) if at not in taken]
        return pack

    def _runs(self, lengths: list[int], oldest: int) -> Iterator[tuple[int, int, int]]:
        """(worth, start, stop) of every run that holds the oldest and is allowed."""
        rules = self._rules
        for stop in range(oldest + 1, len(lengths) + 1):
            for start in range(oldest + 1):
                run = lengths[start:stop]
                if rules.samples is not None:
                    if len(run) == min(rules.samples, len(lengths)):
                        yield sum(run) - len(run) * run[-1], start, stop
                elif len(run) * run[-1] <= (rules.tokens or 0):
                    yield sum(run), start, stop
                    break  # the longest run for its last sample


class Dealer:
    """All lanes, dealt to ranks."""

    def __init__(self, rules: Rules, line: Line, costs: Callable[[Sample], Costs]) -> None:
        self._lanes = [Lane(number, rules, line, costs) for number in range(rules.lanes)]
        self._ranks: list[list[Lane]] = []

    def deal(self, ranks: int) -> None:
        """Lanes for a run of so many ranks: those that they have where there are as many, otherwise dealt anew."""
        if len(self._ranks) != ranks:
            ordered = sorted(self._lanes, key=lambda lane: (lane.given, lane.number))
            self._ranks = [ordered[rank::ranks] for rank in range(ranks)]

    def next_packs(self, rank: int, batch: int) -> list[tuple[int, list[Sample]]]:
        """A batch of one rank: lane and samples of every pack."""
        packs = []
        for _ in range(batch):
            lane = min(self._ranks[rank], key=lambda lane: (lane.given, lane.number))
            packs.append((lane.number, lane.next_pack()))
        return packs
