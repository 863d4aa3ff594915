"""What loaders hand out, and which torch worker asks.

Here: a batch with its state, a pack, a sample that was left out, the torch worker's number.
Elsewhere: loading (loader.py), packing (packed.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from shardkit.read.pack import Cost

NAMED_SKIPS = 1000
"""Samples left out that are named; all are counted."""


class Batch(list[Any]):
    """Items of one step of one rank (or what `decode` made of them), and the reading state after it.

    `padded` counts the items at the end that only fill the batch; they are marked (`item.padded`). `skipped` names the
    samples that should have been here and were left out with on_damage="skip".
    """

    def __init__(
        self, items: list[Any], state: dict[str, Any], padded: int = 0, skipped: tuple[Skipped, ...] = ()
    ) -> None:
        super().__init__(items)
        self.state = state
        self.padded = padded
        self.skipped = skipped

    def __reduce__(self) -> tuple[Any, ...]:
        return Batch, (list(self), self.state, self.padded, self.skipped)


class Packed(list[Any]):
    """Decoded samples that go together, the oldest of its lane first (buckets: by length).

    `lengths` are their tokens, `cost` is the sum. `passed` holds what `decode` made of samples read on the way whose
    cost was none; `num_oversized` counts those that fit no pack. `lane` is the lane's number.
    """

    def __init__(
        self,
        items: Sequence[Any],
        lengths: tuple[int, ...],
        cost: Cost,
        *,
        lane: int = 0,
        passed: tuple[Any, ...] = (),
        num_oversized: int = 0,
    ) -> None:
        super().__init__(items)
        self.lengths, self.cost, self.lane = lengths, cost, lane
        self.passed, self.num_oversized = passed, num_oversized

    def __reduce__(self) -> tuple[Any, ...]:
        return _packed, (list(self), self.lengths, self.cost, self.lane, self.passed, self.num_oversized)


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A sample that was left out with on_damage="skip": where it should be, and what was wrong."""

    shard: str
    ordinal: int
    reason: str


def torch_worker() -> tuple[int, int]:
    """(i, n) in worker i of n of torch's DataLoader, else (0, 1). Torch is looked up, never imported."""
    data = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    return (0, 1) if info is None else (info.id, info.num_workers)


def _packed(
    items: list[Any], lengths: tuple[int, ...], cost: Cost, lane: int, passed: tuple[Any, ...], num_oversized: int
) -> Packed:
    return Packed(items, lengths, cost, lane=lane, passed=passed, num_oversized=num_oversized)
