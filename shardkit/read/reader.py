"""What loaders share: the datasets that they read, with their views, as a stream at any state.

Here: the first state, checking a saved one against the data and the arguments, opening the stream that it describes.
Elsewhere: the state's fields (state.py), streams (stream.py, mixed.py), handing out (loader.py, packed.py).
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import msgspec

from shardkit.errors import SpecError, StateConflict
from shardkit.read.dataset import Dataset
from shardkit.read.mix import Mixing, first_mix
from shardkit.read.mixed import MixedStream
from shardkit.read.mixture import Mixture
from shardkit.read.order import LiveSamples
from shardkit.read.spec import LoaderSpec
from shardkit.read.state import OrderState, ViewState, check_conflict, first_state, lanes_of, restore_state
from shardkit.read.stream import DatasetStream, Member, Source, Stream
from shardkit.read.view import join_digests, resolve_view
from shardkit.read.where import Filter, parse_where


class Reader:
    """A dataset or a mixture as a loader reads it. Can be pickled, its view with it."""

    def __init__(self, source: Source, spec: LoaderSpec) -> None:
        self.source, self.spec = source, spec
        self._datasets = _datasets_of(source, spec)
        if spec.mix is not None and not isinstance(source, Mixture):
            raise SpecError("mix is given and there is one dataset; open a mixture: open_dataset([URL, URL])")
        self._view: ViewState | None
        self._resolve(None if spec.where is None else parse_where(spec.where))

    def first_state(self) -> OrderState:
        """The state before the first sample of the first epoch. Raises SpecError."""
        mixing = self._mixing(lanes_of(self.spec))
        extents = [member.extent for member in self._members]
        state = first_state(self.source.version, extents, self.spec)
        return msgspec.structs.replace(state, view=self._view, mix=None if mixing is None else first_mix(mixing))

    def restore(self, raw: Mapping[str, Any], *, other_version: bool = False) -> tuple[Reader, OrderState]:
        """A saved state, checked against the data and the arguments, and the reader for it, through the state's filter.

        The position is not checked yet. Raises StateConflict.
        """
        state = restore_state(raw, self.source.version, self.spec, other_version=other_version)
        where = None if state.view is None else state.view.where
        reader = self if self.spec.where is not None else self._through(where)
        reader._check_view(state.view, other_version)
        reader._check_mix(state)
        return reader, msgspec.structs.replace(state, view=reader._view)

    def stream(self, state: OrderState) -> Stream:
        """The stream that a state describes, which `first_state` or `restore` of this reader gave."""
        if state.mix is not None:
            return MixedStream(self._members, self.spec, state)
        return DatasetStream(self._members[0], self.spec, state)

    def passes(self, stream: Stream, state: OrderState) -> dict[str, float]:
        """How often each dataset was read up to a state, by its URL; the part after the point is the present pass."""
        if isinstance(stream, MixedStream):
            found = stream.passes(state.epoch, state.position)
        else:
            found = (state.epoch + state.position / stream.size(state.epoch),)
        return {dataset.url: times for dataset, times in zip(self._datasets, found, strict=True)}

    def _mixing(self, lanes: int) -> Mixing | None:
        if not isinstance(self.source, Mixture):
            return None
        sizes = tuple(member.live.samples for member in self._members)
        spec, weights = self.spec, self.source.weights
        step = spec.global_batch if spec.pack is None else 1  # how many samples a pack will have, nobody knows
        return Mixing(mix=spec.mix, weights=weights, sizes=sizes, lanes=lanes, global_batch=step)

    def _check_mix(self, state: OrderState) -> None:
        mixing = self._mixing(state.lanes)
        if (mixing is None) != (state.mix is None):
            wanted, found = ("one dataset", "a mixture") if mixing is None else ("a mixture", "one dataset")
            raise StateConflict(f"the state is of {found}, and {wanted} is open; open what it was saved with")
        if mixing is None or state.mix is None:
            return
        state.mix.check(len(mixing.sizes), state.lanes)
        if mixing.asked:
            asked = msgspec.to_builtins(first_mix(mixing))
            check_conflict("mix", asked, msgspec.to_builtins(state.mix), state.mix.agrees(mixing))

    def _check_view(self, saved: ViewState | None, other_version: bool) -> None:
        mine = self._view
        if mine is None or saved is None:
            agree = mine is saved
        else:
            agree = mine.digest == saved.digest or (other_version and mine.where == saved.where)
        check_conflict("where", mine and mine.where, saved and saved.where, agree)

    def _through(self, where: str | None) -> Reader:
        """A reader of the same that reads through a filter, or all samples; this one where it does already."""
        wanted = None if where is None else parse_where(where)
        if (None if wanted is None else str(wanted)) == (None if self._view is None else self._view.where):
            return self
        reader = copy(self)
        reader._resolve(wanted)
        return reader

    def _resolve(self, wanted: Filter | None) -> None:
        if wanted is None:
            self._view = None
            self._open([dataset.live for dataset in self._datasets])
            return
        views = [resolve_view(dataset, wanted) for dataset in self._datasets]
        self._view = ViewState(where=str(wanted), digest=join_digests([view.digest for view in views]))
        self._open(views)

    def _open(self, lives: Sequence[LiveSamples]) -> None:
        pairs = list(zip(self._datasets, lives, strict=True))
        for dataset, live in pairs:
            if not live.samples and (self._view is not None or len(pairs) > 1):
                through = "" if self._view is None else f" that fit where={self._view.where!r}"
                raise SpecError(f"{dataset.url} has no samples{through}; see `shardkit stats` for what it holds")
        self._lives = lives
        budget = self.spec.read_ahead_bytes // len(pairs)
        self._members = tuple(Member(dataset, live, budget) for dataset, live in pairs)

    def __getstate__(self) -> tuple[Any, ...]:
        lives = None if self._view is None else self._lives
        return self.source, self.spec, self._view, lives

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.source, self.spec, self._view, lives = state
        self._datasets = _datasets_of(self.source, self.spec)
        self._open(lives or [dataset.live for dataset in self._datasets])


def _datasets_of(source: Source, spec: LoaderSpec) -> tuple[Dataset, ...]:
    datasets = source.datasets if isinstance(source, Mixture) else (source,)
    for dataset in datasets:
        if not isinstance(dataset, Dataset):
            raise SpecError(
                f"{reprlib.repr(dataset)} is no open dataset; give the loader what open_dataset(URL) returns"
            )
    return tuple(dataset.with_cache(spec.cache, spec.cache_bytes) for dataset in datasets)
