"""Reading in shuffled order, in batches, with a state after each from which reading goes on exactly.

Here: the loader and its batches.
Elsewhere: the order (order.py), steps and ranks (steps.py), the state (state.py), bytes (fetch.py), threads (ahead.py).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from shardkit.errors import ShardDamaged, SpecError, StorageFailed
from shardkit.read.ahead import in_order, reading_ahead
from shardkit.read.dataset import Dataset
from shardkit.read.fetch import Fetcher, Place
from shardkit.read.item import Item
from shardkit.read.order import EpochOrder
from shardkit.read.spec import LoaderSpec
from shardkit.read.state import OrderState, first_state, lanes_used, order_of, restore_state
from shardkit.read.steps import Step, check_steps, count_steps, plan_steps

LOCATED_FIRST = 64
LOCATED_AT_ONCE = 4096
"""Samples located in one go: enough that numpy's calls cost little; the first ones, which are waited for, are fewer."""

LARGEST_SINGLE = 16 << 10
"""Bytes a sample from which local samples are read one by one, not block by block."""

NAMED_SKIPS = 1000
Decode = Callable[[Item], Any]


class Batch(list[Any]):
    """Items of one step of one rank (or what `decode` made of them), and the reading state after it.

    `padded` counts the items at the end that only fill the batch; they are marked (`item.padded`).
    """

    def __init__(self, items: list[Any], state: dict[str, Any], padded: int = 0) -> None:
        super().__init__(items)
        self.state = state
        self.padded = padded

    def __reduce__(self) -> tuple[Any, ...]:
        return Batch, (list(self), self.state, self.padded)


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A sample that was left out with on_damage="skip": where it should be, and what was wrong."""

    shard: str
    ordinal: int
    reason: str


class Loader:
    """Hands out one epoch of batches for each `for`, and goes on where the last one stopped.

    `skipped` names samples left out with on_damage="skip" (the first thousand), `num_skipped` counts all.
    Can be pickled; under torch's DataLoader, worker i of n gives the steps that are i modulo n. Its workers hold
    copies, which move on from epoch to epoch with persistent_workers=True only; without, load the last batch's
    `.state` here, or every epoch is the first again.
    """

    def __init__(self, dataset: Dataset, spec: LoaderSpec, decode: Decode | None = None) -> None:
        self.dataset = dataset
        self.spec = spec
        self.decode = decode
        self._state = first_state(dataset.version, dataset.extent, spec)
        self._begin()
        check_steps(len(dataset), spec, self._state.tail)

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the present state to the end of the epoch. Raises ShardDamaged, StorageFailed."""
        self._runs += 1
        run, state = self._runs, self._state
        work = reading_ahead(self._located(state), self._fetcher, self._by_blocks, self.spec)
        for step, items in in_order(work, self._make, self.spec.num_workers):
            after = _after(state, step)
            if run == self._runs:
                self._state = after
            yield Batch(items, after.as_json(), max(0, step.stop - max(step.start, self._samples)))
        if run == self._runs and self._state.epoch == state.epoch:
            self._state = _next_epoch(state)

    def __len__(self) -> int:
        """How many batches the next `for` gives (of all torch workers together)."""
        return count_steps(self._state.position, self._samples, self.spec, self._state.tail)

    def state_dict(self) -> dict[str, Any]:
        """The state after the last batch handed out, as plain JSON values."""
        return self._state.as_json()

    def load_state_dict(self, state: Mapping[str, Any], *, other_version: bool = False) -> None:
        """Go on from a saved state, of any world size, batch size and number of workers.

        Raises StateConflict where it contradicts the dataset or the arguments; `other_version` accepts a state of
        another version of the dataset: then the position is kept and the order is the new version's.
        """
        found = restore_state(state, self.dataset.version, self._samples, self.spec, other_version=other_version)
        check_steps(self._samples, self.spec, found.tail)
        self._runs += 1  # a `for` that is still running no longer moves the state
        self._state = found
        self._by_blocks = self._choose_blocks()

    def _located(self, state: OrderState) -> Iterator[tuple[Step, list[Place]]]:
        """This rank's steps, of this torch worker only, with the places of their samples."""
        order = order_of(state, self.dataset.live)
        worker, workers = _torch_worker()
        steps = enumerate(plan_steps(state.position, self._samples, self.spec, state.tail))
        mine = (step for number, step in steps if number % workers == worker)
        chunk: list[Step] = []
        samples, enough = 0, LOCATED_FIRST
        for step in mine:
            chunk.append(step)
            samples += step.stop - step.start
            if samples >= enough:
                yield from self._locate(order, chunk)
                chunk, samples, enough = [], 0, LOCATED_AT_ONCE
        if chunk:
            yield from self._locate(order, chunk)

    def _locate(self, order: EpochOrder, steps: list[Step]) -> Iterator[tuple[Step, list[Place]]]:
        positions = np.concatenate([np.arange(step.start, step.stop, dtype=np.int64) for step in steps])
        places = self._fetcher.find(*order.locate_many(positions % self._samples))
        at = 0
        for step in steps:
            yield step, places[at : at + step.stop - step.start]
            at += step.stop - step.start

    def _make(self, step: Step, places: list[Place]) -> tuple[Step, list[Any]]:
        """The items of a step, read, checked and decoded; damaged ones left out where the spec says so."""
        read, blocks, padding = self._fetcher.read, self._by_blocks, self._samples
        items = []
        for position, place in enumerate(places, step.start):
            try:
                item = read(place, blocks)
            except (ShardDamaged, StorageFailed) as error:
                if self.spec.on_damage == "error":
                    raise
                self._note(place, error)
                continue
            if position >= padding:
                item.padded = True
            items.append(item)
        if not items:
            items = [self._stand_in()]
        decode = self.decode
        return step, items if decode is None else [decode(item) for item in items]

    def _stand_in(self) -> Item:
        """The first sample that can be read, as padding for a batch whose every sample is damaged."""
        for index in range(self._samples):
            try:
                return self.dataset[index].as_padding()
            except (ShardDamaged, StorageFailed):
                continue
        raise ShardDamaged(f"{self.dataset.url}: not one sample can be read; run `shardkit verify`")

    def _note(self, place: Place, error: Exception) -> None:
        name = self.dataset.manifest.shards[place[0]].shard.digest
        with self._lock:
            self.num_skipped += 1
            if len(self.skipped) < NAMED_SKIPS:
                self.skipped.append(Skipped(shard=name, ordinal=place[1], reason=str(error)))

    def _begin(self) -> None:
        dataset, spec = self.dataset, self.spec
        self._runs = 0
        self._lock = threading.Lock()
        self._samples = len(dataset)
        self.skipped: list[Skipped] = []
        self.num_skipped = 0
        self._fetcher = Fetcher(dataset.store, dataset.manifest, dataset.tables, spec.read_ahead_bytes)
        self._by_blocks = self._choose_blocks()

    def _choose_blocks(self) -> bool:
        """Whether whole blocks are read and kept until their samples are handed out.

        Only where all open windows fit the budget, and, locally, where samples are so small that a read costs more
        than the copy; with many ranks only where a block is small, as each rank wants a part of it.
        """
        extent, spec, state = self.dataset.extent, self.spec, self._state
        lanes = lanes_used(state.lanes, extent.samples, extent.block)
        open_samples = min(extent.samples, lanes * (state.window + 2 * extent.block))
        fits = open_samples * extent.sample_bytes <= spec.read_ahead_bytes
        if not self.dataset.store.is_remote:
            return fits and extent.sample_bytes < LARGEST_SINGLE
        alone = spec.world_size == 1 or lanes % spec.global_batch == 0
        return fits and (alone or extent.block * extent.sample_bytes <= 256 << 10)

    def __getstate__(self) -> tuple[Any, ...]:
        return self.dataset, self.spec, self.decode, self._state

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dataset, self.spec, self.decode, self._state = state
        self._begin()


def open_loader(dataset: Dataset, *, decode: Decode | None = None, **fields: Any) -> Loader:
    """A loader over `dataset`; `fields` are those of LoaderSpec (batch_size, seed, lanes, rank, world_size, …).

    `decode` is called on every item in the threads that read (num_workers); batches then hold what it returns.
    Raises SpecError for an unknown field, a value out of range, or a dataset too small for one step.
    """
    unknown = sorted(set(fields) - set(LoaderSpec.__struct_fields__))
    if unknown:
        known = ", ".join(LoaderSpec.__struct_fields__)
        raise SpecError(f"open_loader has no field {unknown[0]!r}; there are: {known}")
    return Loader(dataset, LoaderSpec(**fields), decode)


def _after(state: OrderState, step: Step) -> OrderState:
    if step.ends_epoch:
        return _next_epoch(state)
    return msgspec.structs.replace(state, position=step.after)


def _next_epoch(state: OrderState) -> OrderState:
    return msgspec.structs.replace(state, epoch=state.epoch + 1, position=0)


def _torch_worker() -> tuple[int, int]:
    """(i, n) in worker i of n of torch's DataLoader, else (0, 1). Torch is looked up, never imported."""
    data = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    return (0, 1) if info is None else (info.id, info.num_workers)
