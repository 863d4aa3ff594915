"""The loader: every sample once an epoch, resumed exactly from any state under any topology, damage never silent."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest

from shardkit.errors import ShardDamaged, SpecError
from shardkit.read.dataset import Dataset, Item, open_dataset
from shardkit.read.loader import Batch, Loader, open_loader
from shardkit.read.mixture import Mixture
from shardkit.store.layout import shard_path
from tests.read.made import image_sample, make_dataset, numbered, text_sample


@pytest.fixture(scope="module", params=["tar", "tar.zst"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("loader")
    make_dataset(root, numbered([37, 20, 3, 40]), codec=request.param, omitted={1: [0, 5, 19]})
    return open_dataset(root)


def keys(batches: list[Batch]) -> list[str]:
    return [item.key for batch in batches for item in batch]


def resumed(dataset: Dataset, state: dict[str, Any], **fields: Any) -> Loader:
    loader = open_loader(dataset, **fields)
    loader.load_state_dict(state)
    return loader


def test_a_name_in_place_of_an_open_dataset_is_refused(dataset: Dataset) -> None:
    names: list[Any] = ["data", Path("data"), [dataset]]
    for name in names:
        with pytest.raises(SpecError, match="open_dataset"):
            open_loader(name)
    for member in ("data", Mixture([dataset])):
        with pytest.raises(SpecError, match="open_dataset"):
            Mixture([member])  # type: ignore[list-item]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_resume_at_every_position_gives_the_rest(dataset: Dataset, workers: int) -> None:
    batches = list(open_loader(dataset, batch_size=7, seed=1, lanes=2, window=9, tail="split"))
    assert sorted(keys(batches)) == sorted(item.key for item in dataset)
    for at, batch in enumerate(batches[:-1]):
        assert list(resumed(dataset, batch.state, batch_size=7, num_workers=workers)) == batches[at + 1 :]


def test_topology_may_change_several_times_within_an_epoch(dataset: Dataset) -> None:
    choose = random.Random(4)
    whole = keys(list(open_loader(dataset, batch_size=1, seed=2)))
    for _ in range(40):
        state: dict[str, Any] | None = None
        seen: list[str] = []
        for last in (False, False, True):
            world, batch = choose.choice([1, 2, 3, 4, 8]), choose.randrange(1, 6)
            fields = {"batch_size": batch, "world_size": world, "num_workers": choose.choice([0, 2])}
            ranks = [open_loader(dataset, rank=rank, seed=2, **fields) for rank in range(world)]
            for loader in ranks:
                if state is not None:
                    loader.load_state_dict(state)
            steps = list(zip(*(list(loader) for loader in ranks), strict=True))
            taken = steps if last else steps[: choose.randrange(max(1, len(steps)))]
            seen += [item.key for step in taken for part in step for item in part]
            assert all(part.state == step[0].state for step in taken for part in step)
            state = taken[-1][0].state if taken else state
        assert seen == whole[: len(seen)]
        assert len(whole) - len(seen) < world * batch


def test_padding_repeats_the_beginning_and_is_marked(dataset: Dataset) -> None:
    parts = [
        list(open_loader(dataset, batch_size=8, tail="pad", world_size=3, rank=rank, decode=lambda item: item))
        for rank in range(3)
    ]
    sequence = [item for step in zip(*parts, strict=True) for part in step for item in part]
    first = [(item.key, item.padded) for item in sequence[: len(dataset)]]
    padding = [(item.key, item.padded) for item in sequence[len(dataset) :]]
    assert {mark for _, mark in first} == {False} and len({key for key, _ in first}) == len(dataset)
    assert padding == [(key, True) for key, _ in first[: len(padding)]]
    assert sum(batch.padded for part in parts for batch in part) == len(padding) == -len(dataset) % 24


def test_a_batch_larger_than_the_dataset_is_padded_round_and_round(dataset: Dataset) -> None:
    (batch,) = open_loader(dataset, batch_size=250, tail="pad")
    assert len(batch) == 250 and batch.padded == 250 - len(dataset)
    assert [item.key for item in batch[97:194]] == [item.key for item in batch[:97]]


def test_each_for_is_one_epoch_and_orders_differ(dataset: Dataset) -> None:
    loader = open_loader(dataset, batch_size=10, tail="split")
    assert len(loader) == 10
    first, second = list(loader), list(loader)
    assert first[-1].state | {"version": ""} == second[0].state | {"version": "", "position": 0}
    assert sorted(keys(first)) == sorted(keys(second)) and keys(first) != keys(second)
    assert loader.state_dict()["epoch"] == 2 and loader.state_dict()["position"] == 0
    assert keys(list(open_loader(dataset, batch_size=10, seed=1, tail="split"))) != keys(first)


def test_a_loop_that_stops_goes_on_where_it_stopped(dataset: Dataset) -> None:
    whole = list(open_loader(dataset, batch_size=6))
    loader = open_loader(dataset, batch_size=6, num_workers=2)
    begun = []
    for batch in loader:
        begun.append(batch)
        assert loader.state_dict() == batch.state  # of what was handed out, not of what was read ahead
        if len(begun) == 5:
            break
    assert begun + list(loader) == whole


def test_the_state_after_the_last_batch_is_the_next_epoch(dataset: Dataset) -> None:
    for tail in ("drop", "pad", "split"):
        *_, last = open_loader(dataset, batch_size=10, tail=tail)
        assert (last.state["epoch"], last.state["position"]) == (1, 0)


def test_a_state_with_too_little_left_for_a_larger_batch_ends_the_epoch(dataset: Dataset) -> None:
    state = open_loader(dataset, batch_size=1).state_dict() | {"position": len(dataset) - 3}
    loader = resumed(dataset, state, batch_size=8)
    assert len(loader) == 0 and list(loader) == []
    assert loader.state_dict()["epoch"] == 1 and len(list(loader)) == len(dataset) // 8


def test_batches_and_loaders_survive_pickling(dataset: Dataset) -> None:
    loader = open_loader(dataset, batch_size=6)
    iterator = iter(loader)
    batch = next(iterator)
    copy = pickle.loads(pickle.dumps(batch))
    assert copy == batch and copy.state == batch.state and copy.padded == 0
    assert list(pickle.loads(pickle.dumps(loader))) == list(iterator)


def test_decode_runs_on_every_item_in_order(dataset: Dataset) -> None:
    plain = keys(list(open_loader(dataset, batch_size=6)))
    decoded = open_loader(dataset, batch_size=6, num_workers=3, decode=lambda item: item.key)
    assert [key for batch in decoded for key in batch] == plain


def test_error_in_decode_comes_through(dataset: Dataset) -> None:
    def fail(item: Item) -> None:
        raise RuntimeError(item.key)

    for workers in (0, 2):
        with pytest.raises(RuntimeError):
            next(iter(open_loader(dataset, decode=fail, num_workers=workers)))


def test_budget_changes_how_bytes_are_read_and_not_what_comes(dataset: Dataset) -> None:
    orders = {
        tuple(keys(list(open_loader(dataset, batch_size=4, read_ahead_bytes=budget))))
        for budget in (0, 5000, 100_000, 1 << 30)
    }
    assert len(orders) == 1


def test_unknown_field_and_too_large_a_batch_are_refused(dataset: Dataset) -> None:
    with pytest.raises(SpecError, match=r"no field 'batchsize'.*batch_size"):
        open_loader(dataset, batchsize=3)
    with pytest.raises(SpecError, match="97 samples and a step takes 98"):
        open_loader(dataset, batch_size=98)


def test_torch_workers_give_the_steps_of_one_loader(dataset: Dataset) -> None:
    data = pytest.importorskip("torch.utils.data")

    class Stream(data.IterableDataset):  # type: ignore[misc, name-defined]
        def __init__(self, loader: Loader) -> None:
            self.loader = loader

        def __iter__(self) -> Any:
            return iter(self.loader)

    loader = open_loader(dataset, batch_size=6, tail="split")
    batches = list(loader)
    loader = open_loader(dataset, batch_size=6, tail="split")
    loader.load_state_dict(batches[3].state)
    found = list(data.DataLoader(Stream(loader), batch_size=None, num_workers=2))
    assert found == batches[4:]
    assert [batch.state for batch in found] == [batch.state for batch in batches[4:]]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    make_dataset(tmp_path, [[text_sample(1), image_sample(2, size=40), text_sample(3)]], block=1)
    return tmp_path


def shard_of(root: Path) -> Path:
    return root / shard_path(open_dataset(root).manifest.shards[0])


@pytest.mark.parametrize("budget", [0, 1 << 30], ids=["samples", "blocks"])
def test_no_flipped_bit_is_handed_out(tiny: Path, budget: int) -> None:
    """Every byte of the shard, one bit of each; with `skip`, exactly the damaged sample is missing and named."""
    path, dataset = shard_of(tiny), open_dataset(tiny)
    good = {item.key: item for item in dataset}
    data = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for at in range(len(data) - 1024):
            os.pwrite(file.fileno(), bytes([data[at] ^ 1 << at % 8]), at)
            loader = open_loader(dataset, on_damage="skip", tail="split", batch_size=3, read_ahead_bytes=budget)
            items = [item for batch in loader for item in batch]
            os.pwrite(file.fileno(), data[at : at + 1], at)
            assert len(items) == 2 and loader.num_skipped == len(loader.skipped) == 1
            assert all(item == good[item.key] for item in items)


def test_no_cut_shard_is_handed_out(tiny: Path) -> None:
    path, dataset = shard_of(tiny), open_dataset(tiny)
    good, data = list(dataset), path.read_bytes()
    for length in range(len(data) - 1025, -1, -7):
        os.truncate(path, length)
        with pytest.raises(ShardDamaged):
            list(open_loader(dataset))
        loader = open_loader(dataset, on_damage="skip", batch_size=3, tail="split")
        if length < good[0].size_bytes:
            with pytest.raises(ShardDamaged, match="not one sample can be read"):
                list(loader)
            continue
        (whole,) = loader
        assert all(item == good[item.ordinal] for item in whole) and loader.num_skipped == 3 - len(whole) > 0
    path.write_bytes(data)


def test_skipping_keeps_positions_and_names_what_is_missing(tiny: Path) -> None:
    dataset = open_dataset(tiny)
    whole = list(open_loader(dataset))
    data = bytearray(shard_of(tiny).read_bytes())
    data[600] ^= 1  # in the text of the first sample
    shard_of(tiny).write_bytes(data)
    for workers in (0, 2):
        loader = open_loader(open_dataset(tiny), on_damage="skip", num_workers=workers)
        batches = list(loader)
        assert [batch.state for batch in batches] == [batch.state for batch in whole]
        at = next(at for at, batch in enumerate(whole) if batch[0].ordinal == 0)
        assert [batch[0].padded for batch in batches] == [number == at for number in range(3)]
        assert [skip.ordinal for skip in loader.skipped] == [0] and "digest" in loader.skipped[0].reason
    with pytest.raises(ShardDamaged, match=r"sample [0-9a-f]{32}.*run `shardkit verify"):
        list(open_loader(open_dataset(tiny)))
