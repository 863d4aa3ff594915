"""The order of samples within an epoch: from a position to a sample in closed form (specs/FORMAT.md, Reading order).

Here: blocks permuted, tails behind them, the line cut into lanes, windows shuffled within a lane.
Elsewhere: the keyed permutation (permute.py), what is saved of it (state.py), batches and ranks (steps.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shardkit.read.permute import derive_keys, mix64, mix64_array, permute, permute_array

I64: TypeAlias = NDArray[np.int64]

ORDER_FORMAT = 1
"""Version of this definition; part of a reading state."""
LABEL = "shardkit reading order 1"


class LiveSamples:
    """How many live samples each shard has and which ordinals are left out; the same in every epoch.

    `stored` counts the samples stored per shard, `omitted` names the ordinals that do not count by shard number.
    Arrays grow with shards and omissions, never with samples.
    """

    def __init__(self, stored: Sequence[int], block: int, omitted: Mapping[int, Sequence[int]] | None = None) -> None:
        left_out = {shard: sorted(set(ordinals)) for shard, ordinals in (omitted or {}).items() if ordinals}
        live = np.array(stored, dtype=np.int64)
        for shard, ordinals in left_out.items():
            live[shard] -= len(ordinals)
        self.count(live, block)
        self._omit(left_out)

    def count(self, live: I64, block: int) -> None:
        """Set how many live samples each shard has, and what follows from it."""
        self.block = block
        self.live: I64 = live
        self.samples = int(live.sum())
        self.full_blocks: I64 = self.live // block
        self.blocks_before: I64 = _before(self.full_blocks)
        self.blocks = int(self.blocks_before[-1])
        self.tails: I64 = self.live % block
        self.live_before: I64 = _before(self.live)

    def _omit(self, left_out: Mapping[int, Sequence[int]]) -> None:
        """Omitted ordinals as numbers of live samples before them, over all shards: one sorted array."""
        counts = np.zeros(len(self.live), dtype=np.int64)
        parts: list[I64] = []
        for shard in sorted(left_out):
            ordinals = np.array(left_out[shard], dtype=np.int64)
            counts[shard] = len(ordinals)
            parts.append(self.live_before[shard] + ordinals - np.arange(len(ordinals)))
        self._omitted_before: I64 = _before(counts)
        self._gaps: I64 = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def ordinals(self, shards: I64, live: I64) -> I64:
        """Stored ordinals of the live-th live samples of shards."""
        if not self._gaps.size:
            return live
        passed = np.searchsorted(self._gaps, self.live_before[shards] + live, side="right")
        return live + passed - self._omitted_before[shards]

    def stored_order(self, index: int) -> tuple[int, int]:
        """Shard and ordinal of the index-th live sample in stored order."""
        shard = int(np.searchsorted(self.live_before, index, side="right")) - 1
        live = index - int(self.live_before[shard])
        return shard, int(self.ordinals(np.array([shard]), np.array([live]))[0])


class Lane(NamedTuple):
    """A reading lane: its first place in the line, its length, and the length of its first window."""

    start: int
    length: int
    first_window: int


class EpochOrder:
    """A bijection from positions [0, N) to live samples, a pure function of (seed, epoch, lanes, window)."""

    def __init__(self, samples: LiveSamples, *, seed: int, epoch: int, lanes: int, window: int) -> None:
        assert lanes >= 1 and window >= 1, "the state checks its ranges"
        self.samples, self.lanes, self.window = samples, lanes, window
        self._block_key, self._tail_key, self._window_key = derive_keys(LABEL, seed, epoch, 3)
        with_tail = np.flatnonzero(samples.tails)
        rank = mix64_array(with_tail.astype(np.uint64) + np.uint64(self._tail_key))
        self._tail_shards: I64 = with_tail[np.lexsort((with_tail, rank))].astype(np.int64)
        self._tails_before: I64 = _before(samples.tails[self._tail_shards])

    def __len__(self) -> int:
        return self.samples.samples

    def lane(self, lane: int) -> Lane:
        """Where a lane lies in the line; lengths differ by at most one, the longer ones first."""
        short, longer = divmod(len(self), self.lanes)
        first = self.window - lane * self.window // self.lanes
        return Lane(lane * short + min(lane, longer), short + (lane < longer), first)

    def locate(self, position: int) -> tuple[int, int]:
        """Shard and stored ordinal of the sample at a position."""
        index, number = divmod(position, self.lanes)
        lane = self.lane(number)
        start, length, window = _window_of(index, lane, self.window)
        key = mix64(mix64(self._window_key + number) + window)
        return self.at_line(lane.start + start + permute(index - start, length, key))

    def at_line(self, place: int) -> tuple[int, int]:
        """Shard and stored ordinal of the sample at a place of the line."""
        samples, in_blocks = self.samples, self.samples.blocks * self.samples.block
        if place < in_blocks:
            block, within = divmod(place, samples.block)
            block = permute(block, samples.blocks, self._block_key)
            shard = int(np.searchsorted(samples.blocks_before, block, side="right")) - 1
            live = (block - int(samples.blocks_before[shard])) * samples.block + within
        else:
            entry = int(np.searchsorted(self._tails_before, place - in_blocks, side="right")) - 1
            shard = int(self._tail_shards[entry])
            live = int(samples.full_blocks[shard]) * samples.block + place - in_blocks - int(self._tails_before[entry])
        return shard, int(samples.ordinals(np.array([shard]), np.array([live]))[0])

    def locate_many(self, positions: I64) -> tuple[I64, I64]:
        """`locate` for an array of positions: shards and stored ordinals."""
        index, lane = np.divmod(positions, self.lanes)
        short, longer = divmod(len(self), self.lanes)
        lane_start = lane * short + np.minimum(lane, longer)
        length = short + (lane < longer)
        first = self.window - lane * self.window // self.lanes
        window = np.where(index < first, 0, 1 + (index - first) // self.window)
        start = np.where(window == 0, 0, first + (window - 1) * self.window)
        size = np.minimum(np.where(window == 0, first, self.window), length - start)
        key = mix64_array(lane.astype(np.uint64) + np.uint64(self._window_key))
        key = mix64_array(key + window.astype(np.uint64))
        shuffled = permute_array((index - start).astype(np.uint64), size.astype(np.uint64), key)
        return self.at_lines(lane_start + start + shuffled.astype(np.int64))

    def at_lines(self, places: I64) -> tuple[I64, I64]:
        """`at_line` for an array of places."""
        samples, in_blocks = self.samples, self.samples.blocks * self.samples.block
        shards, live = np.empty_like(places), np.empty_like(places)
        full = places < in_blocks
        if full.any():
            block, within = np.divmod(places[full], samples.block)
            keys = np.array([self._block_key], dtype=np.uint64)
            sizes = np.array([samples.blocks], dtype=np.uint64)
            block = permute_array(block.astype(np.uint64), sizes, keys).astype(np.int64)
            shards[full] = found = np.searchsorted(samples.blocks_before, block, side="right") - 1
            live[full] = (block - samples.blocks_before[found]) * samples.block + within
        rest = ~full
        if rest.any():
            behind = places[rest] - in_blocks
            entry = np.searchsorted(self._tails_before, behind, side="right") - 1
            shards[rest] = found = self._tail_shards[entry]
            live[rest] = samples.full_blocks[found] * samples.block + behind - self._tails_before[entry]
        return shards, samples.ordinals(shards, live)


def _window_of(index: int, lane: Lane, window: int) -> tuple[int, int, int]:
    """Start and length of the window of a lane that holds its index-th sample, and the window's number."""
    if index < lane.first_window:
        return 0, min(lane.first_window, lane.length), 0
    number = 1 + (index - lane.first_window) // window
    start = lane.first_window + (number - 1) * window
    return start, min(window, lane.length - start), number


def _before(counts: I64) -> I64:
    """Sums of everything before each entry, and the total at the end."""
    total: I64 = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)))
    return total
