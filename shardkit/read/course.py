"""The course of a mixture: from (epoch, position) to a source, its pass and the position there, in closed form.

Here: runs of one word, epochs under the three ways to treat an exhausted source, aligned lanes.
Elsewhere: words (word.py), weights (mix.py), the order within a source's pass (order.py). specs/FORMAT.md, Mixtures.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

import msgspec
import numpy as np

from shardkit.errors import StateConflict
from shardkit.read.mix import MixState
from shardkit.read.order import I64
from shardkit.read.word import Word, lane_word_of, quantise, word_of

ALIGNED_LEAST = 4096
"""Samples that a lane of a source must have for lanes to be aligned: lanes differ by some hundreds."""

MOST_EPOCHS_BEFORE_LAST_SEGMENT = 10_000


class Sources(msgspec.Struct, frozen=True):
    """What is mixed: live samples of each source, the lanes of the mixture and those that each source's order has."""

    sizes: tuple[int, ...]
    lanes: int
    lanes_used: tuple[int, ...]

    def aligned(self, source: int) -> bool:
        """Whether lane l of the mixture reads lane l of the source, so that a rank keeps to its own blocks."""
        return self.lanes_used[source] == self.lanes and self.sizes[source] >= ALIGNED_LEAST * self.lanes


class Located(NamedTuple):
    """For positions: source, its pass, and the position in the order of that pass."""

    sources: I64
    passes: I64
    positions: I64


class Run(NamedTuple):
    """A stretch of one word: its first slot, the word's counts, and what came before it, of each source and lane."""

    start: int
    counts: tuple[int, ...]
    before: I64
    lanes_before: I64 | None


class Epoch(NamedTuple):
    """An epoch with runs of its own: its first position since the beginning, its length, its runs."""

    start: int
    size: int
    runs: tuple[Run, ...]


def open_course(mix: MixState, sources: Sources) -> RepeatingCourse | EpochCourse:
    """The course of a mix. Raises StateConflict where its schedule reaches over too many epochs."""
    return RepeatingCourse(mix, sources) if mix.exhausted == "repeat" else EpochCourse(mix, sources)


class RepeatingCourse:
    """Every source is one endless stream of passes; epochs are where all of them have ended their next pass."""

    def __init__(self, mix: MixState, sources: Sources) -> None:
        self._sources = sources
        self._aligned = [source for source in range(len(sources.sizes)) if sources.aligned(source)]
        self._is_aligned = np.array([sources.aligned(source) for source in range(len(sources.sizes))])
        self._sizes: I64 = np.array(sources.sizes, dtype=np.int64)
        if self._aligned and any(gcd(sum(segment.counts), sources.lanes) > 1 for segment in mix.segments):
            raise StateConflict(f"the state's mix does not fit its {sources.lanes} lanes: it is none of ours")
        self._runs: list[Run] = []
        self._add_runs(mix)
        self._ends: dict[int, int] = {}

    def _add_runs(self, mix: MixState) -> None:
        lanes, count = self._sources.lanes, len(self._sources.sizes)
        before = np.zeros(count, dtype=np.int64)
        in_lanes = np.zeros((lanes, count), dtype=np.int64) if self._aligned else None
        for segment in mix.segments:
            if self._runs:
                last = self._runs[-1]
                length = segment.position - last.start
                before = before + word_of(last.counts).counts_before(length)
                if in_lanes is not None:
                    gained = lane_word_of(last.counts, lanes).counts_before(length)
                    in_lanes = in_lanes + np.roll(gained, last.start % lanes, axis=0)
            self._runs.append(Run(segment.position, segment.counts, before, in_lanes))

    def size(self, epoch: int) -> int:
        """How many positions an epoch has."""
        return self.end(epoch) - self.end(epoch - 1)

    def end(self, epoch: int) -> int:
        """Positions of all epochs up to this one."""
        if epoch < 0:
            return 0
        if epoch not in self._ends:
            if len(self._ends) > 1000:
                self._ends.clear()
            self._ends[epoch] = self._find_end(epoch)
        return self._ends[epoch]

    def _find_end(self, epoch: int) -> int:
        last = self._runs[-1]
        ends = []
        for source, size in enumerate(self._sources.sizes):
            if last.counts[source]:
                taken = (epoch + 1) * size
                if (taken // last.counts[source] + self._sources.lanes) * sum(last.counts) >= 1 << 61:
                    raise StateConflict(f"epoch {epoch} of this mixture lies beyond what can be counted")
                ends.append(self._end_in_lanes(source, epoch) if source in self._aligned else self._nth(source, taken))
        return max(ends)

    def _nth(self, source: int, taken: int) -> int:
        """Positions until a source has given so many samples."""
        run = [run for run in self._runs if run.before[source] < taken][-1]
        return run.start + word_of(run.counts).nth(source, taken - 1 - int(run.before[source])) + 1

    def _end_in_lanes(self, source: int, epoch: int) -> int:
        """Positions until every lane of a source has ended a pass."""
        lanes = np.arange(self._sources.lanes)
        taken = (epoch + 1) * self._lane_sizes(source, lanes)
        end = 0
        for run in self._runs:
            assert run.lanes_before is not None, "there are aligned sources"
            if not run.counts[source]:
                continue
            missing = taken - run.lanes_before[:, source]
            (here,) = np.nonzero(missing > 0)
            if here.size:
                word = lane_word_of(run.counts, self._sources.lanes)
                slots = word.nth(source, (here - run.start) % self._sources.lanes, missing[here] - 1)
                end = run.start + int(slots.max()) + 1
        return end

    def _lane_sizes(self, source: int, lanes: I64) -> I64:
        short, longer = divmod(self._sources.sizes[source], self._sources.lanes)
        sizes: I64 = short + (lanes < longer)
        return sizes

    def locate(self, epoch: int, positions: I64) -> Located:
        """Source, pass and position of the samples at positions of an epoch."""
        slots = positions + self.end(epoch - 1)
        starts = np.array([run.start for run in self._runs])
        runs = np.searchsorted(starts, slots, side="right") - 1
        found = Located(*(np.empty_like(slots) for _ in range(3)))
        for number in np.unique(runs).tolist():
            (here,) = np.nonzero(runs == number)
            for column, values in zip(found, self._locate_in(self._runs[number], slots[here]), strict=True):
                column[here] = values
        return found

    def _locate_in(self, run: Run, slots: I64) -> Located:
        within = slots - run.start
        sources, index = word_of(run.counts).index(within)
        index = index + run.before[sources]
        passes, positions = np.divmod(index, self._sizes[sources])
        (here,) = np.nonzero(self._is_aligned[sources])
        if here.size:
            assert run.lanes_before is not None, "there are aligned sources"
            lanes, taken = slots[here] % self._sources.lanes, sources[here]
            row = lane_word_of(run.counts, self._sources.lanes).index(within[here], taken)
            row = row + run.lanes_before[lanes, taken]
            short, longer = np.divmod(self._sizes[taken], self._sources.lanes)
            passes[here], row = np.divmod(row, short + (lanes < longer))
            positions[here] = row * self._sources.lanes + lanes
        return Located(sources, passes, positions)

    def taken(self, epoch: int, position: int) -> I64:
        """How many samples each source has given before a position, in all epochs."""
        slot = self.end(epoch - 1) + position
        run = [run for run in self._runs if run.start <= slot][-1]
        return run.before + word_of(run.counts).counts_before(slot - run.start)


class EpochCourse:
    """Every epoch is a pass of each source from its beginning: until the first would repeat, or until all are read."""

    def __init__(self, mix: MixState, sources: Sources) -> None:
        self._mix, self._sources = mix, sources
        self._sizes: I64 = np.array(sources.sizes, dtype=np.int64)
        self._epochs: list[Epoch] = []
        start = 0
        while not self._epochs or self._epochs[-1].start < mix.segments[-1].position:
            self._epochs.append(self._unroll(start))
            start += self._epochs[-1].size
            if len(self._epochs) > MOST_EPOCHS_BEFORE_LAST_SEGMENT or not self._epochs[-1].size:
                raise StateConflict(
                    f"the mix's schedule reaches over more than {len(self._epochs) - 1} epochs of these datasets; "
                    f"use exhausted='repeat' or a shorter schedule"
                )

    def _unroll(self, start: int) -> Epoch:
        """The runs of the epoch that begins at a position."""
        runs: list[Run] = []
        taken = np.zeros(len(self._sizes), dtype=np.int64)
        at = 0
        while True:
            segment = max(n for n, segment in enumerate(self._mix.segments) if segment.position <= start + at)
            counts = self._counts(segment, taken)
            if counts is None:
                return Epoch(start, at, tuple(runs))
            word = word_of(counts)
            runs.append(Run(at, counts, taken, None))
            until = self._first_end(word, taken)
            later = self._mix.segments[segment + 1 :]
            ends_first = not later or until < later[0].position - start - at  # there the next word's slot counts
            length = until if ends_first else later[0].position - start - at
            taken = taken + word.counts_before(length)
            at += length
            if ends_first and self._mix.exhausted == "stop":
                return Epoch(start, at, tuple(runs))

    def _counts(self, segment: int, taken: I64) -> tuple[int, ...] | None:
        """The word's counts in a segment, of those sources that have not given all they have; None if none has."""
        counts = self._mix.segments[segment].counts
        left = [count if got < size else 0 for count, got, size in zip(counts, taken, self._sizes, strict=True)]
        if self._mix.exhausted == "stop" or tuple(left) == counts:
            return counts
        return quantise(left, self._sources.lanes) if any(left) else None

    def _first_end(self, word: Word, taken: I64) -> int:
        """Slots until the first source would repeat (stop), or has given all it has (reweight)."""
        left = self._sizes - taken
        used = np.flatnonzero(word.counts)
        if self._mix.exhausted == "stop":
            return min(word.nth(source, int(left[source])) for source in used.tolist())
        return min(word.nth(source, int(left[source]) - 1) for source in used.tolist()) + 1

    def _epoch(self, epoch: int) -> Epoch:
        return self._epochs[min(epoch, len(self._epochs) - 1)]

    def size(self, epoch: int) -> int:
        """How many positions an epoch has."""
        return self._epoch(epoch).size

    def locate(self, epoch: int, positions: I64) -> Located:
        """Source, pass and position of the samples at positions of an epoch."""
        runs = self._epoch(epoch).runs
        which = np.searchsorted(np.array([run.start for run in runs]), positions, side="right") - 1
        sources, index = np.empty_like(positions), np.empty_like(positions)
        for number in np.unique(which).tolist():
            (here,) = np.nonzero(which == number)
            run = runs[number]
            found, at = word_of(run.counts).index(positions[here] - run.start)
            sources[here], index[here] = found, at + run.before[found]
        return Located(sources, np.full_like(positions, epoch), index)

    def taken(self, epoch: int, position: int) -> I64:
        """How many samples each source has given before a position, in all epochs; those not read count as given."""
        runs = [run for run in self._epoch(epoch).runs if run.start <= position]
        if not runs:
            return epoch * self._sizes
        return epoch * self._sizes + runs[-1].before + word_of(runs[-1].counts).counts_before(position - runs[-1].start)


Course = RepeatingCourse | EpochCourse


def passes_of(course: Course, sizes: Sequence[int], epoch: int, position: int) -> tuple[float, ...]:
    """How many times each source was read by then, as far as it is into its present pass."""
    return tuple((course.taken(epoch, position) / np.array(sizes)).tolist())
