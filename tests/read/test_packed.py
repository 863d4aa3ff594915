"""The loader that packs: every sample of a lane once, resumed exactly under any topology, nothing left out unnamed."""

from __future__ import annotations

import pickle
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from shardkit.errors import SpecError, StateConflict
from shardkit.read.dataset import Dataset, open_dataset
from shardkit.read.loader import open_loader
from shardkit.read.mixture import Mixture
from shardkit.read.pack import Buckets, Pack, Packing
from shardkit.read.packed import PackedLoader
from tests.read.made import make_dataset, numbered
from tests.read.packs import BUCKETS, PACK, SIZES, cost, names, opened, saved, shared_dataset, shared_mixture


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return shared_dataset(tmp_path_factory.mktemp("packed"))


def by_lane(packs: list[Any]) -> dict[int, list[list[str]]]:
    lanes: dict[int, list[list[str]]] = {}
    for pack in packs:
        lanes.setdefault(pack.lane, []).append([item.key for item in pack])
    return lanes


def test_lanes_take_every_sample_of_every_epoch_once(dataset: Dataset) -> None:
    """What the packs hold and what is carried is exactly the first part of the plain order, epoch after epoch."""
    plain = open_loader(dataset, tail="split")
    line = [batch[0].key for _ in range(3) for batch in plain]
    packs = [pack for batch in islice(opened(dataset), 100) for pack in batch]
    for lane in range(8):
        mine = line[lane::8]
        given = [key for keys in by_lane(packs)[lane] for key in keys]
        assert len(given) > len(mine) / 3
        left = list(mine)
        for key in given:
            left.remove(key)
        reached = len(given) + PACK.candidates
        assert left[PACK.candidates :] == mine[reached:], "a lane reads ahead of its packs by its pool alone"


def test_packs_keep_the_budget_and_say_what_they_cost(dataset: Dataset) -> None:
    for batch in islice(opened(dataset, batch_size=2), 30):
        for pack in batch:
            costs = [cost(item) for item in pack]
            assert pack.lengths == tuple(each.tokens for each in costs)
            assert pack.cost.tokens == sum(pack.lengths) <= 600
            assert pack.cost.images == sum(each.images for each in costs) <= 3


@pytest.mark.parametrize("pack", [PACK, BUCKETS, Buckets(samples=4, candidates=8)], ids=["pack", "tokens", "samples"])
def test_resume_after_every_batch_gives_the_rest(dataset: Dataset, pack: Packing) -> None:
    batches = list(islice(opened(dataset, pack, batch_size=2, seed=1, window=9), 40))
    for at in range(39):
        loader = opened(dataset, pack, batch_size=2, num_workers=at % 3)
        loader.load_state_dict(saved(batches[at].state))
        rest = list(islice(loader, min(39 - at, 8)))
        assert names(rest) == names(batches[at + 1 : at + 9])
        assert [batch.state for batch in rest] == [batch.state for batch in batches[at + 1 : at + 9]]


def test_threads_memory_and_codec_change_nothing(dataset: Dataset, tmp_path: Path) -> None:
    wanted = list(islice(opened(dataset, batch_size=3), 30))
    make_dataset(tmp_path, numbered(SIZES), codec="tar.zst", omitted={1: [0, 5, 19]})
    assert names(list(islice(opened(open_dataset(tmp_path), batch_size=3), 30))) == names(wanted)
    for workers in (0, 1, 4):
        for carried in (0, 2000, 1 << 30):
            pack = Pack(tokens=600, images=3, candidates=6, lanes=8, carried_bytes=carried)
            found = list(islice(opened(dataset, pack, batch_size=3, num_workers=workers), 30))
            assert names(found) == names(wanted)
            assert [batch.state for batch in found] == [batch.state for batch in wanted]


def test_the_order_over_all_ranks_is_the_same_for_any_number_of_them(dataset: Dataset) -> None:
    wanted = names(list(islice(opened(dataset, batch_size=8), 6)))
    for world, batch in ((2, 4), (4, 2), (8, 1), (4, 1), (2, 1)):
        ranks = [iter(opened(dataset, world_size=world, rank=rank, batch_size=batch)) for rank in range(world)]
        steps = [[next(rank) for rank in ranks] for _ in range(48 // world // batch)]
        found = [[names([part])[at] for part in step] for step in steps for at in range(batch)]
        assert [pack for row in found for pack in row] == wanted


@pytest.mark.parametrize("pack", [PACK, BUCKETS], ids=["pack", "buckets"])
def test_ranks_and_batches_may_change_at_any_step_and_every_lane_goes_on(dataset: Dataset, pack: Packing) -> None:
    whole = by_lane([each for batch in islice(opened(dataset, pack, seed=2), 400) for each in batch])
    choose = random.Random(4)
    for _ in range(12):
        states: list[dict[str, Any]] = []
        found: list[Any] = []
        for _ in range(4):
            world, batch = choose.choice([1, 2, 3, 5, 8]), choose.randrange(1, 4)
            loaders = [
                opened(dataset, pack, seed=2, rank=rank, world_size=world, batch_size=batch) for rank in range(world)
            ]
            for loader in loaders:
                if states:
                    loader.load_state_dict(states)
            steps = choose.randrange(1, 4)
            parts = [list(islice(loader, steps)) for loader in loaders]
            assert [len(part) for part in parts] == [steps] * world
            found += [each for part in parts for one in part for each in one]
            states = [saved(loader.state_dict()) for loader in loaders]
        for lane, packs in by_lane(found).items():
            assert packs == whole[lane][: len(packs)]
        given = {lane[0]: lane[1] for state in states for lane in state["lanes"]}
        assert given == {lane: len(by_lane(found).get(lane, [])) for lane in range(8)}


def test_a_rank_goes_on_with_its_own_state_where_the_ranks_are_as_many(dataset: Dataset) -> None:
    for rank in range(3):
        batches = list(islice(opened(dataset, world_size=3, rank=rank, batch_size=2), 12))
        loader = opened(dataset, world_size=3, rank=rank, batch_size=2)
        loader.load_state_dict(saved(batches[4].state))
        assert names(list(islice(loader, 7))) == names(batches[5:])


def test_fewest_packs_given_come_first_after_a_change(dataset: Dataset) -> None:
    loaders = [opened(dataset, world_size=3, rank=rank) for rank in range(3)]  # lanes 0,3,6 / 1,4,7 / 2,5
    for loader in loaders:
        list(islice(loader, 7))
    states = [loader.state_dict() for loader in loaders]
    for rank, dealt in ((0, {3, 6, 0, 5}), (1, {4, 7, 1, 2})):  # fewest given first: 3, 4, 6, 7, 0, 1, 5, 2
        half = opened(dataset, world_size=2, rank=rank)
        half.load_state_dict(states)
        assert {lane[0] for lane in half.state_dict()["lanes"]} == dealt
    alone = opened(dataset)
    alone.load_state_dict(states)
    given = {lane[0]: lane[1] for lane in alone.state_dict()["lanes"]}
    assert given == {0: 3, 3: 2, 6: 2, 1: 3, 4: 2, 7: 2, 2: 4, 5: 3}
    assert [pack.lane for batch in islice(alone, 6) for pack in batch] == [3, 4, 6, 7, 0, 1]


def test_states_that_lack_lanes_or_contradict_are_refused(dataset: Dataset) -> None:
    loaders = [opened(dataset, world_size=2, rank=rank) for rank in range(2)]
    states = [saved(loader.state_dict()) for loader in loaders]
    conflicts: list[tuple[Any, PackedLoader, str]] = [
        (states[0], opened(dataset), "the states hold 4 of 8 lanes; rank 0 of 1 wants the states of all ranks"),
        (states[0], opened(dataset, world_size=2, rank=1), "the states hold 4 of 8 lanes"),
        ([], opened(dataset), "no state in the list"),
        ([states[0], states[1] | {"order": {}}], opened(dataset), "of different orders or packings"),
        (states, opened(dataset, Pack(tokens=500, images=3, candidates=6)), "tokens 600 in the state and 500 in the"),
        (states, opened(dataset, BUCKETS), "packing has candidates 6 in the state and 10 in the arguments"),
        (states, opened(dataset, Pack(tokens=600, images=3, candidates=6, lanes=4)), "lanes 8 in the state and 4"),
        (states, opened(dataset, seed=5), "seed is 0 in the state and 5"),
        ({"lanes": []}, opened(dataset), "this is no state of packing"),
        (states[0] | {"lanes": [[9, 0, 0, 0, []]]}, opened(dataset), "lane 9 is out of range"),
        (states[0] | {"lanes": [[0, 0, 0, 0, [2, 2]]]}, opened(dataset), "lane 0 is out of range"),
        ([each | {"format": 9} for each in states], opened(dataset), "format 9"),
        (
            [each | {"order": each["order"] | {"version": "0" * 64}} for each in states],
            opened(dataset),
            "of version 000",
        ),
    ]
    for state, loader, words in conflicts:
        with pytest.raises(StateConflict, match=words):
            loader.load_state_dict(state)
    fewer = opened(dataset, Pack(tokens=600, images=3, candidates=6))  # lanes come from the state
    fewer.load_state_dict(states)
    assert len(fewer.state_dict()["lanes"]) == 8


@pytest.mark.parametrize("position", [2000, 10**12])
def test_a_lane_beyond_its_epoch_is_refused(dataset: Dataset, position: int) -> None:
    loader = opened(dataset)
    state = next(iter(loader)).state
    lanes = [[*lane[:3], position, lane[4]] for lane in state["lanes"]]
    with pytest.raises(StateConflict, match="belongs to another one"):
        loader.load_state_dict({**state, "lanes": lanes})


def test_another_version_goes_on_without_the_carried_samples(dataset: Dataset) -> None:
    state = next(iter(opened(dataset))).state
    other = saved(state)
    other["order"]["version"] = "0" * 64
    loader = opened(dataset)
    loader.load_state_dict(other, other_version=True)
    lanes = loader.state_dict()["lanes"]
    assert [lane[4] for lane in lanes] == [[]] * 8
    assert [lane[:4] for lane in lanes] == [lane[:4] for lane in state["lanes"]]


def test_a_loop_that_stops_goes_on_where_it_stopped(dataset: Dataset) -> None:
    whole = names(list(islice(opened(dataset, batch_size=2), 20)))
    loader = opened(dataset, batch_size=2, num_workers=2)
    begun = []
    for batch in loader:
        begun.append(batch)
        assert loader.state_dict() == batch.state  # of what was handed out, not of what was read ahead
        if len(begun) == 5:
            break
    assert names(begun) + names(list(islice(loader, 15))) == whole


def test_batches_and_loaders_survive_pickling(dataset: Dataset) -> None:
    loader = open_loader(dataset, pack=PACK, cost=cost, batch_size=2)
    batch = next(iter(loader))
    copy = pickle.loads(pickle.dumps(batch))
    assert copy == batch and copy.state == batch.state
    assert [(pack.lengths, pack.cost, pack.lane) for pack in copy] == [
        (pack.lengths, pack.cost, pack.lane) for pack in batch
    ]
    assert names(list(islice(pickle.loads(pickle.dumps(loader)), 5))) == names(list(islice(loader, 5)))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Mixture:
    return shared_mixture([tmp_path_factory.mktemp("mixed") for _ in range(2)])


@pytest.mark.parametrize("fields", [{}, {"where": "modality~image"}], ids=["all", "view"])
def test_packs_of_a_mixture_and_through_a_filter_resume_exactly(mixture: Mixture, fields: dict[str, Any]) -> None:
    loader = open_loader(mixture, pack=PACK, cost=cost, batch_size=2, **fields)
    batches = list(islice(loader, 24))
    assert loader.source_epochs.keys() == {dataset.url for dataset in mixture.datasets}
    if fields:
        assert all(item.sample.modalities.image for batch in batches for pack in batch for item in pack)
    for at in range(0, 23, 3):
        ranks = [opened_rank(mixture, rank, fields) for rank in range(2)]
        for loader in ranks:
            loader.load_state_dict(saved(batches[at].state))
        steps = list(zip(*(islice(loader, 8) for loader in ranks), strict=True))
        rest = [names([part])[0] for step in steps for part in step]
        assert rest[: 2 * (23 - at)] == names(batches[at + 1 : at + 9])


def opened_rank(mixture: Mixture, rank: int, fields: dict[str, Any]) -> PackedLoader:
    return open_loader(mixture, pack=PACK, cost=cost, rank=rank, world_size=2, **fields)


def test_a_mixed_lane_has_its_shares_whatever_is_in_the_packs(mixture: Mixture) -> None:
    first = {item.key for item in mixture.datasets[0]}
    packs = [pack for batch in islice(open_loader(mixture, pack=PACK, cost=cost), 400) for pack in batch]
    keys = [item.key for pack in packs for item in pack]
    assert abs(sum(key in first for key in keys) / len(keys) - 0.7) < 0.02


def test_a_state_that_is_refused_changes_nothing(dataset: Dataset) -> None:
    loader = opened(dataset, batch_size=2)
    batches = list(islice(loader, 3))
    with pytest.raises(StateConflict):
        loader.load_state_dict(saved(batches[0].state) | {"lanes": []})
    assert loader.state_dict() == batches[2].state


def test_a_loop_that_still_runs_does_not_move_a_loaded_state(dataset: Dataset) -> None:
    loader = opened(dataset)
    old = iter(loader)
    state = next(old).state
    next(old)
    loader.load_state_dict(state)
    next(old)
    assert loader.state_dict() == state


def test_a_resume_goes_on_for_epochs(dataset: Dataset) -> None:
    whole = names(list(islice(opened(dataset), 500)))
    loader = opened(dataset)
    loader.load_state_dict(saved(list(islice(opened(dataset), 20))[-1].state))
    assert names(list(islice(loader, 480))) == whole[20:]


def test_torch_workers_pack_lanes_of_their_own_and_a_resume_gathers_them(dataset: Dataset) -> None:
    data = pytest.importorskip("torch.utils.data")

    class Stream(data.IterableDataset):  # type: ignore[misc, name-defined]
        def __init__(self, loader: PackedLoader) -> None:
            self.loader = loader

        def __iter__(self) -> Any:
            return iter(self.loader)

    whole = list(islice(opened(dataset, batch_size=2), 12))
    found = list(islice(data.DataLoader(Stream(opened(dataset, batch_size=2)), batch_size=None, num_workers=2), 7))
    assert names(found) == names(whole[:7])
    loader = opened(dataset, batch_size=2)
    loader.load_state_dict([batch.state for batch in found])  # of several states of a lane the furthest counts
    assert names(list(islice(loader, 5))) == names(whole[7:])
    with pytest.raises(StateConflict, match="hold 4 of 8 lanes"):
        loader.load_state_dict(found[-1].state)
    one_lane = opened(dataset, world_size=8)
    with pytest.raises(SpecError, match="has 1 lanes and 2 torch workers"):
        next(iter(data.DataLoader(Stream(one_lane), batch_size=None, num_workers=2)))
