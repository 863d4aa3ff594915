"""Reading in shuffled order, in batches, with a state after each from which reading goes on exactly.

Here: the loader and its batches.
Elsewhere: what is read in which order (stream.py), steps (steps.py), the state (state.py), threads (ahead.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, overload

import msgspec
import numpy as np

from shardkit.errors import SpecError
from shardkit.read.ahead import Work, in_order, reading_ahead
from shardkit.read.batch import NAMED_SKIPS, torch_worker
from shardkit.read.batch import Batch as Batch
from shardkit.read.batch import Skipped as Skipped
from shardkit.read.feed import CostOf
from shardkit.read.fetch import Found
from shardkit.read.finish import Finish
from shardkit.read.item import Item
from shardkit.read.pack import Packing
from shardkit.read.packed import PackedLoader
from shardkit.read.reader import Reader
from shardkit.read.spec import LoaderSpec
from shardkit.read.state import OrderState, check_position
from shardkit.read.steps import Step, check_steps, count_steps, plan_steps
from shardkit.read.stream import Located, Source, Stream, stand_in

LOCATED_FIRST = 64
LOCATED_AT_ONCE = 16384
"""Samples located in one go: enough that numpy's calls cost little; the first ones, which are waited for, are fewer."""

READ_AT_ONCE = 64
"""Samples of small batches that are read with one call; those that are decoded are read a step at a time."""

Decode = Callable[[Item], Any]


Made = tuple[Step, list[Any] | Exception, tuple[Skipped, ...]]
"""A step with its items, or the error that ends reading there, and the samples that it leaves out."""


class Loader:
    """Hands out one epoch of batches for each `for`, and goes on where the last one stopped.

    `skipped` names samples left out with on_damage="skip" (the first thousand), `num_skipped` counts all.
    Can be pickled; under torch's DataLoader, worker i of n gives the steps that are i modulo n. Its workers hold
    copies, which move on from epoch to epoch with persistent_workers=True only; without, load the last batch's
    `.state` here, or every epoch is the first again.
    """

    _state: OrderState
    _stream: Stream
    _runs: int

    def __init__(self, dataset: Source, spec: LoaderSpec, decode: Decode | None = None) -> None:
        self.dataset = dataset
        self.spec = spec
        self.decode = decode
        self._reader = Reader(dataset, spec)
        self._begin(self._reader.first_state())
        check_steps(self._size(), spec, self._state.tail)

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the present state to the end of the epoch. Raises ShardDamaged, StorageFailed."""
        self._runs += 1
        run, state = self._runs, self._state
        samples = self._size()
        make = partial(self._make, self._stream, samples)
        work = reading_ahead(self._located(state), self._stream, self.spec)
        for made in in_order(work, make, self.spec.num_workers):
            for step, items, skipped in made:
                if isinstance(items, Exception):
                    raise items
                after = _after(state, step)
                if run == self._runs:
                    self._state = after
                yield Batch(items, after.as_json(), max(0, step.stop - max(step.start, samples)), skipped)
        if run == self._runs and self._state.epoch == state.epoch:
            self._state = _next_epoch(state)

    def __len__(self) -> int:
        """How many batches the next `for` gives (of all torch workers together)."""
        return count_steps(self._state.position, self._size(), self.spec, self._state.tail)

    def state_dict(self) -> dict[str, Any]:
        """The state after the last batch handed out, as plain JSON values."""
        return self._state.as_json()

    def load_state_dict(self, state: Mapping[str, Any], *, other_version: bool = False) -> None:
        """Go on from a saved state, of any world size, batch size and number of workers.

        Raises StateConflict where it contradicts the dataset or the arguments; `other_version` accepts a state of
        another version of the dataset: then the position is kept and the order is the new version's.
        """
        reader, found = self._reader.restore(state, other_version=other_version)
        stream = reader.stream(found)
        check_position(found, stream.size(found.epoch))
        check_steps(stream.size(found.epoch), self.spec, found.tail)
        self._runs += 1  # a `for` that is still running no longer moves the state
        self._reader, self._state, self._stream = reader, found, stream

    @property
    def source_epochs(self) -> dict[str, float]:
        """How often each dataset was read up to the present state, by its URL: 2.25 is a quarter of the third time."""
        return self._reader.passes(self._stream, self._state)

    def _size(self) -> int:
        """Positions of the epoch in which the state stands."""
        return self._stream.size(self._state.epoch)

    def _located(self, state: OrderState) -> Iterator[Work]:
        """This rank's steps, of this torch worker only, with the places of their samples, a few steps at a time."""
        together = 1 if self.decode is not None else READ_AT_ONCE
        find = partial(_find, self._stream, state.epoch)
        worker, workers = torch_worker()
        steps = enumerate(plan_steps(state.position, self._stream.size(state.epoch), self.spec, state.tail))
        mine = (step for number, step in steps if number % workers == worker)
        chunk: list[Step] = []
        waiting, enough, samples = 0, LOCATED_FIRST, 1
        for step in mine:
            chunk.append(step)
            waiting += step.stop - step.start
            if waiting >= enough:
                yield from find(chunk, samples)
                chunk, waiting, enough, samples = [], 0, LOCATED_AT_ONCE, together
        if chunk:
            yield from find(chunk, samples)

    def _make(self, stream: Stream, samples: int, steps: Sequence[Step], places: Located) -> list[Made]:
        """Each step with its items, read, checked and decoded; or the error that ends reading there."""
        made: list[Made] = []
        found = stream.read_many(places)
        at = 0
        for step in steps:
            part = slice(at, at + step.stop - step.start)
            try:
                made.append((step, *self._items(stream, samples, step, found[part], partial(places.__getitem__, part))))
            except Exception as error:  # raised where the step would have been handed out
                return [*made, (step, error, ())]
            at = part.stop
        return made

    def _items(
        self, stream: Stream, samples: int, step: Step, found: list[Found], places: Callable[[], Located]
    ) -> tuple[list[Any], tuple[Skipped, ...]]:
        """The items of a step, decoded; damaged ones left out and named where the spec says so."""
        skipped: list[Skipped] = []
        items = [item for item in found if type(item) is Item]
        if step.stop > samples:
            for position, item in enumerate(found, step.start):
                if position >= samples and type(item) is Item:
                    item.padded = True
        if len(items) < len(found):
            for place, error in zip(places(), found, strict=True):
                if isinstance(error, Exception):
                    if self.spec.on_damage == "error":
                        raise error
                    shard, ordinal = stream.name(place)
                    skipped.append(Skipped(shard=shard, ordinal=ordinal, reason=str(error)))
            self._note(skipped)
            items = items or [stand_in(stream, self.dataset.url)]
        decode = self.decode
        return items if decode is None else [decode(item) for item in items], tuple(skipped)

    def _note(self, skipped: list[Skipped]) -> None:
        with self._lock:
            self.num_skipped += len(skipped)
            self.skipped += skipped[: NAMED_SKIPS - len(self.skipped)]

    def _begin(self, state: OrderState) -> None:
        self._state = state
        self._stream = self._reader.stream(state)
        self._runs = 0
        self._lock = threading.Lock()
        self.skipped: list[Skipped] = []
        self.num_skipped = 0

    def __getstate__(self) -> tuple[Any, ...]:
        return self._reader, self.decode, self._state

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._reader, self.decode, found = state
        self.dataset, self.spec = self._reader.source, self._reader.spec
        self._begin(found)


@overload
def open_loader(dataset: Source, *, pack: None = None, decode: Decode | None = None, **fields: Any) -> Loader: ...
@overload
def open_loader(
    dataset: Source,
    *,
    pack: Packing,
    cost: CostOf,
    decode: Decode | None = None,
    finish: Finish | None = None,
    **fields: Any,
) -> PackedLoader: ...
def open_loader(
    dataset: Source,
    *,
    pack: Packing | None = None,
    decode: Decode | None = None,
    cost: CostOf | None = None,
    finish: Finish | None = None,
    **fields: Any,
) -> Loader | PackedLoader:
    """A loader over `dataset`; `fields` are those of LoaderSpec (batch_size, seed, lanes, rank, world_size, …).

    `decode` is called on every item in the threads that read (num_workers); batches then hold what it returns.
    With `pack`, a batch holds `batch_size` packs; `cost` says what a decoded item takes of one, None leaves it out.
    Thousands of decoded items wait for their packs: `finish` makes of one, when it is handed out, what need not wait.
    Raises SpecError for an unknown field, a value out of range, or a dataset too small for one step.
    """
    unknown = sorted(set(fields) - set(LoaderSpec.__struct_fields__))
    if unknown:
        known = ", ".join((*LoaderSpec.__struct_fields__, "decode", "cost", "finish"))
        raise SpecError(f"open_loader has no field {unknown[0]!r}; there are: {known}")
    spec = LoaderSpec(pack=pack, **fields)
    if (pack is None) != (cost is None):
        raise SpecError("`pack` says how much goes together and `cost` what a decoded sample takes of it: give both")
    if cost is not None:
        return PackedLoader(dataset, spec, decode, cost, finish)
    if finish is not None:
        raise SpecError("`finish` is for packs, whose samples wait; without `pack` let `decode` do all")
    return Loader(dataset, spec, decode)


def _find(stream: Stream, epoch: int, steps: list[Step], together: int) -> Iterator[Work]:
    """Places of steps, in groups of as many steps as have `together` samples, at least one."""
    positions = np.concatenate([np.arange(step.start, step.stop, dtype=np.int64) for step in steps])
    places = stream.places(epoch, positions % stream.size(epoch))
    first = begin = at = 0
    for number, step in enumerate(steps, 1):
        at += step.stop - step.start
        if at - begin >= together or number == len(steps):
            yield steps[first:number], places[begin:at]
            first, begin = number, at


def _after(state: OrderState, step: Step) -> OrderState:
    if step.ends_epoch:
        return _next_epoch(state)
    return msgspec.structs.replace(state, position=step.after)


def _next_epoch(state: OrderState) -> OrderState:
    return msgspec.structs.replace(state, epoch=state.epoch + 1, position=0)
