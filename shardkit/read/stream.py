"""What a loader reads: positions of endless epochs, where their samples lie, and their bytes.

Here: what a stream is, the one over a dataset, the choice between blocks and single samples.
Elsewhere: the order (order.py), mixtures (mixed.py), bytes and checks (fetch.py), steps and batches (loader.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from functools import lru_cache, partial
from typing import Any, Protocol, TypeAlias

import numpy as np

from shardkit.errors import ShardDamaged, StorageFailed
from shardkit.read.dataset import Dataset
from shardkit.read.fetch import Fetcher, Found
from shardkit.read.item import Item
from shardkit.read.mixture import Mixture
from shardkit.read.order import I64, LiveSamples
from shardkit.read.places import Place as FetchPlace
from shardkit.read.places import Places
from shardkit.read.spec import LoaderSpec
from shardkit.read.state import Extent, OrderState, lanes_used, order_of

Place: TypeAlias = Any
"""Where a sample of a stream lies; to be handed back to the stream that gave it, and nothing else."""

Source: TypeAlias = Dataset | Mixture
"""What a loader can be opened over."""

LARGEST_SINGLE = 16 << 10
"""Bytes a sample from which local samples are read one by one, not block by block."""

FIRST_LOOKED_AT = 1024
ORDERS_KEPT = 4
"""Orders of epochs that are kept: packing lanes do not all pass into the next epoch at once."""


class Located(Protocol):
    """Many places in order, which can be cut; how they are kept is their stream's business."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class Stream(Protocol):
    """Samples by (epoch, position), a pure function of the reading state that it was opened with. Shared by threads."""

    @property
    def is_remote(self) -> bool:
        """Whether bytes come over a network, so that announcing them ahead pays."""
        ...

    def size(self, epoch: int) -> int:
        """How many positions an epoch has."""
        ...

    def places(self, epoch: int, positions: I64) -> Located:
        """Where the samples at positions (below `size(epoch)`) lie. A damaged index is an error of its samples."""
        ...

    def read(self, place: Place) -> Item:
        """The sample at a place, checked. Raises ShardDamaged, StorageFailed."""
        ...

    def read_many(self, places: Any) -> list[Found]:
        """The samples at places (or a slice of them) in their order, each checked, or why it cannot be had.

        A batch at a time costs a third of what its samples cost one by one.
        """
        ...

    def announce(self, places: Iterable[Place], executor: Executor) -> int:
        """Begin to read what these samples need and is not there yet; how many bytes that will be."""
        ...

    def name(self, place: Place) -> tuple[str, int]:
        """Digest of the shard and ordinal of a place, for messages."""
        ...


class Member:
    """One dataset as a loader reads it: its live samples, and a fetcher of its own."""

    def __init__(self, dataset: Dataset, live: LiveSamples, cache_bytes: int) -> None:
        self.dataset, self.live = dataset, live
        self.fetcher = Fetcher(dataset.store, dataset.manifest, dataset.tables, cache_bytes)

    @property
    def extent(self) -> Extent:
        """What the defaults of a reading order depend on; samples are the live ones."""
        whole = self.dataset.extent
        return Extent(samples=self.live.samples, block=self.live.block, tar_bytes=whole.tar_bytes, stored=whole.stored)

    def reads_blocks(self, spec: LoaderSpec, state: OrderState, budget: int, *, own_lanes: bool = True) -> bool:
        """Whether whole blocks are read and kept until their samples are handed out.

        Only where this rank's open windows fit the budget, and, locally, where samples are so small that a read costs
        more than the copy; where ranks have no lanes of their own, only where a block is small, as each rank wants a
        part of it. A view that takes few samples reads them one by one.
        """
        extent = self.extent
        lanes = lanes_used(state.lanes, extent.samples, extent.block)
        alone = spec.world_size == 1 or (own_lanes and lanes % spec.global_batch == 0)
        open_lanes = -(-lanes // spec.world_size) if alone else lanes
        open_samples = min(extent.samples, open_lanes * (state.window + 2 * extent.block))
        fits = open_samples * extent.sample_bytes <= budget and 2 * extent.samples >= extent.stored
        if not self.dataset.store.is_remote:
            return fits and extent.sample_bytes < LARGEST_SINGLE
        return fits and (alone or extent.block * extent.sample_bytes <= 256 << 10)


class DatasetStream:
    """One dataset, epoch after epoch."""

    def __init__(self, member: Member, spec: LoaderSpec, state: OrderState) -> None:
        self._member = member
        self._by_blocks = member.reads_blocks(spec, state, spec.read_ahead_bytes)
        self._order = lru_cache(ORDERS_KEPT)(partial(order_of, state, member.live))
        self.is_remote = member.fetcher.is_remote

    def size(self, epoch: int) -> int:
        """How many positions an epoch has."""
        return self._member.live.samples

    def places(self, epoch: int, positions: I64) -> Places:
        """Where the samples at positions lie."""
        return self._member.fetcher.find(*self._order(epoch).locate_many(positions))

    def read(self, place: FetchPlace) -> Item:
        """The sample at a place, checked. Raises ShardDamaged, StorageFailed."""
        return self._member.fetcher.read(place, self._by_blocks)

    def read_many(self, places: Places) -> list[Found]:
        """The samples at places in their order, or why one cannot be had."""
        return self._member.fetcher.read_many(places, self._by_blocks)

    def announce(self, places: Iterable[FetchPlace], executor: Executor) -> int:
        """Begin to read what these samples need and is not there yet; how many bytes that will be."""
        return self._member.fetcher.announce(places, executor, whole_blocks=self._by_blocks)

    def name(self, place: FetchPlace) -> tuple[str, int]:
        """Digest of the shard and ordinal of a place, for messages."""
        return self._member.dataset.manifest.shards[place[0]].shard.digest, place[1]


def stand_in(stream: Stream, url: str) -> Item:
    """The first sample that can be read, as padding for a batch whose every sample is damaged. Raises ShardDamaged."""
    samples = stream.size(0)
    for start in range(0, samples, FIRST_LOOKED_AT):
        for place in stream.places(0, np.arange(start, min(start + FIRST_LOOKED_AT, samples))):
            try:
                return stream.read(place).as_padding()
            except (ShardDamaged, StorageFailed):
                continue
    raise ShardDamaged(f"{url}: not one sample can be read; run `shardkit verify`")
