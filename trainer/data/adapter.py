"""Batches as torch takes them: under its DataLoader and torchdata's StatefulDataLoader, stacked, pinned, on a device.

Here: a dataset for both loaders, a loader of our own over worker processes whose epochs and states are right by
themselves, stacking into pinned memory, moving to a device ahead of use.
Elsewhere: reading and its order (shardkit), the training batches of this trainer (collate.py, stream.py).

    dataset = TorchDataset(open_loader(open_dataset(url), batch_size=32, decode=decode))
    loader = StatefulDataLoader(dataset, batch_size=None, num_workers=4)   # or torch's own DataLoader

or, with epochs and states that need no care:

    for batch in TorchLoader(open_loader(…), num_workers=4):
        step(batch.to("cuda").values)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from shardkit import Batch, Loader, SpecError, StateConflict


class TorchDataset(IterableDataset[Batch]):
    """A loader's batches for torch's DataLoader (batch_size=None: they are batches already).

    Worker i of n gives the steps that are i modulo n, which the DataLoader puts together in their order. Each
    batch's `.state` is the reading state after it, under any number of workers: what to save with torch's own loader.
    `state_dict` and `load_state_dict` are what StatefulDataLoader calls in every worker; they need the same number of
    workers again, and `load_state_dict` takes a batch's `.state`, too.
    Epochs: with num_workers=0 or persistent_workers=True each `for` is the next epoch. Other workers begin with a copy
    of this object: call `load_state_dict(batch.state)` with an epoch's last batch before the next, or use TorchLoader.
    """

    def __init__(self, loader: Loader) -> None:
        super().__init__()
        self.loader = loader
        self._base = loader.state_dict()
        self._given = 0
        self._ended = self._restored = False

    def __iter__(self) -> Iterator[Batch]:
        """This worker's steps from where the state stands to the end of the epoch."""
        workers = _workers()
        if self._ended and not self._restored:
            self._base, self._given = _next_epoch(self._base), 0
        self._ended = self._restored = False
        self.loader.load_state_dict(self._base)
        done = self._given * workers  # steps that all workers together have behind them, as far as this one knows
        if done < len(self.loader):
            self.loader.load_state_dict(_moved(self._base, done * self.loader.spec.global_batch))
            for batch in self.loader:
                self._given += 1
                yield batch
        self._ended = True

    def __len__(self) -> int:
        """Batches that the next `for` gives, of all workers together."""
        return len(self.loader)

    def state_dict(self) -> dict[str, Any]:
        """Where this worker stands: where the epoch was begun, its own steps since then, and how many workers share."""
        return {"base": self._base, "given": self._given, "workers": _workers(), "ended": self._ended}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()` of the same worker, or from any batch's `.state`. Raises StateConflict."""
        if "base" not in state:
            self.loader.load_state_dict(state)
            self._base, self._given, self._ended, self._restored = dict(state), 0, False, False
            return
        if state["workers"] != _workers():
            raise StateConflict(
                f"the state is of {state['workers']} workers, there are {_workers()}; use the same number, or load the "
                "last batch's .state, which fits any"
            )
        self.loader.load_state_dict(state["base"])
        self._base, self._given, self._ended = dict(state["base"]), state["given"], state["ended"]
        self._restored = True


class TorchBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch with its arrays as tensors: `values` in the shape that `stack` gives, and the reading state after it."""

    values: Any
    state: dict[str, Any]
    padded: int = 0

    def pin_memory(self) -> TorchBatch:
        """The same in page-locked memory, from which copies to a GPU need not wait; what the DataLoader calls."""
        return msgspec.structs.replace(self, values=_each(self.values, torch.Tensor.pin_memory))

    def to(self, device: torch.device | str) -> TorchBatch:
        """The same on a device; from pinned memory without waiting for the copy."""
        return msgspec.structs.replace(self, values=_each(self.values, lambda one: one.to(device, non_blocking=True)))


class TorchLoader:
    """A loader's batches, stacked, made by worker processes of torch; each `for` is the next epoch.

    The state is the loader's own, after the last batch handed out: it may be loaded with any number of workers, ranks
    and samples a batch. `num_workers` are processes, 0 is this one; the loader's own `num_workers` are threads in each.
    With `pin_memory` (default: where there is CUDA) batches come in page-locked memory.
    """

    def __init__(
        self, loader: Loader, *, num_workers: int = 0, pin_memory: bool | None = None, prefetch_factor: int = 2
    ) -> None:
        if num_workers < 0 or prefetch_factor < 1:
            raise SpecError(f"num_workers is {num_workers}, prefetch_factor {prefetch_factor}; wanted 0 and 1 at least")
        self.loader = loader
        self.num_workers, self.prefetch_factor = num_workers, prefetch_factor
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory

    def __iter__(self) -> Iterator[TorchBatch]:
        """Batches from the present state to the end of the epoch. Raises what reading raises."""
        state = self.loader.state_dict()
        for batch in self._workers():
            self.loader.load_state_dict(batch.state)
            yield batch
        if self.loader.state_dict()["epoch"] == state["epoch"]:  # it ended without a last batch: dropped
            self.loader.load_state_dict(_next_epoch(state))

    def __len__(self) -> int:
        return len(self.loader)

    def state_dict(self) -> dict[str, Any]:
        """The reading state after the last batch handed out, as plain JSON values."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state. Raises StateConflict."""
        self.loader.load_state_dict(state)

    def _workers(self) -> Iterable[TorchBatch]:
        """The epoch's DataLoader: a new one each time, since its workers begin with copies of what is here now."""
        return DataLoader(
            TorchDataset(_copied(self.loader)),
            batch_size=None,
            num_workers=self.num_workers,
            collate_fn=cast("Any", stack),
            pin_memory=self.pin_memory,
            prefetch_factor=self.prefetch_factor if self.num_workers else None,
        )


def stack(batch: Batch) -> TorchBatch:
    """A batch of what `decode` returned as tensors.

    Arrays and tensors of one shape and dtype become one tensor (B, …), others stay a tuple of tensors; numbers become
    one tensor; dicts and tuples are stacked field by field where all samples have the same fields; everything else
    stays a tuple. Nothing refers to the batch's own memory.
    """
    return TorchBatch(values=_stacked(tuple(batch)), state=batch.state, padded=batch.padded)


def ahead_on(batches: Iterable[Any], device: torch.device | str) -> Iterator[Any]:
    """Batches with a `.to`, each on the device before it is asked for: copied on a stream of its own on a GPU.

    Wants batches in pinned memory, or else copying waits. On other devices they are moved when they are asked for.
    Closing it closes `batches`, where these can be closed.
    """
    target = torch.device(device)
    try:
        yield from _copied_ahead(batches, target) if target.type == "cuda" else (batch.to(target) for batch in batches)
    finally:  # of generators, only the outermost one is closed by who uses it
        close = getattr(batches, "close", None)
        if close:
            close()


def _copied_ahead(batches: Iterable[Any], target: torch.device) -> Iterator[Any]:
    stream, waiting = torch.cuda.Stream(target), None
    for batch in batches:
        with torch.cuda.stream(stream):
            moved = batch.to(target)
        if waiting is not None:
            yield waiting
        torch.cuda.current_stream(target).wait_stream(stream)
        _each(moved, _used_here)
        waiting = moved
    if waiting is not None:
        yield waiting


def _stacked(values: tuple[Any, ...]) -> Any:
    first = values[0]
    if all(isinstance(value, np.ndarray) for value in values):
        if all(value.shape == first.shape and value.dtype == first.dtype for value in values):
            return torch.from_numpy(np.stack(values))
        return tuple(torch.from_numpy(np.array(value)) for value in values)
    if all(isinstance(value, torch.Tensor) for value in values):
        same = all(value.shape == first.shape and value.dtype == first.dtype for value in values)
        return torch.stack(values) if same else tuple(value.clone() for value in values)
    if isinstance(first, bool | int | float) and all(type(value) is type(first) for value in values):
        return torch.tensor(values)
    if isinstance(first, Mapping) and all(isinstance(v, Mapping) and v.keys() == first.keys() for v in values):
        return {name: _stacked(tuple(value[name] for value in values)) for name in first}
    if isinstance(first, tuple) and all(isinstance(v, tuple) and len(v) == len(first) for v in values):
        return tuple(_stacked(column) for column in zip(*values, strict=True))
    return values


def _each(values: Any, change: Any) -> Any:
    """The same structure with every tensor changed."""
    if isinstance(values, torch.Tensor):
        return change(values)
    if isinstance(values, Mapping):
        return {name: _each(value, change) for name, value in values.items()}
    if isinstance(values, tuple):
        return tuple(_each(value, change) for value in values)
    if isinstance(values, msgspec.Struct):
        fields = {name: _each(getattr(values, name), change) for name in values.__struct_fields__}
        return msgspec.structs.replace(values, **fields)
    return values


def _used_here(tensor: torch.Tensor) -> torch.Tensor:
    """Tell the allocator that this stream uses memory which another one filled."""
    if tensor.is_cuda:
        tensor.record_stream(torch.cuda.current_stream(tensor.device))
    return tensor


def _workers() -> int:
    info = get_worker_info()
    return 1 if info is None else info.num_workers


def _copied(loader: Loader) -> Loader:
    copy = Loader(loader.dataset, loader.spec, loader.decode)
    copy.load_state_dict(loader.state_dict())
    return copy


def _moved(state: Mapping[str, Any], samples: int) -> dict[str, Any]:
    return {**state, "position": state["position"] + samples}


def _next_epoch(state: Mapping[str, Any]) -> dict[str, Any]:
    return {**state, "epoch": state["epoch"] + 1, "position": 0}


__all__: Sequence[str] = ("TorchBatch", "TorchDataset", "TorchLoader", "ahead_on", "stack")
