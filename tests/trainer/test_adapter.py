"""Under torch's loaders: order, epochs and resumes are those of the loader alone, with any number of workers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from shardkit import Dataset, Item, Loader, StateConflict, open_dataset, open_loader
from tests.read.made import make_dataset, numbered
from trainer.data.adapter import TorchBatch, TorchDataset, TorchLoader, ahead_on, stack

BATCH = 7


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("adapter")
    make_dataset(root, numbered([17, 4, 26]), omitted={1: [0]})
    return open_dataset(root)


def key_of(item: Item) -> str:
    return item.key


def arrays_of(item: Item) -> dict[str, Any]:
    data = np.frombuffer(item.members["json"], dtype=np.uint8)
    return {"head": data[:16], "all": data, "size": len(data), "share": 0.5, "key": item.key, "pair": (item.ordinal, 1)}


def loader_of(dataset: Dataset, decode: Any = key_of, tail: str = "split") -> Loader:
    return open_loader(dataset, batch_size=BATCH, tail=tail, decode=decode, seed=3)


def epochs(dataset: Dataset, count: int, tail: str = "split") -> list[list[list[str]]]:
    loader = loader_of(dataset, tail=tail)
    return [[list(batch) for batch in loader] for _ in range(count)]


def lists(batches: Any) -> list[list[str]]:
    return [list(batch) for batch in batches]


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_torchs_own_loader_gives_the_same_batches_with_their_states(dataset: Dataset, workers: int) -> None:
    loaded = list(DataLoader(TorchDataset(loader_of(dataset)), batch_size=None, num_workers=workers))
    alone = list(loader_of(dataset))
    assert lists(loaded) == lists(alone)
    assert [batch.state for batch in loaded] == [batch.state for batch in alone]


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_go_on_with_workers_that_stay(dataset: Dataset, workers: int) -> None:
    loader = DataLoader(
        TorchDataset(loader_of(dataset)), batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )
    assert [lists(loader) for _ in range(3)] == epochs(dataset, 3)


@pytest.mark.parametrize("tail", ["split", "drop", "pad"])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_stateful_loader_resumes_at_every_batch(dataset: Dataset, workers: int, tail: str) -> None:
    whole = epochs(dataset, 2, tail)
    stops = range(len(whole[0])) if (workers, tail) != (3, "pad") else range(1, len(whole[0]), 2)
    for stop in stops:
        first = StatefulDataLoader(TorchDataset(loader_of(dataset, tail=tail)), batch_size=None, num_workers=workers)
        running = iter(first)
        begun = [list(next(running)) for _ in range(stop)]
        state = json.loads(json.dumps(first.state_dict()))
        del running
        second = StatefulDataLoader(TorchDataset(loader_of(dataset, tail=tail)), batch_size=None, num_workers=workers)
        second.load_state_dict(state)
        assert begun + lists(second) == whole[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_stateful_loader_resumes_in_the_second_epoch(dataset: Dataset, workers: int) -> None:
    whole = epochs(dataset, 3)
    stays = {"batch_size": None, "num_workers": workers, "persistent_workers": workers > 0}
    first = StatefulDataLoader(TorchDataset(loader_of(dataset)), **stays)  # type: ignore[arg-type]
    assert lists(first) == whole[0]
    running = iter(first)
    begun = [list(next(running)) for _ in range(4)]
    state = first.state_dict()
    second = StatefulDataLoader(TorchDataset(loader_of(dataset)), **stays)  # type: ignore[arg-type]
    second.load_state_dict(state)
    assert begun + lists(second) == whole[1]
    assert lists(second) == whole[2]


def test_a_state_of_other_workers_is_refused_and_a_batchs_state_fits_any(dataset: Dataset) -> None:
    given = TorchDataset(loader_of(dataset))
    with pytest.raises(StateConflict, match="of 3 workers, there are 1"):
        given.load_state_dict({**given.state_dict(), "workers": 3})
    batches = list(loader_of(dataset))
    given.load_state_dict(batches[1].state)
    assert lists(DataLoader(given, batch_size=None, num_workers=2)) == lists(batches[2:])
    given.load_state_dict(batches[-1].state)
    assert lists(DataLoader(given, batch_size=None, num_workers=2)) == epochs(dataset, 2)[1]


def test_our_own_loader_goes_through_epochs_with_new_workers_each(dataset: Dataset) -> None:
    loader = TorchLoader(loader_of(dataset), num_workers=2)
    assert [[list(batch.values) for batch in loader] for _ in range(2)] == epochs(dataset, 2)
    assert len(loader) == len(epochs(dataset, 1)[0])


@pytest.mark.parametrize("tail", ["split", "drop"])
def test_our_own_loader_resumes_with_any_number_of_workers(dataset: Dataset, tail: str) -> None:
    whole = epochs(dataset, 2, tail)
    workers = 0
    for stop in range(len(whole[0]) + 1):
        first = TorchLoader(loader_of(dataset, tail=tail), num_workers=workers)
        begun = []
        for batch in first if stop else ():
            begun.append(list(batch.values))
            if len(begun) == stop:
                break
        state = json.loads(json.dumps(first.state_dict()))
        workers = (workers + 2) % 3
        second = TorchLoader(loader_of(dataset, tail=tail), num_workers=workers)
        second.load_state_dict(state)
        rest = [list(batch.values) for batch in second]
        assert begun + rest in (whole[0], whole[0] + whole[1])


def test_values_are_stacked_where_they_fit(dataset: Dataset) -> None:
    loader = loader_of(dataset, arrays_of)
    (batch, *_) = loader
    made = stack(batch)
    assert made.state == batch.state and made.padded == 0
    assert made.values["head"].shape == (BATCH, 16) and made.values["head"].dtype == torch.uint8
    assert [len(one) for one in made.values["all"]] == made.values["size"].tolist()
    assert made.values["share"].dtype == torch.float32 and made.values["pair"][1].tolist() == [1] * BATCH
    assert made.values["key"] == tuple(value["key"] for value in batch)
    for number, value in enumerate(batch):
        assert (made.values["head"][number].numpy() == value["head"]).all()


def test_stacked_values_do_not_share_memory_that_is_used_again() -> None:
    from shardkit import Batch

    arrays = [np.zeros(4, dtype=np.uint8), np.zeros(5, dtype=np.uint8)]
    made = stack(Batch(list(arrays), {}))
    arrays[0][:] = 9
    assert made.values[0].tolist() == [0, 0, 0, 0]


def test_batches_are_moved_and_keep_their_states(dataset: Dataset) -> None:
    loader = TorchLoader(loader_of(dataset, arrays_of), num_workers=1)
    moved = list(ahead_on(loader, "meta"))
    assert all(isinstance(batch, TorchBatch) and batch.values["head"].is_meta for batch in moved)
    assert [batch.state for batch in moved] == [batch.state for batch in loader_of(dataset)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_batches_come_pinned_and_go_to_the_gpu_ahead_of_use(dataset: Dataset) -> None:
    loader = TorchLoader(loader_of(dataset, arrays_of), num_workers=1)
    wanted = [stack(batch) for batch in loader_of(dataset, arrays_of)]
    pinned = list(loader)
    assert all(batch.values["head"].is_pinned() for batch in pinned)
    for batch, plain in zip(ahead_on(pinned, "cuda"), wanted, strict=True):
        assert batch.values["head"].is_cuda and (batch.values["head"].cpu() == plain.values["head"]).all()
