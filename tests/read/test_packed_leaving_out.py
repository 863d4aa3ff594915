"""Packing what cannot all be packed: samples without a cost, oversized, damaged, remote; errors in their place."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from shardkit.errors import ShardDamaged, SpecError
from shardkit.read.dataset import Dataset, Item, open_dataset
from shardkit.read.loader import open_loader
from shardkit.read.mixture import Mixture
from shardkit.read.pack import Cost, Pack
from shardkit.read.serve import serve_folder
from shardkit.store.layout import shard_path
from tests.read.made import make_dataset, numbered
from tests.read.packs import PACK, cost, names, opened, saved, shared_dataset, shared_mixture


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return shared_dataset(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Mixture:
    return shared_mixture([tmp_path_factory.mktemp("mixed") for _ in range(2)])


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_without_a_cost_are_passed_over_and_handed_along(dataset: Dataset, workers: int) -> None:
    wanted = {item.key for item in dataset if int(item.key[-1], 16) % 4}

    def some(item: Item) -> Cost | None:
        return cost(item) if item.key in wanted else None

    loader = open_loader(dataset, pack=PACK, cost=some, num_workers=workers)
    batches = list(islice(loader, 60))
    packed = {key for pack in names(batches) for key in pack}
    passed = {item.key for batch in batches for pack in batch for item in pack.passed}
    assert packed <= wanted and not passed & wanted and len(passed) > 20
    again = open_loader(dataset, pack=PACK, cost=some)
    again.load_state_dict(saved(batches[30].state))
    along = [[item.key for item in pack.passed] for batch in islice(again, 29) for pack in batch]
    assert along == [[item.key for item in pack.passed] for batch in batches[31:] for pack in batch]


def test_a_dataset_of_which_nothing_can_be_packed_is_an_error_and_not_an_endless_loop(dataset: Dataset) -> None:
    with pytest.raises(SpecError, match=r"not one of \d+ samples in a row can be packed"):
        next(iter(open_loader(dataset, pack=PACK, cost=lambda item: None)))
    with pytest.raises(SpecError, match="is 0 tokens; wanted at least 1"):
        next(iter(open_loader(dataset, pack=PACK, cost=lambda item: Cost(tokens=0))))
    with pytest.raises(SpecError, match=r"is 3; wanted Cost\(tokens=…\)"):
        next(iter(open_loader(dataset, pack=PACK, cost=lambda item: 3)))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("workers", [0, 2])
def test_oversized_samples_are_named_refused_or_alone(dataset: Dataset, workers: int) -> None:
    small = {"tokens": 200, "candidates": 6, "lanes": 8}
    loader = opened(dataset, Pack(**small), num_workers=workers)  # type: ignore[arg-type]
    packs = [pack for batch in islice(loader, 100) for pack in batch]
    assert max(max(pack.lengths) for pack in packs) <= 200
    assert 0 < sum(pack.num_oversized for pack in packs) == loader.num_oversized == len(loader.oversized)
    assert "tokens, a pack takes 200" in loader.oversized[0].reason and len(loader.oversized[0].shard) == 64
    with pytest.raises(SpecError, match=r"has 2\d\d tokens, a pack takes 200; give a larger budget"):
        list(islice(opened(dataset, Pack(oversized="error", **small), num_workers=workers), 100))
    loader = opened(dataset, Pack(oversized="alone", **small), num_workers=workers)
    packs = [pack for batch in islice(loader, 100) for pack in batch]
    large = [pack for pack in packs if pack.cost.tokens > 200]
    assert large and all(len(pack) == 1 for pack in large) and loader.num_oversized == 0


def test_damage_is_an_error_or_skipped_and_named(tmp_path: Path) -> None:
    make_dataset(tmp_path, numbered([40, 40], images=False))
    dataset = open_dataset(tmp_path)
    whole = list(islice(opened(dataset), 30))
    shard = tmp_path / shard_path(dataset.manifest.shards[0])
    data = bytearray(shard.read_bytes())
    data[600] ^= 1  # in the text of the first sample
    shard.write_bytes(data)
    lost = next(item.key for pack in (pack for batch in whole for pack in batch) for item in pack if _is_first(item))
    with pytest.raises(ShardDamaged, match="run `shardkit verify"):
        list(islice(opened(open_dataset(tmp_path)), 60))
    for workers in (0, 2):
        loader = opened(open_dataset(tmp_path), on_damage="skip", num_workers=workers)
        batches = list(islice(loader, 30))
        assert lost not in {key for pack in names(batches) for key in pack}
        assert loader.num_skipped >= 1 and {(skip.ordinal, skip.shard) for skip in loader.skipped} == {
            (0, dataset.manifest.shards[0].shard.digest)
        }
        again = opened(open_dataset(tmp_path), on_damage="skip")
        again.load_state_dict(saved(batches[11].state))
        assert names(list(islice(again, 18))) == names(batches[12:])


def _is_first(item: Item) -> bool:
    return (item.shard, item.ordinal) == (0, 0)


def test_errors_of_decode_come_in_their_place(dataset: Dataset) -> None:
    bad = names(list(islice(opened(dataset), 12)))[11][0]

    def decode(item: Item) -> Item:
        if item.key == bad:
            raise RuntimeError(item.key)
        return item

    counts = set()
    for workers in (0, 1, 3):
        loader = open_loader(dataset, pack=PACK, cost=cost, decode=decode, num_workers=workers)
        given = 0
        with pytest.raises(RuntimeError, match=bad):
            for _ in loader:
                given += 1
        counts.add(given)
    assert len(counts) == 1


def test_finish_is_called_on_what_is_handed_out_alone(dataset: Dataset) -> None:
    wanted = list(islice(opened(dataset, batch_size=2), 20))
    for workers in (0, 1, 3):
        seen: list[str] = []

        def finish(item: Item) -> str:
            seen.append(item.key)  # noqa: B023 - called while this list is the one meant
            return item.key

        loader = open_loader(dataset, pack=PACK, cost=cost, finish=finish, batch_size=2, num_workers=workers)
        found = list(islice(loader, 20))
        assert [list(pack) for batch in found for pack in batch] == names(wanted)
        assert [batch.state for batch in found] == [batch.state for batch in wanted]
        if not workers:
            assert seen == [key for pack in names(wanted) for key in pack]


def test_errors_of_finish_and_of_reading_come_in_their_place(dataset: Dataset) -> None:
    packs = names(list(islice(opened(dataset), 12)))
    bad = packs[6][1]
    for workers in (0, 3):

        def fails(item: Item) -> Item:
            if item.key == bad:
                raise RuntimeError(item.key)
            return item

        for decode, finish in ((fails, None), (None, fails), (fails, fails)):
            loader = open_loader(dataset, pack=PACK, cost=cost, decode=decode, finish=finish, num_workers=workers)
            given: list[list[str]] = []
            with pytest.raises(RuntimeError, match=bad):
                for batch in loader:
                    given += names([batch])
            wanted = 6 if decode is None else len(given)
            assert given == packs[:wanted] and len(given) <= 6


def test_a_remote_resume_asks_for_open_and_coming_samples_alone(tmp_path: Path) -> None:
    make_dataset(tmp_path, numbered([64, 64, 64], images=False))
    local = open_dataset(tmp_path)
    batches = list(islice(opened(local, batch_size=2), 12))
    with serve_folder(tmp_path) as server:
        remote = open_dataset(server.url)
        loader = opened(remote, batch_size=2, num_workers=2, read_ahead_bytes=0)
        loader.load_state_dict(saved(batches[5].state))
        assert names(list(islice(loader, 6))) == names(batches[6:])
        asked = {(request.path, request.offset) for request in server.requests if request.path.startswith("shards/")}
    gone = {key for pack in names(batches[:6]) for key in pack} - {key for pack in names(batches[6:]) for key in pack}
    consumed = {
        (shard_path(local.manifest.shards[item.shard]), local.fetcher.find_one(item.shard, item.ordinal)[4])
        for item in local
        if item.key in gone
    }
    assert len(consumed) > 20 and not consumed & asked


@pytest.mark.parametrize("workers", [0, 2])
def test_over_a_network_the_bytes_are_asked_for_ahead_and_once(tmp_path: Path, workers: int) -> None:
    make_dataset(tmp_path, numbered([64, 64, 64], images=False))
    wanted = names(list(islice(opened(open_dataset(tmp_path)), 30)))
    with serve_folder(tmp_path) as server:
        loader = opened(open_dataset(server.url), num_workers=workers)
        assert names(list(islice(loader, 30))) == wanted
        asked = [(request.path, request.offset) for request in server.requests if request.path.startswith("shards/")]
    assert len(asked) == len(set(asked)) <= 192 // 4


def test_packs_of_a_mixture_half_of_which_is_remote_are_the_local_ones(mixture: Mixture) -> None:
    wanted = names(list(islice(open_loader(mixture, pack=PACK, cost=cost), 30)))
    with serve_folder(Path(mixture.datasets[1].url)) as server:
        mixed = Mixture([mixture.datasets[0], open_dataset(server.url)], mixture.weights)
        assert names(list(islice(open_loader(mixed, pack=PACK, cost=cost), 30))) == wanted
        asked = [(request.path, request.offset) for request in server.requests if request.path.startswith("shards/")]
    assert 0 < len(asked) == len(set(asked)) <= 110 // 4 + 2


def test_pack_and_cost_go_together_and_a_tail_does_not(dataset: Dataset) -> None:
    with pytest.raises(SpecError, match="give both"):
        open_loader(dataset, pack=PACK)  # type: ignore[call-overload]
    with pytest.raises(SpecError, match="give both"):
        open_loader(dataset, cost=cost)
    with pytest.raises(SpecError, match="without `pack` let `decode` do all"):
        open_loader(dataset, finish=cost)
    with pytest.raises(SpecError, match="tail is 'pad' and pack is given"):
        opened(dataset, tail="pad")
    with pytest.raises(SpecError, match="wanted Pack"):
        opened(dataset, {"tokens": 5})  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="packed in 8 lanes, and there are 9 ranks"):
        opened(dataset, world_size=9)
