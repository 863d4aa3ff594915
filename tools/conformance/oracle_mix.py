"""Mixtures once more, slot by slot, word for word from specs/FORMAT.md.

Here: counts from weights, words, the three courses of a mixture as lists.
Elsewhere: one dataset's order (oracle.py), comparing (resume.py). No source is aligned: ours are too small for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from math import gcd
from typing import NamedTuple

import blake3

from tools.conformance.oracle import Order, epoch_places, mix

DISTANCES = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377)
Slot = tuple[int, int, int]
"""The source that a slot takes, which of its samples since the course began (from 0), and the source's first pass."""

Counts = tuple[int, ...]
Segment = tuple[int, Counts]
Sized = Callable[[int], int]


class Mixed(NamedTuple):
    """What the epochs of a mixture depend on: every dataset's order, seeds aside, and the state's `seed` and `mix`."""

    orders: tuple[Order, ...]
    seed: int
    exhausted: str
    segments: tuple[Segment, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Live samples of every dataset."""
        return tuple(order.samples for order in self.orders)


def counts_of(weights: Sequence[float], lanes: int) -> Counts:
    """Weights to whole numbers of slots."""
    exact = [Fraction(repr(weight)) for weight in weights]
    scale = 1
    for weight in exact:
        scale *= weight.denominator // gcd(scale, weight.denominator)
    whole = [int(weight * scale) for weight in exact]
    divisor = gcd(*whole)
    whole = [share // divisor for share in whole]
    total = sum(whole)
    if total % 2 and total <= 65_521 and gcd(total, lanes) == 1:
        return tuple(whole)
    small = 2 * min(share for share in whole if share) * 65_521 < total
    lengths = (1_048_573, 1_048_571) if small else (65_521, 65_519, 65_497, 65_479)
    length = next(length for length in lengths if gcd(length, lanes) == 1)
    counts = [share * length // total for share in whole]
    left = length - sum(counts)
    by_remainder = sorted(range(len(whole)), key=lambda s: (-(whole[s] * length % total), s))
    for s in by_remainder[:left]:
        counts[s] += 1
    for s, share in enumerate(whole):
        if share and not counts[s]:
            counts[s] += 1
            counts[counts.index(max(counts))] -= 1
    return tuple(counts)


@lru_cache(maxsize=256)
def word_of(counts: Counts) -> tuple[int, ...]:
    """The source of every slot of a word."""
    length = sum(counts)
    given = [0] * len(counts)
    word: list[int] = []
    for slot in range(length):
        open_ = [
            (-(-(given[s] + 1) * length // c), s) for s, c in enumerate(counts) if c and given[s] * length // c <= slot
        ]
        _, s = min(pair for pair in open_ if given[pair[1]] < counts[pair[1]])
        word.append(s)
        given[s] += 1
    for r in range(4 * len(DISTANCES)):
        _exchange(word, counts, r)
    return tuple(word)


def _exchange(word: list[int], counts: Counts, r: int) -> None:
    """One round of exchanges."""
    length, d = len(word), DISTANCES[r // 4]
    if d >= length:
        return
    number = _numbers(word, len(counts))
    offset = 7 * r % (d + 1)
    swaps = []
    for a in range(offset, length - d, d + 1):
        b = a + d
        left, right = word[a], word[b]
        if not mix(a + (r << 32)) & 1 or left == right or left in word[a + 1 : b] or right in word[a + 1 : b]:
            continue
        if _within(number[a], b, counts[left], length) and _within(number[b], a, counts[right], length):
            swaps.append((a, b))
    for a, b in swaps:
        word[a], word[b] = word[b], word[a]


def _numbers(word: Sequence[int], sources: int) -> list[int]:
    given = [0] * sources
    numbers = []
    for s in word:
        numbers.append(given[s])
        given[s] += 1
    return numbers


def _within(j: int, slot: int, count: int, length: int) -> bool:
    """Whether the j-th slot of a source of so many may lie here."""
    return j * length // count <= slot < -(-(j + 1) * length // count)


def mixed_epoch(mixture: Mixed, epoch: int) -> list[tuple[int, tuple[int, int]]]:
    """Source, shard and ordinal of every position of an epoch."""
    slots = COURSES[mixture.exhausted](mixture, epoch)
    return [(s, _pass_of(mixture, s, first + i // n)[i % n]) for s, i, first in slots for n in (mixture.sizes[s],)]


@lru_cache(maxsize=4096)
def _places(order: Order, epoch: int) -> list[tuple[int, int]]:
    return epoch_places(order, epoch)


def _pass_of(mixture: Mixed, source: int, number: int) -> list[tuple[int, int]]:
    text = b"shardkit mixture 1\0" + struct.pack("<QQ", mixture.seed, source)
    (seed,) = struct.unpack("<Q", blake3.blake3(text).digest(length=8))
    return _places(mixture.orders[source]._replace(seed=seed), number)


def repeat(mixture: Mixed, epoch: int) -> list[Slot]:
    """Slots since the beginning; an epoch ends where every source has ended its pass."""
    slots: list[Slot] = []
    given = [0] * len(mixture.sizes)
    wanted = [s for s, count in enumerate(mixture.segments[-1][1]) if count]
    done, begin = 0, 0
    for source in _endless(mixture.segments, 0):
        slots.append((source, given[source], 0))
        given[source] += 1
        if all(given[s] >= (done + 1) * mixture.sizes[s] for s in wanted):
            if done == epoch:
                return slots[begin:]
            done, begin = done + 1, len(slots)
    raise AssertionError("endless")


def stop(mixture: Mixed, epoch: int) -> list[Slot]:
    """Every epoch its own; it ends before the first sample that would repeat."""
    return _own(mixture, epoch, _stop_here)


def reweight(mixture: Mixed, epoch: int) -> list[Slot]:
    """Every epoch its own; sources leave when they have given all."""
    return _own(mixture, epoch, _reweight_here)


def _own(mixture: Mixed, epoch: int, here: Callable[[Mixed, int], list[int]]) -> list[Slot]:
    start, found = 0, []
    for number in range(epoch + 1):
        found = here(mixture, start)
        start += len(found)
        if number == epoch:
            break
    given = [0] * len(mixture.sizes)
    slots = []
    for s in found:
        slots.append((s, given[s], epoch))
        given[s] += 1
    return slots


def _stop_here(mixture: Mixed, start: int) -> list[int]:
    given = [0] * len(mixture.sizes)
    taken: list[int] = []
    for s in _endless(mixture.segments, start):
        if given[s] == mixture.sizes[s]:
            return taken
        given[s] += 1
        taken.append(s)
    raise AssertionError("endless")


def _reweight_here(mixture: Mixed, start: int) -> list[int]:
    given = [0] * len(mixture.sizes)
    taken: list[int] = []
    lanes = mixture.orders[0].lanes
    segment: Segment | None = None
    at, word = 0, ()  # type: tuple[int, tuple[int, ...]]
    while True:
        here = _segment_at(mixture.segments, start + len(taken))
        left = [c if given[s] < mixture.sizes[s] else 0 for s, c in enumerate(here[1])]
        if not any(left):
            return taken
        counts = here[1] if tuple(left) == here[1] else counts_of(left, lanes)
        if here != segment or word != word_of(counts):
            segment, at, word = here, 0, word_of(counts)
        s = word[at % len(word)]
        at += 1
        given[s] += 1
        taken.append(s)


def _endless(segments: Sequence[Segment], start: int) -> Iterator[int]:
    """The sources of slots; `start` is where the first lies among all positions."""
    segment, at, position = None, 0, start
    while True:
        here = _segment_at(segments, position)
        if here != segment:
            segment, at = here, 0
        word = word_of(here[1])
        yield word[at % len(word)]
        at, position = at + 1, position + 1


def _segment_at(segments: Sequence[Segment], position: int) -> Segment:
    return [segment for segment in segments if segment[0] <= position][-1]


COURSES: dict[str, Callable[[Mixed, int], list[Slot]]] = {"repeat": repeat, "stop": stop, "reweight": reweight}
