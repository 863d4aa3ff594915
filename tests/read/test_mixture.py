"""Loaders over mixtures and through filters: every pass whole, shares at every position, exact at any resume."""

from __future__ import annotations

import json
import pickle
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardkit.errors import ShardDamaged, SpecError, StateConflict
from shardkit.read import course
from shardkit.read.dataset import Dataset, open_dataset
from shardkit.read.loader import Batch, Loader, open_loader
from shardkit.read.mix import Mix
from shardkit.read.mixture import Mixture
from shardkit.read.reader import Reader
from shardkit.read.serve import serve_folder
from shardkit.read.spec import LoaderSpec
from shardkit.store.layout import shard_path
from tests.read.made import image_sample, make_dataset, text_sample

SIZES = (90, 40, 7)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three datasets: texts in two shards with an omission; texts and images, compressed; a few images."""
    made = [tmp_path_factory.mktemp(name) for name in ("texts", "both", "images")]
    make_dataset(made[0], [[text_sample(n) for n in part] for part in (range(50), range(50, 91))], omitted={0: [3]})
    both = [text_sample(n) if n % 2 else image_sample(n) for n in range(1000, 1040)]
    make_dataset(made[1], [both[:33], both[33:]], codec="tar.zst")
    make_dataset(made[2], [[image_sample(n) for n in range(2000, 2007)]], block=2)
    return made


@pytest.fixture(scope="module")
def mixture(roots: list[Path]) -> Mixture:
    found = open_dataset(roots)
    assert isinstance(found, Mixture)
    return found


def keys(batches: list[Batch]) -> list[str]:
    return [item.key for batch in batches for item in batch]


def source_of(mixture: Mixture) -> dict[str, int]:
    return {item.key: number for number, dataset in enumerate(mixture.datasets) for item in dataset}


def test_several_urls_open_as_a_mixture(roots: list[Path], mixture: Mixture) -> None:
    assert [len(dataset) for dataset in mixture.datasets] == list(SIZES) and len(mixture) == sum(SIZES)
    weighted = open_dataset({str(root): weight for root, weight in zip(roots, (3, 2, 1), strict=True)})
    assert weighted.weights == (3, 2, 1) and weighted.version == mixture.version
    assert open_dataset(roots[::-1]).version != mixture.version
    assert mixture.url == " ".join(str(root) for root in roots)
    for wrong, message in (([], "at least one"), ([roots[0], roots[0]], "twice"), ({str(roots[0]): -1.0}, "weight -1")):
        with pytest.raises(SpecError, match=message):
            open_dataset(wrong)  # type: ignore[call-overload]
    with pytest.raises(SpecError, match="version is given for a mixture"):
        open_dataset(roots, "0" * 64)


@pytest.mark.parametrize("exhausted", ["repeat", "stop", "reweight"])
def test_shares_hold_at_every_position_and_passes_are_whole(mixture: Mixture, exhausted: Any) -> None:
    weights = (5, 3, 1)
    origin = source_of(mixture)
    loader = open_loader(mixture, mix=Mix(weights=weights, exhausted=exhausted))
    epochs = [[origin[key] for key in keys(list(loader))] for _ in range(3)]
    assert loader.source_epochs.keys() == {dataset.url for dataset in mixture.datasets}
    sources = [source for epoch in epochs for source in epoch] if exhausted == "repeat" else epochs[0]
    until = (
        len(sources) if exhausted != "reweight" else min(size * 9 // w for size, w in zip(SIZES, weights, strict=True))
    )
    taken = np.cumsum(np.array(sources)[:, None] == np.arange(3), axis=0)[:until]
    shares = np.arange(1, until + 1)[:, None] * np.array(weights) / 9
    assert np.abs(taken - shares).max() < 1
    if exhausted == "repeat":
        assert all(min(Counter(epoch).values()) >= 1 for epoch in epochs)
        assert Counter(epochs[0])[0] >= 90 and min(loader.source_epochs.values()) >= 3
    if exhausted == "stop":
        assert len(epochs[0]) == len(epochs[1]) and 7 * 9 - 9 <= len(epochs[0]) <= 8 * 9
    if exhausted == "reweight":
        assert all(Counter(epoch) == dict(enumerate(SIZES)) for epoch in epochs)
        assert set(loader.source_epochs.values()) == {3.0}


def test_every_pass_has_every_sample_once_and_its_own_order(mixture: Mixture) -> None:
    origin = source_of(mixture)
    loader = open_loader(mixture, mix=Mix(weights=(1, 1, 1)))
    found = [key for _ in range(4) for key in keys(list(loader))]
    for number, size in enumerate(SIZES):
        stream = [key for key in found if origin[key] == number]
        passes = [stream[at : at + size] for at in range(0, len(stream) - size + 1, size)]
        assert len(passes) >= 4 and all(len(set(each)) == size for each in passes)
        assert passes[0] != passes[1]


def test_datasets_of_one_shape_are_shuffled_differently(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 100)):
        make_dataset(tmp_path / name, [[text_sample(n) for n in range(first, first + 60)]], block=1)
    mixture = open_dataset([tmp_path / "a", tmp_path / "b"])
    items = [item for batch in open_loader(mixture, mix=Mix(weights=(1, 1), exhausted="reweight")) for item in batch]
    members = [{item.key for item in dataset} for dataset in mixture.datasets]  # type: ignore[union-attr]
    orders = [[item.ordinal for item in items if item.key in keys_] for keys_ in members]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(60)) and orders[0] != orders[1]


def test_aligned_lanes_change_nothing_of_what_is_promised(mixture: Mixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "ALIGNED_LEAST", 4)
    origin = source_of(mixture)
    loader = open_loader(mixture, lanes=2, window=5, mix=Mix(weights=(3, 2, 2)))
    first = keys(list(loader))
    assert set(first) == set(origin)
    for at in range(0, len(first), 13):
        again = open_loader(mixture, batch_size=5, tail="split")
        again.load_state_dict(loader.state_dict() | {"epoch": 0, "position": at, "tail": "split"})
        assert keys(list(again)) == first[at:]


MIXES: dict[str, dict[str, Any]] = {
    "by size": {},
    "weights, a window": {"mix": Mix(weights=(0.7, 0.2, 0.1)), "lanes": 4, "window": 9},
    "curriculum": {"mix": Mix(weights=(1, 0, 1), schedule=((10, (1, 1, 1)), (50, (0, 1, 0.5))))},
    "stop": {"mix": Mix(temperature=2, exhausted="stop")},
    "reweight, images": {"mix": Mix(weights=(0, 1, 1), exhausted="reweight"), "where": "modality~text,images>=0"},
    "a view": {"where": "modality=text"},
}


def opened(mixture: Mixture, name: str, **fields: Any) -> Loader:
    source: Mixture | Dataset = mixture if name != "a view" else mixture.datasets[1]
    return open_loader(source, **fields)


@pytest.mark.parametrize("name", MIXES)
def test_resume_anywhere_under_other_topologies_gives_exactly_the_rest(mixture: Mixture, name: str) -> None:
    choose = random.Random(name)
    begun = opened(mixture, name, seed=5, tail="split", **MIXES[name])
    first = begun.state_dict()
    assert json.loads(json.dumps(first)) == first
    whole = [keys(list(begun)) for _ in range(2)]
    for _ in range(12):
        epoch = choose.randrange(2)
        state = first | {"epoch": epoch, "position": choose.randrange(len(whole[epoch]))}
        world, batch, workers = choose.choice([1, 2, 3, 4]), choose.randrange(1, 6), choose.choice([0, 0, 2])
        ranks = [
            opened(mixture, name, rank=rank, world_size=world, batch_size=batch, num_workers=workers)
            for rank in range(world)
        ]
        for loader in ranks:
            loader.load_state_dict(state)
        parts = [list(loader) for loader in ranks]
        assert len({len(part) for part in parts}) == 1
        found = [item.key for step in zip(*parts, strict=True) for part in step for item in part]
        wanted = whole[epoch][state["position"] :]
        assert found == wanted[: len(found)] and len(wanted) - len(found) < world
        for step in zip(*parts, strict=True):
            assert len({json.dumps(part.state) for part in step}) == 1


def test_view_of_a_loader_is_what_the_filter_takes(mixture: Mixture) -> None:
    (texts, both, _) = mixture.datasets
    loader = open_loader(both, where="modality=text", tail="split", batch_size=3)
    found = keys(list(loader))
    assert sorted(found) == sorted(item.key for item in both if not item.sample.modalities.image)
    assert loader.state_dict()["view"]["where"] == "modality=text"
    assert keys(list(pickle.loads(pickle.dumps(loader)))) == keys(list(loader))
    with pytest.raises(SpecError, match="no samples that fit where='images>=5'"):
        open_loader(texts, where="images>=5")
    with pytest.raises(SpecError, match="no samples that fit"):
        open_loader(mixture, where="modality=text")  # nothing of the third dataset


def test_mixed_batches_survive_damage_and_pickling(roots: list[Path], tmp_path: Path) -> None:
    make_dataset(tmp_path, [[text_sample(n) for n in range(500, 520)]])
    mixture = open_dataset([roots[1], tmp_path])
    assert isinstance(mixture, Mixture)
    loader = open_loader(mixture, batch_size=6, num_workers=2)
    batches = list(loader)
    copy = pickle.loads(pickle.dumps(open_loader(mixture, batch_size=6)))
    assert list(copy) == batches
    sound = {item.key for item in mixture.datasets[1] if item.ordinal}
    path = tmp_path / shard_path(mixture.datasets[1].manifest.shards[0])
    data = bytearray(path.read_bytes())
    data[600] ^= 1  # in the first sample
    path.write_bytes(data)
    skipping = open_loader(open_dataset([roots[1], tmp_path]), batch_size=6, on_damage="skip")
    left = keys(list(skipping))
    assert (
        skipping.num_skipped >= 1 and skipping.skipped[0].shard == mixture.datasets[1].manifest.shards[0].shard.digest
    )
    assert [key for key in keys(batches) if key in left] == left and sound <= set(left)
    with pytest.raises(ShardDamaged, match="digest"):
        for _ in range(3):
            list(open_loader(open_dataset([roots[1], tmp_path]), batch_size=6))


def test_a_mixture_of_servers_and_folders_reads_as_one_of_folders(roots: list[Path]) -> None:
    fields: dict[str, Any] = {"batch_size": 5, "tail": "split", "mix": Mix(weights=(2, 2, 1))}
    local = list(open_loader(open_dataset(roots), **fields))
    with serve_folder(roots[1]) as server:
        mixture = open_dataset([roots[0], server.url, roots[2]])
        server.requests.clear()
        for workers, budget in ((0, 1 << 28), (2, 1 << 28), (0, 20_000)):
            found = list(open_loader(mixture, num_workers=workers, read_ahead_bytes=budget, **fields))
            assert [list(batch) for batch in found] == [list(batch) for batch in local]
        assert any(request.path.startswith("shards/") for request in server.requests)


def saved(source: Any, **fields: Any) -> dict[str, Any]:
    return open_loader(source, **fields).state_dict()


def test_arguments_that_contradict_the_state_are_refused(mixture: Mixture) -> None:
    one = mixture.datasets[1]
    cases: list[tuple[Any, dict[str, Any], dict[str, Any], str]] = [
        (mixture, {"mix": Mix(weights=(1, 1, 1))}, {"mix": Mix(weights=(1, 2, 1))}, "^mix is"),
        (mixture, {}, {"mix": Mix(exhausted="stop")}, "^mix is"),
        (one, {"where": "modality=text"}, {"where": "modality~image"}, "^where is 'modality=text' in the state"),
        (one, {}, {"where": "modality~image"}, "^where is None in the state"),
    ]
    for source, before, after, message in cases:
        loader = open_loader(source, **after)
        with pytest.raises(StateConflict, match=message):
            loader.load_state_dict(saved(source, **before))
    with pytest.raises(StateConflict, match="of a mixture, and one dataset is open"):
        open_loader(one).load_state_dict(saved(mixture) | {"version": one.version})
    with pytest.raises(StateConflict, match="of one dataset, and a mixture is open"):
        open_loader(mixture).load_state_dict(saved(one) | {"version": mixture.version})
    pair = Mixture(mixture.datasets[:2])
    with pytest.raises(StateConflict, match="mixes 3 datasets, 2 are open"):
        open_loader(pair).load_state_dict(saved(mixture) | {"version": pair.version})
    with pytest.raises(SpecError, match="there is one dataset"):
        open_loader(one, mix=Mix())
    with pytest.raises(SpecError, match="2 weights for 3 datasets"):
        open_loader(mixture, mix=Mix(weights=(1, 2)))


def test_arguments_that_agree_or_are_left_out_are_taken(mixture: Mixture, roots: list[Path]) -> None:
    mix = Mix(weights=(2, 1, 1), schedule=((3, (1, 1, 1)),))
    state = saved(mixture, mix=mix, batch_size=4)
    for fields in ({}, {"mix": mix}, {"mix": mix, "batch_size": 7}):
        loader = open_loader(mixture, **fields)
        loader.load_state_dict(state)
        assert loader.state_dict() == state
    one = mixture.datasets[1]
    state = saved(one, where="modality=text , images<1")
    for fields in ({}, {"where": "images<1,modality=text"}):
        loader = open_loader(one, **fields)
        loader.load_state_dict(state)
        assert loader.state_dict() == state
    open_loader(one, where="modality=text").load_state_dict(
        state
    )  # another filter that takes the same is the same view
    back = open_loader(one)
    back.load_state_dict(state)
    back.load_state_dict(saved(one))
    assert len(keys(list(back))) == len(one)


@pytest.mark.parametrize(
    "change",
    [
        {"mix": {"exhausted": "repeat", "segments": []}},
        {"mix": {"exhausted": "repeat", "segments": [{"position": 1, "counts": [1, 1, 1]}]}},
        {"mix": {"exhausted": "repeat", "segments": [{"position": 0, "counts": [0, 0, 0]}]}},
        {"mix": {"exhausted": "repeat", "segments": [{"position": 0, "counts": [-1, 1, 1]}]}},
        {"mix": {"exhausted": "repeat", "segments": [{"position": 0, "counts": [1 << 40, 1, 1]}]}},
        {"mix": {"exhausted": "x", "segments": [{"position": 0, "counts": [1, 1, 1]}]}},
        {"mix": None},
        {"mix": {}},
        {"view": {"where": "images", "digest": ""}},
        {"view": {"where": "images>=0", "digest": "00"}},
        {"epoch": (1 << 62)},
    ],
    ids=str,
)
def test_what_is_no_state_of_a_mixture_is_refused(mixture: Mixture, change: dict[str, Any]) -> None:
    with pytest.raises((StateConflict, SpecError)):
        open_loader(mixture).load_state_dict(saved(mixture) | change)


def test_a_mixture_reads_from_blocks_or_single_samples_alike(mixture: Mixture) -> None:
    orders = {tuple(keys(list(open_loader(mixture, batch_size=4, read_ahead_bytes=budget)))) for budget in (0, 1 << 30)}
    assert len(orders) == 1


def test_places_can_be_cut_and_read_one_by_one(mixture: Mixture) -> None:
    reader = Reader(mixture, LoaderSpec())
    stream = reader.stream(reader.first_state())
    places = stream.places(0, np.arange(60))
    items = stream.read_many(places)
    assert [stream.read(place) for place in places] == items
    assert [item for at in range(0, 60, 7) for item in stream.read_many(places[at : at + 7])] == items
    assert stream.read_many(places[10:50][5:9]) == items[15:19]


def test_a_mixture_opened_with_weights_goes_on_from_a_state_with_a_schedule(roots: list[Path]) -> None:
    """The weights of the mapping are those that reading began with; others, or another order of them, are refused."""
    weighted = open_dataset({str(root): weight for root, weight in zip(roots, (3, 2, 1), strict=True)})
    mix = Mix(schedule=((4, (1, 1, 1)),), exhausted="stop")
    batches = list(open_loader(weighted, batch_size=4, mix=mix))
    again = open_loader(weighted, batch_size=4)
    again.load_state_dict(json.loads(json.dumps(batches[1].state)))
    assert list(again) == batches[2:]
    other = open_dataset({str(root): weight for root, weight in zip(roots, (1, 2, 3), strict=True)})
    with pytest.raises(StateConflict, match="mix is"):
        open_loader(other, batch_size=4).load_state_dict(batches[1].state)


@pytest.mark.parametrize("counts", [(327, 1_665_320, 1), (2, 1, 1)])
def test_a_state_whose_word_is_too_long_or_fits_no_lanes_is_refused(mixture: Mixture, counts: tuple[int, ...]) -> None:
    """Found by fuzzing: words of millions of slots took the memory of many. Four slots do not go with 1,024 lanes."""
    state = saved(mixture)
    state["mix"] = {"exhausted": "repeat", "segments": [{"position": 0, "counts": list(counts)}]}
    with pytest.raises(StateConflict, match="out of range"):
        open_loader(mixture).load_state_dict(state)
