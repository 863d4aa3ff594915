"""Words: which source each slot of a mixture takes, every prefix within one sample of its share.

Here: building a word from counts, numbers of occurrences and their inverses, over all slots or in one lane.
Elsewhere: weights and schedules (mix.py), passes and epochs (course.py). Defined in specs/FORMAT.md, Mixtures.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import cached_property, lru_cache
from math import gcd

import numpy as np

from shardkit.errors import SpecError
from shardkit.read.order import I64
from shardkit.read.permute import mix64_array

LENGTHS = (65_521, 65_519, 65_497, 65_479)
"""Primes: lengths of words whose weights are no short fractions. The first that does not divide the lanes is taken."""

LONG_LENGTHS = (1_048_573, 1_048_571)
"""The same where a weight is so small that it would get no slot of the others."""

MOST_SOURCES = 4096
DISTANCES = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377)
SWEEPS = 4
WORDS_KEPT = 4
"""A long word takes 24 MiB, and as much again in lanes: reading states that were forged to hold many stay in bounds."""


class Word:
    """A cycle of slots: slot n takes source `slots[n % length]`. n slots have n·counts[s]/length ± 1 of source s."""

    def __init__(self, counts: tuple[int, ...]) -> None:
        self.counts: I64 = np.array(counts, dtype=np.int64)
        self.length = sum(counts)
        self.slots: I64 = _scattered(_earliest_deadlines(counts), self.counts)
        self.rank, self._first, self._places = _ranked(self.slots, len(counts))

    def counts_before(self, slot: int) -> I64:
        """How often each source comes in the first `slot` slots."""
        cycles, rest = divmod(slot, self.length)
        found: I64 = cycles * self.counts + np.bincount(self.slots[:rest], minlength=len(self.counts))
        return found

    def index(self, slots: I64) -> tuple[I64, I64]:
        """For slots: the source, and how often it came before."""
        cycles, at = np.divmod(slots, self.length)
        sources = self.slots[at]
        return sources, cycles * self.counts[sources] + self.rank[at]

    def nth(self, source: int, index: int) -> int:
        """The slot in which a source comes for the (index + 1)-th time."""
        cycles, at = divmod(index, int(self.counts[source]))
        return cycles * self.length + int(self._places[self._first[source] + at])

    def in_lanes(self, lanes: int) -> LaneWord:
        """The word as each lane sees it."""
        return LaneWord(self, lanes)


class LaneWord:
    """A word as seen by lane l: slots l, l + lanes, l + 2·lanes, …

    Lanes and length have no common divisor: so every lane sees the word's slots in one and the same cyclic order,
    that of the multiples of `lanes`, from a place `_begin[l]` of its own.
    """

    def __init__(self, word: Word, lanes: int) -> None:
        assert gcd(word.length, lanes) == 1, "lengths of words are chosen so"
        self.word, self.lanes = word, lanes
        stride = np.arange(word.length, dtype=np.int64) * lanes % word.length
        self._rank, self._first, self._places = _ranked(word.slots[stride], len(word.counts))
        self._begin: I64 = np.arange(lanes, dtype=np.int64) * pow(lanes, -1, word.length) % word.length

    @cached_property
    def _before(self) -> I64:
        """For every lane and source: how often it comes in the cyclic order before the lane's first slot."""
        before = np.empty((self.lanes, len(self.word.counts)), dtype=np.int64)
        for source in range(len(self.word.counts)):
            places = self._places[self._first[source] : self._first[source + 1]]
            before[:, source] = np.searchsorted(places, self._begin)
        return before

    def index(self, slots: I64, sources: I64) -> I64:
        """For slots that take these sources: how often the source came in the slot's lane before."""
        rows, lanes = np.divmod(slots, self.lanes)
        cycles, at = np.divmod(self._begin[lanes] + rows, self.word.length)
        return cycles * self.word.counts[sources] + self._rank[at] - self._before[lanes, sources]

    def counts_before(self, slot: int) -> I64:
        """For every lane and source: how often it comes in those of the first `slot` slots that are the lane's."""
        rows = (slot - np.arange(self.lanes) + self.lanes - 1) // self.lanes
        cycles, at = np.divmod(self._begin + rows, self.word.length)
        found = cycles[:, None] * self.word.counts - self._before
        for source in range(len(self.word.counts)):
            places = self._places[self._first[source] : self._first[source + 1]]
            found[:, source] += np.searchsorted(places, at)
        return found

    def nth(self, source: int, lanes: I64, index: I64) -> I64:
        """For lanes: the slot in which a source comes for the (index + 1)-th time in the lane."""
        cycles, at = np.divmod(index + self._before[lanes, source], int(self.word.counts[source]))
        rows = cycles * self.word.length + self._places[self._first[source] + at] - self._begin[lanes]
        slots: I64 = rows * self.lanes + lanes
        return slots


@lru_cache(maxsize=WORDS_KEPT)
def word_of(counts: tuple[int, ...]) -> Word:
    """The word of these counts; made once, few are kept."""
    return Word(counts)


@lru_cache(maxsize=WORDS_KEPT)
def lane_word_of(counts: tuple[int, ...], lanes: int) -> LaneWord:
    """The same in lanes."""
    return word_of(counts).in_lanes(lanes)


def quantise(shares: Sequence[int], lanes: int) -> tuple[int, ...]:
    """Counts of a word for shares (whole numbers in proportion): exact in a short odd word, otherwise in a long one.

    A share above 0 gets at least one slot. Raises SpecError where all are 0 or there are too many.
    """
    if not 0 < len(shares) <= MOST_SOURCES or min(shares) < 0 or not any(shares):
        raise SpecError(f"weights {list(shares)[:8]}: wanted 1 to {MOST_SOURCES} numbers from 0 on, one above 0")
    common = gcd(*shares)
    exact = sum(shares) // common
    if exact % 2 and exact <= LENGTHS[0] and gcd(exact, lanes) == 1:
        return tuple(share // common for share in shares)
    smallest = min(share for share in shares if share)
    choices = LENGTHS if 2 * smallest * LENGTHS[0] >= sum(shares) else LONG_LENGTHS
    length = next(length for length in choices if gcd(length, lanes) == 1)
    return apportion(shares, length)


def apportion(shares: Sequence[int], length: int) -> tuple[int, ...]:
    """Counts of a word of this length, by largest remainders; of equal remainders the first source gets more."""
    total = sum(shares)
    counts = [share * length // total for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda source: (-(shares[source] * length % total), source))
    for source in by_remainder[: length - sum(counts)]:
        counts[source] += 1
    for source, share in enumerate(shares):
        if share and not counts[source]:
            counts[counts.index(max(counts))] -= 1
            counts[source] = 1
    return tuple(counts)


def _earliest_deadlines(counts: Sequence[int]) -> I64:
    """The word: the j-th of a source's c slots (from 0) lies in [j·M/c rounded down, (j+1)·M/c rounded up).

    Those bounds mean that no prefix is a whole sample off. Of the sources that may come, the one that must come first
    does; of equals the first. That always fits (R. Tijdeman, The chairman assignment problem, 1980).
    """
    length = sum(counts)
    slots = np.empty(length, dtype=np.int64)
    later = [(0, source, 0) for source, count in enumerate(counts) if count]
    ready: list[tuple[int, int, int]] = []
    for slot in range(length):
        while later and later[0][0] <= slot:
            _, source, number = heapq.heappop(later)
            heapq.heappush(ready, (-(-(number + 1) * length // counts[source]), source, number))
        _, source, number = heapq.heappop(ready)
        slots[slot] = source
        if number + 1 < counts[source]:
            heapq.heappush(later, ((number + 1) * length // counts[source], source, number + 1))
    return slots


def _scattered(slots: I64, counts: I64) -> I64:
    """The word with some pairs of slots exchanged, by fixed coins, wherever both stay within their bounds.

    Without it words are so regular that a lane of 64 sees one source a thousand times in a row: sources of the
    same weight take turns, and so many slots lie between two of a lane's. With it lanes see nearly random sequences.
    """
    length = len(slots)
    rank, _, places = _ranked(slots, len(counts))
    following, preceding = _neighbours(slots, places)
    for number, distance in enumerate(d for d in DISTANCES for _ in range(SWEEPS)):
        if distance >= length:
            break
        left = np.arange(number * 7 % (distance + 1), length - distance, distance + 1)
        right = left + distance
        coins = mix64_array(left.astype(np.uint64) + np.uint64(number << 32)) & np.uint64(1)
        x, y = slots[left], slots[right]
        fits = (coins == 1) & (x != y) & (following[left] > right) & (preceding[right] < left)
        fits &= right < -(-(rank[left] + 1) * length // counts[x])
        fits &= left >= rank[right] * length // counts[y]
        moved = np.arange(length + 1)  # one more, which stands for none behind and, as number -1, for none before
        moved[left[fits]], moved[right[fits]] = right[fits], left[fits]
        now = moved[:-1]
        slots, rank, following = slots[now], rank[now], moved[following[now]]
        moved[-1] = -1
        preceding = moved[preceding[now]]
    return slots


def _neighbours(slots: I64, places: I64) -> tuple[I64, I64]:
    """For every slot the next one of the same source (the length where there is none), and the one before (-1)."""
    following, preceding = np.full(len(slots), len(slots)), np.full(len(slots), -1)
    same = slots[places[1:]] == slots[places[:-1]]
    following[places[:-1][same]] = places[1:][same]
    preceding[places[1:][same]] = places[:-1][same]
    return following, preceding


def _ranked(slots: I64, sources: int) -> tuple[I64, I64, I64]:
    """For every slot how often its source came before; where each source's part of the third begins; its slots."""
    places = np.argsort(slots.astype(np.int16), kind="stable")  # so narrow that numpy sorts by radix
    first = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(np.bincount(slots, minlength=sources))))
    rank = np.empty(len(slots), dtype=np.int64)
    rank[places] = np.arange(len(slots)) - first[slots[places]]
    return rank, first, places.astype(np.int64)
