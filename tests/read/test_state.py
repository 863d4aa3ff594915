"""States: small, JSON, refused where they contradict the dataset or the arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shardkit.errors import StateConflict
from shardkit.read.dataset import Dataset, open_dataset
from shardkit.read.loader import open_loader
from shardkit.read.pack import Cost, Pack
from shardkit.read.state import Extent, default_window, lanes_used
from tests.read.made import make_dataset, numbered


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("state")
    make_dataset(root, numbered([30, 20], images=False))
    return open_dataset(root)


def saved(dataset: Dataset, **fields: Any) -> dict[str, Any]:
    loader = open_loader(dataset, batch_size=4, **fields)
    next(iter(loader))
    return loader.state_dict()


def test_state_is_json_and_says_nothing_of_topology(dataset: Dataset) -> None:
    state = saved(dataset, seed=3, world_size=2, num_workers=1)
    assert json.loads(json.dumps(state)) == state
    assert set(state) == {
        "format", "version", "seed", "epoch", "position", "lanes", "window", "tail", "view", "mix",
    }  # fmt: skip
    assert (state["epoch"], state["position"], state["seed"]) == (0, 8, 3)


@pytest.mark.parametrize(
    ("name", "value"), [("seed", 4), ("seed", 0), ("lanes", 7), ("window", 2), ("tail", "pad")], ids=str
)
def test_argument_that_contradicts_the_state_is_refused(dataset: Dataset, name: str, value: Any) -> None:
    state = saved(dataset, seed=3)
    loader = open_loader(dataset, batch_size=4, **{name: value})
    with pytest.raises(StateConflict, match=f"^{name} is .* in the state and {value!r} in the arguments"):
        loader.load_state_dict(state)


def test_argument_that_agrees_or_is_left_out_is_taken(dataset: Dataset) -> None:
    state = saved(dataset, seed=3, lanes=2, window=5, tail="pad")
    for fields in ({}, {"seed": 3, "lanes": 2, "window": 5, "tail": "pad"}):
        loader = open_loader(dataset, batch_size=4, **fields)
        loader.load_state_dict(state)
        assert loader.state_dict() == state


def test_another_version_is_refused_unless_asked_for(dataset: Dataset, tmp_path: Path) -> None:
    make_dataset(tmp_path, numbered([9, 9], images=False))
    other = open_dataset(tmp_path)
    loader = open_loader(other, batch_size=4)
    with pytest.raises(StateConflict, match=r"version=.*other_version=True"):
        loader.load_state_dict(saved(dataset))
    loader.load_state_dict(saved(dataset), other_version=True)
    assert loader.state_dict()["version"] == other.version
    assert len(list(loader)) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"position": 51}, {"position": -1}, {"format": 2}, {"format": "1"}, {"epoch": -1}, {"window": 0},
        {"lanes": 0}, {"tail": "x"}, {"mix": {}}, {"extra": 1}, {"seed": 1.5},
        {"view": "3f"}, {"epoch": 2**64 - 1}, {"epoch": 2**70}, {"seed": 2**64}, {"window": 2**31}, {"lanes": 2**21},
        {"position": None}, {"version": 5},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_state_of_ours_is_refused(dataset: Dataset, change: dict[str, Any]) -> None:
    loader = open_loader(dataset, batch_size=4)
    with pytest.raises(StateConflict):
        loader.load_state_dict(saved(dataset) | change)
    with pytest.raises(StateConflict):
        loader.load_state_dict({})


@pytest.mark.parametrize("state", [None, 3, "{}", [{}]], ids=str)
def test_what_is_no_mapping_is_called_by_its_type(dataset: Dataset, state: Any) -> None:
    packed = open_loader(dataset, pack=Pack(tokens=10), cost=lambda item: Cost(tokens=1))
    with pytest.raises(StateConflict, match=f"the state is a {type(state).__name__}"):
        open_loader(dataset).load_state_dict(state)
    wanted = "required field" if isinstance(state, list) else f"the state is a {type(state).__name__}"
    with pytest.raises(StateConflict, match=wanted):
        packed.load_state_dict(state)


def test_state_with_a_field_missing_is_refused(dataset: Dataset) -> None:
    state = saved(dataset)
    for name in state:
        loader = open_loader(dataset, batch_size=4)
        with pytest.raises(StateConflict, match=name):
            loader.load_state_dict({key: value for key, value in state.items() if key != name})


def test_default_window_fills_the_pool_and_small_datasets_use_fewer_lanes() -> None:
    large = Extent(samples=10_000_000, block=16, tar_bytes=10_000_000 * 51_200, stored=10_000_000)
    assert default_window(1024, large) == 64 and default_window(128, large) == (512 << 20) // (128 * 51_200)
    assert default_window(1024, large, large) == 64  # of each dataset of a mixture
    tiny = Extent(samples=100, block=16, tar_bytes=100 * 1000, stored=100)
    assert lanes_used(1024, 100, 16) == 2 and default_window(1024, tiny) == 50
    assert lanes_used(64, 2048, 16) == 64 and lanes_used(65, 2048, 16) == 64 and lanes_used(64, 1, 16) == 1
